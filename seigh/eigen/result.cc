#include "seigh/eigen/result.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>

#include <utility>

#include "seigh/linop/linear_operator.h"
#include "seigh/linop/panels.h"

namespace seigh {

Eigenvectors::Eigenvectors(at::Tensor basis, at::Tensor coefficients)
    : basis_(std::move(basis)), coefficients_(std::move(coefficients)) {}

at::Tensor Eigenvectors::rows(const at::Tensor& index) const {
  const at::Tensor picked = basis_.index_select(0, index).to(at::kDouble);
  return coefficients_.defined() ? at::matmul(picked, coefficients_) : picked;
}

at::Tensor Eigenvectors::row_range(int64_t begin, int64_t n) const {
  const at::Tensor picked = basis_.slice(0, begin, begin + n).to(at::kDouble);
  return coefficients_.defined() ? at::matmul(picked, coefficients_) : picked;
}

at::Tensor Eigenvectors::columns(int64_t begin, int64_t count) const {
  if (!coefficients_.defined()) return basis_.slice(1, begin, begin + count);
  return times_small(basis_, coefficients_.slice(1, begin, begin + count));
}

at::Tensor Eigenvectors::transposed_times(const at::Tensor& x) const {
  const at::Tensor product = transposed_product(basis_, x);
  return coefficients_.defined() ? at::matmul(coefficients_.t(), product) : product;
}

at::Tensor Eigenvectors::times(const at::Tensor& x) const {
  return times_small(basis_, coefficients_.defined() ? at::matmul(coefficients_, x) : x);
}

at::Tensor EigenResult::certified() const {
  if (method == "dense") return at::ones({eigenvalues.numel()}, at::kBool);
  return error ? error->residual_bounds().lt(eigenvalues.abs()) : at::Tensor();
}

}  // namespace seigh
