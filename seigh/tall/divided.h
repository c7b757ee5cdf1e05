// An operator's work shared out among all ranks. All ranks call apply() with the same block, and
// all get the whole product.
#pragma once

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// Each rank multiplies some of the columns; the products are exchanged, D b numbers. Every rank needs an
/// operator of its own, the same one. With one rank it is the operator itself.
class DividedColumns final : public LinearOperator {
 public:
  /// `whole` must outlive it. Its product_error() is the root's, as it is now. All ranks must call this.
  DividedColumns(LinearOperator& whole, Context context);
  int64_t preferred_block() const override;
  double product_error() const override { return product_error_; }
  /// None where there are more ranks than one: theirs may differ by rounding.
  at::Tensor known_products(uint64_t seed) const override;
  bool collective() const override { return true; }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;

 private:
  LinearOperator& whole_;
  Context context_;
  double product_error_;
};

/// A = sum over ranks of weight * part, as a mean over samples of which each rank has its own; the products
/// are summed, D b numbers.
class DividedSamples final : public LinearOperator {
 public:
  /// `part` must outlive it; its weight is its share of all samples. product_error() is the weighted sum of
  /// theirs, as they are now. All ranks must call this.
  DividedSamples(LinearOperator& part, double weight, Context context);
  int64_t preferred_block() const override;
  double product_error() const override { return product_error_; }
  bool collective() const override { return true; }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;

 private:
  LinearOperator& part_;
  double weight_;
  Context context_;
  double product_error_;
};

}  // namespace seigh
