#include "seigh/linop/matrix_operator.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>

#include <utility>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"

namespace seigh {
namespace {

at::Tensor checked(at::Tensor a, const std::string& name) {
  require(a.dim() == 2 && a.size(0) == a.size(1), name, ": a square matrix is needed, got shape ", a.sizes());
  require(a.size(0) > 0, name, ": the matrix is empty");
  require(a.isfinite().all().item<bool>(), name, ": the matrix holds NaN or infinity");
  const double scale = a.abs().max().item<double>();
  const double asymmetry = (a - a.mH()).abs().max().item<double>();
  const char* const transpose = a.is_complex() ? "A^H" : "A^T";
  require(asymmetry <= 100 * epsilon(a.scalar_type()) * scale, name, ": the matrix is not ",
          a.is_complex() ? "Hermitian" : "symmetric", ": max |A - ", transpose, "| = ", asymmetry,
          " while max |A| = ", scale, "; symmetrise it first, (A + ", transpose, ") / 2");
  return a;
}

}  // namespace

MatrixOperator::MatrixOperator(at::Tensor matrix, std::string name)
    : LinearOperator(matrix.dim() == 2 ? matrix.size(0) : 1, matrix.scalar_type(), name),
      matrix_(checked(std::move(matrix), name)) {}

at::Tensor MatrixOperator::apply_impl(const at::Tensor& block) {
  return at::matmul(matrix_, block);
}

DiagonalOperator::DiagonalOperator(at::Tensor diagonal, std::string name)
    : LinearOperator(diagonal.numel(), diagonal.scalar_type(), std::move(name)),
      diagonal_(diagonal.reshape({-1, 1})) {
  require(!diagonal.is_complex(), this->name(), ": the diagonal must be real");
}

at::Tensor DiagonalOperator::apply_impl(const at::Tensor& block) {
  return diagonal_ * block;
}

}  // namespace seigh
