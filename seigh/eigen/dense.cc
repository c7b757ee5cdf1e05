#include "seigh/eigen/dense.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "seigh/base/error.h"
#include "seigh/base/interrupt.h"
#include "seigh/base/timer.h"

namespace seigh {

at::Tensor materialize(LinearOperator& op, Progress& progress) {
  const int64_t n = op.size();
  const int64_t width = op.preferred_block();
  at::Tensor matrix = empty_block(n, n, at::kDouble);
  progress.begin("whole matrix of " + op.name(), n, "products");
  for (int64_t begin = 0; begin < n; begin += width) {
    const int64_t count = std::min(width, n - begin);
    at::Tensor unit = empty_block(n, count, op.dtype()).zero_();
    unit.diagonal(-begin).fill_(1);
    matrix.slice(1, begin, begin + count).copy_(op.apply(unit));
    progress.advance(count);
  }
  progress.end();
  return matrix;
}

DenseResult dense(LinearOperator& op, int64_t k, Progress& progress) {
  require(1 <= k && k <= op.size(), "dense: k must lie between 1 and the number of parameters, ", op.size(),
          ", not ", k);
  const Timer timer;
  at::Tensor matrix = materialize(op, progress);
  const double largest = std::max(matrix.max().item<double>(), -matrix.min().item<double>());
  EigenResult result;
  {
    const at::Tensor difference = matrix - matrix.t();
    result.asymmetry = largest > 0 ? difference.max().item<double>() / largest : 0;
    matrix.sub_(difference, 0.5);
  }
  check_interrupt();
  progress.begin("eigenvalues of " + op.name(), 1, "decompositions");
  auto [values, vectors] = at::linalg_eigh(matrix);
  progress.advance(1);
  progress.end();
  const at::Tensor order = values.abs().argsort(/*dim=*/0, /*descending=*/true);
  result.method = "dense";
  result.spectrum = values.index_select(0, order);
  result.eigenvalues = result.spectrum.slice(0, 0, k).clone();
  result.eigenvectors = Eigenvectors(as_block(vectors.index_select(1, order.slice(0, 0, k))));
  result.rank = k;
  result.products = op.size();
  result.frobenius = result.spectrum.norm().item<double>();
  result.seconds = timer.seconds();
  result.peak_bytes = peak_memory_bytes();
  return {std::move(result), std::move(matrix)};
}

double exact_error(const at::Tensor& matrix, const at::Tensor& eigenvalues,
                   const Eigenvectors& eigenvectors) {
  const at::Tensor u = eigenvectors.all().to(at::kDouble);
  const at::Tensor quadratic = (u * at::matmul(matrix, u)).sum(0);  // u_i^T A u_i
  const double squared = matrix.square().sum().item<double>() -
                         2 * (eigenvalues * quadratic).sum().item<double>() +
                         eigenvalues.square().sum().item<double>();
  return std::sqrt(std::max(squared, 0.0));
}

}  // namespace seigh
