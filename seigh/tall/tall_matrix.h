// A tall matrix [D, k] that gives out rows and need not be in memory, and the algebra that takes one pass
// over it. Of complex matrices X^T is the conjugate transpose; wide() is that of core/dtype.h, of X's dtype.
// Tall results lie at X's home(); small matrices, given or got, are on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "seigh/core/context.h"

namespace seigh {

class TallMatrix {
 public:
  /// `context`: of the passes over it.
  explicit TallMatrix(Context context) : context_(std::move(context)) {}
  virtual ~TallMatrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t columns() const = 0;
  virtual at::ScalarType dtype() const = 0;  ///< as in core/dtype.h
  /// Rows [begin, begin + n): [n, k] in dtype(), any strides; successive ranges make one pass.
  virtual at::Tensor row_range(int64_t begin, int64_t n) const = 0;
  /// Rows `index` (int64 [n], any order, repeats allowed): [n, k] in dtype().
  virtual at::Tensor select_rows(const at::Tensor& index) const = 0;
  /// Where the rows that it gives out lie, and where it lies itself.
  virtual c10::Device device() const { return at::kCPU; }
  virtual c10::Device home() const { return device(); }
  /// Rows worth asking for at a time.
  virtual int64_t panel_rows() const = 0;
  /// Whether the ranks of context() share its rows out. Then all of them must call select_rows() and the
  /// functions below together, and each works on its share(); the results are the same on all.
  virtual bool divided() const { return false; }
  /// The rows this process works on: all, unless the matrix is divided.
  Share share() const;
  const Context& context() const { return context_; }

 private:
  Context context_;
};

/// A block in memory, the host's or a device's, shared, not copied.
class MemoryTallMatrix final : public TallMatrix {
 public:
  explicit MemoryTallMatrix(at::Tensor block, Context context = Context());
  int64_t rows() const override { return block_.size(0); }
  int64_t columns() const override { return block_.size(1); }
  at::ScalarType dtype() const override { return block_.scalar_type(); }
  at::Tensor row_range(int64_t begin, int64_t n) const override { return block_.slice(0, begin, begin + n); }
  at::Tensor select_rows(const at::Tensor& index) const override;
  c10::Device device() const override { return block_.device(); }
  int64_t panel_rows() const override;
  const at::Tensor& block() const { return block_; }

 private:
  at::Tensor block_;
};

/// The rows of several matrices one below the other, all seen from one device.
class StackedMatrix final : public TallMatrix {
 public:
  /// One or more, of as many columns and one dtype.
  explicit StackedMatrix(std::vector<std::shared_ptr<const TallMatrix>> parts);
  int64_t rows() const override { return begins_.back(); }
  int64_t columns() const override { return parts_[0]->columns(); }
  at::ScalarType dtype() const override { return parts_[0]->dtype(); }
  at::Tensor row_range(int64_t begin, int64_t n) const override;
  at::Tensor select_rows(const at::Tensor& index) const override;
  c10::Device device() const override { return parts_[0]->device(); }
  int64_t panel_rows() const override;
  const std::vector<std::shared_ptr<const TallMatrix>>& parts() const { return parts_; }
  int64_t begin(size_t part) const { return begins_[part]; }

 private:
  std::vector<std::shared_ptr<const TallMatrix>> parts_;
  std::vector<int64_t> begins_;  // of each part, and the end
};

/// A matrix of which each rank has its own rows, in its memory or in its files.
class DividedTallMatrix final : public TallMatrix {
 public:
  /// `mine`: rows context.ranks().share(rows).
  DividedTallMatrix(int64_t rows, std::shared_ptr<const TallMatrix> mine, Context context);
  /// `mine`: a block, shared, not copied.
  DividedTallMatrix(int64_t rows, at::Tensor mine, Context context);
  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return mine_->columns(); }
  at::ScalarType dtype() const override { return mine_->dtype(); }
  /// Only within share().
  at::Tensor row_range(int64_t begin, int64_t n) const override;
  at::Tensor select_rows(const at::Tensor& index) const override;
  c10::Device device() const override { return mine_->device(); }
  int64_t panel_rows() const override { return mine_->panel_rows(); }
  bool divided() const override { return true; }
  const std::shared_ptr<const TallMatrix>& mine() const { return mine_; }

 private:
  int64_t rows_;
  std::shared_ptr<const TallMatrix> mine_;
};

/// Uninitialised blocks of `columns` columns for each rank's share of the rows, of the dtype of `like` and
/// where it lies.
std::vector<at::Tensor> shares_of_rows(int64_t rows, int64_t columns, const at::Tensor& like,
                                       const Ranks& ranks);
/// The block [rows, b] of which each rank's share of the rows is one of `parts`.
at::Tensor rows_of(const std::vector<at::Tensor>& parts, int64_t rows, const Ranks& ranks);
/// The rows of a block [D, b] on every rank, from each rank's share of them; where `mine` lies.
at::Tensor gather_rows(int64_t rows, const at::Tensor& mine, Ranks& ranks);

/// Bytes of the float64 or complex128 copy of a panel, at most: small beside the block, large enough for full
/// speed and, on a device, to be worth a launch.
int64_t panel_bytes(c10::Device device);
/// X^T X [k, k], wide(): D k^2 flops, half of the symmetric result is computed.
at::Tensor gram(const TallMatrix& x);
/// (X M)^T (X M) [b, b], wide(), without forming X M, M [k, b]: D b (2 k + b) flops.
at::Tensor gram_of_product(const TallMatrix& x, const at::Tensor& m);
/// X^T Y [k, b], wide(), for a block Y [D, b], wherever it lies.
at::Tensor transposed_product(const TallMatrix& x, const at::Tensor& y);
/// P M for a panel P [n, k] of columns, M [k, b], of one dtype: a block, with contiguous columns.
at::Tensor panel_times(const at::Tensor& panel, const at::Tensor& m);
/// X M for M [k, b] of wide(): block [D, b] of X's dtype, computed in wide().
at::Tensor times_small(const TallMatrix& x, const at::Tensor& m);

}  // namespace seigh
