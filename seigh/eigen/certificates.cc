#include "seigh/eigen/certificates.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "seigh/base/error.h"
#include "seigh/base/random.h"
#include "seigh/eigen/result.h"

namespace seigh {

double probability_underestimate(int64_t q, double eps, int beta) {
  require(0 < eps && eps < 1, "probability_underestimate: eps must lie between 0 and 1, not ", eps);
  return std::pow(std::exp(eps) * (1 - eps), 0.5 * beta * static_cast<double>(q));
}

double probability_overestimate(int64_t q, double eps, int beta) {
  require(eps > 0, "probability_overestimate: eps must be positive, not ", eps);
  return std::pow(std::exp(-eps) * (1 + eps), 0.5 * beta * static_cast<double>(q));
}

double underestimate_margin(int64_t q, double probability, int beta) {
  require(0 < probability && probability < 1,
          "underestimate_margin: a probability between 0 and 1 is needed, not ", probability);
  double low = 0, high = 1;  // the bound falls from 1 to 0 as eps rises from 0 to 1
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) break;
    (probability_underestimate(q, middle, beta) > probability ? low : high) = middle;
  }
  return low;
}

double ErrorEstimate::error() const {
  return std::sqrt(squared_error);
}
double ErrorEstimate::frobenius() const {
  return std::sqrt(squared_frobenius);
}
double ErrorEstimate::relative_error() const {
  return squared_frobenius > 0 ? error() / frobenius() : 0.0;
}

at::Tensor ErrorEstimate::residual_bounds() const {
  return residuals / std::sqrt(1 - underestimate_margin(probes, kResidualFailure));
}

ErrorEstimate estimate_error(LinearOperator& op, const at::Tensor& eigenvalues,
                             const Eigenvectors& eigenvectors, int64_t probes, uint64_t seed,
                             Progress& progress) {
  require(probes >= 1, "probes must be at least 1, not ", probes);
  ErrorEstimate estimate;
  estimate.probes = probes;
  at::Tensor squared_residuals = at::zeros({eigenvalues.numel()}, at::kDouble);
  progress.begin("certifying " + op.name(), probes, "products");
  const int64_t width = op.preferred_block();
  for (int64_t begin = 0; begin < probes; begin += width) {
    const int64_t count = std::min(width, probes - begin);
    const at::Tensor g = random_gaussian(seed, Stream::error_probe, op.size(), begin, count, op.dtype());
    const at::Tensor y = op.apply(g);
    const at::Tensor model =
        eigenvectors.times(eigenvalues.unsqueeze(1) * eigenvectors.transposed_times(g));  // U Lambda U^T g
    estimate.squared_frobenius += y.to(at::kDouble).square().sum().item<double>();
    const at::Tensor missed = y.sub_(model);  // (H - U Lambda U^T) g
    estimate.squared_error += missed.to(at::kDouble).square().sum().item<double>();
    squared_residuals += eigenvectors.transposed_times(missed).square().sum(1);
    progress.advance(count);
  }
  progress.end();
  estimate.squared_frobenius /= static_cast<double>(probes);
  estimate.squared_error /= static_cast<double>(probes);
  estimate.residuals = (squared_residuals / static_cast<double>(probes)).sqrt();
  return estimate;
}

Scree scree(const at::Tensor& eigenvalues, double error) {
  const at::Tensor squares = eigenvalues.to(at::kDouble).square();
  const double total = squares.sum().item<double>();
  require(total > 0, "scree: all eigenvalues are zero");
  const at::Tensor tail = (total - squares.cumsum(0)).clamp_min(0).sqrt();
  const double norm = std::sqrt(total);
  return {(tail / norm).square(), ((tail + error) / norm).square()};
}

}  // namespace seigh
