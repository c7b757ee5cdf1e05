// The eigenvectors as the overlap study sees them: a tall matrix that gives out rows and need never be whole.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "seigh/core/context.h"

namespace seigh {

/// K orthonormal eigenvectors in R^D, the columns of U [D, K], leading one first; so the first k columns are
/// the k-dimensional eigenspace. One row belongs to one parameter. Tensors given out are float32 or float64,
/// any strides.
class Eigenspace {
 public:
  virtual ~Eigenspace() = default;
  virtual int64_t dimension() const = 0;
  virtual int64_t count() const = 0;
  /// U[index, :], [n, K]; index int64 [n], CPU, in any order, repeats allowed.
  virtual at::Tensor rows(const at::Tensor& index) const = 0;
  /// U[begin : begin + n, :], [n, K]. Called for successive ranges: one pass over whatever U is made of.
  virtual at::Tensor row_range(int64_t begin, int64_t n) const = 0;
  /// Whether the ranks share the rows out: then row_range() is for ranks().share(dimension()) alone, and all
  /// ranks call rows() together.
  virtual bool divided() const { return false; }
  /// Where the rows that it gives out lie.
  virtual c10::Device device() const { return at::kCPU; }
};

/// row_range(), wherever that lies. Error if it gives another shape or dtype than it promises.
at::Tensor checked_rows(const Eigenspace& space, int64_t begin, int64_t n);

/// One pass over this rank's rows of U, at most `piece` at a time: take(rows [n, K], begin) with rows on the
/// CPU, columns contiguous. Errors of checked_rows(). Throws Cancelled. Progress: `task` in rows.
void for_rows(const Eigenspace& space, int64_t piece, const std::string& task, const Context& context,
              const std::function<void(const at::Tensor& rows, int64_t begin)>& take);

/// An Eigenspace over a matrix in memory.
class DenseEigenspace : public Eigenspace {
 public:
  /// vectors: [D, K], 1 <= K <= D, float32 or float64, any device; shared, not copied. Error otherwise.
  explicit DenseEigenspace(at::Tensor vectors);
  int64_t dimension() const override { return vectors_.size(0); }
  int64_t count() const override { return vectors_.size(1); }
  at::Tensor rows(const at::Tensor& index) const override;
  at::Tensor row_range(int64_t begin, int64_t n) const override;
  c10::Device device() const override { return vectors_.device(); }

 private:
  at::Tensor vectors_;
};

/// A copy of U on the context's device, which gives out rows that lie there; null where that is the CPU, or
/// has no room for it, and of what lies on a device already. One pass over U.
std::unique_ptr<const Eigenspace> copy_on_device(const Eigenspace& space, const Context& context);

}  // namespace seigh
