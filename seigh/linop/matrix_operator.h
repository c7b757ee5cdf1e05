// An explicit symmetric or Hermitian matrix as an operator: the check of every solver on something anyone can
// verify.
#pragma once

#include "seigh/linop/linear_operator.h"

namespace seigh {

/// A dense symmetric or Hermitian matrix [D, D]. Cost of a product: 2 D^2 flops, D^2 numbers of
/// memory.
class MatrixOperator final : public LinearOperator {
 public:
  /// Throws Error unless `matrix` is square, finite and equal to its (conjugate) transpose to
  /// rounding: |A - A^T| <= 100 eps max|A| entrywise.
  explicit MatrixOperator(at::Tensor matrix, std::string name = "matrix");
  const at::Tensor& matrix() const { return matrix_; }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;

 private:
  at::Tensor matrix_;
};

/// A diagonal matrix, diag [D]: any spectrum at the cost of D flops a product.
class DiagonalOperator final : public LinearOperator {
 public:
  explicit DiagonalOperator(at::Tensor diagonal, std::string name = "diagonal");

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;

 private:
  at::Tensor diagonal_;
};

}  // namespace seigh
