// An operator's work shared out among all ranks. All ranks call apply() with the same block, and all get the
// whole product; or apply_rows() with their rows of one, and get their rows of it.
#pragma once

#include <memory>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

class DividedOperator : public LinearOperator {
 public:
  /// Rows context.ranks().share(size()) of A V, from the same rows of V, where they lie.
  at::Tensor apply_rows(const at::Tensor& rows);
  c10::Device device() const override { return mine_.device(); }
  bool collective() const override { return true; }
  /// Where any rank's products are rounded, of all ranks.
  LinearOperator& in_full_precision() override { return full_ ? *full_ : *this; }

 protected:
  /// `mine`, which each rank has one of, must outlive it.
  DividedOperator(LinearOperator& mine, Context context);
  virtual at::Tensor apply_rows_impl(const at::Tensor& rows) = 0;
  LinearOperator& mine() const { return mine_; }
  const Context& context() const { return context_; }
  /// Whether mine() rounds on any rank; all must ask.
  bool any_rounds() const;
  void set_full_precision(std::unique_ptr<DividedOperator> full) { full_ = std::move(full); }

 private:
  LinearOperator& mine_;
  Context context_;
  std::unique_ptr<DividedOperator> full_;
};

/// Each rank multiplies some of the columns; the products are exchanged: D b numbers to every rank, or where
/// ranks have rows of the block 2 D b / n. Every rank needs an operator of its own, the same one. With one
/// rank it is the operator itself.
class DividedColumns final : public DividedOperator {
 public:
  /// `whole` must outlive it. Its product_error() is the root's, as it is now. All ranks must call this.
  DividedColumns(LinearOperator& whole, Context context);
  int64_t preferred_block() const override;
  double product_error() const override { return product_error_; }
  /// None where there are more ranks than one: theirs may differ by rounding.
  at::Tensor known_products(uint64_t seed) const override;

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;
  at::Tensor apply_rows_impl(const at::Tensor& rows) override;

 private:
  at::Tensor product_of(const at::Tensor& block, int64_t columns);
  double product_error_;
};

/// A = sum over ranks of weight * part, as a mean over samples of which each rank has its own; the products
/// are summed: D b numbers to every rank, also where they have rows of the block.
class DividedSamples final : public DividedOperator {
 public:
  /// `part` must outlive it; its weight is its share of all samples. product_error() is the weighted sum of
  /// theirs, as they are now. All ranks must call this.
  DividedSamples(LinearOperator& part, double weight, Context context);
  int64_t preferred_block() const override;
  double product_error() const override { return product_error_; }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;
  at::Tensor apply_rows_impl(const at::Tensor& rows) override;

 private:
  double weight_;
  double product_error_;
};

/// Throws Error, on all ranks, unless theirs are the same matrix, as far as rows, dtype and a product tell.
/// One product; all ranks must call this.
void require_same(LinearOperator& op, const Context& context);

/// Rows of A V of any operator: of one that ranks do not share out, each rank multiplies the whole block.
at::Tensor apply_rows(LinearOperator& op, const at::Tensor& rows, const Context& context);

}  // namespace seigh
