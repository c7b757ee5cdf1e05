#include "seigh/eigen/certificates.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/real.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/eigen/result.h"

namespace seigh {

namespace {

// Of all entries, summed in float64.
double squared_norm(const at::Tensor& x) {
  const double norm = at::linalg_vector_norm(x, 2, std::nullopt, false, wide(x.scalar_type())).item<double>();
  return norm * norm;
}

}  // namespace

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

Probes::Probes(LinearOperator& op, int64_t count, uint64_t seed, const Context& context)
    : context_(context), seed_(seed), width_(op.preferred_block()) {
  const Context::Scope scope(context);
  require(count >= 1, "probes must be at least 1, not ", count);
  products_ = empty_block(op.size(), count, op.dtype());
  context.progress().begin("certifying " + op.name(), count, "products");
  for (int64_t begin = 0; begin < count; begin += width_) {
    const int64_t end = std::min(begin + width_, count);
    context.check_cancelled();
    products_.slice(1, begin, end).copy_(op.apply(vectors(begin, end)));
    context.progress().advance(end - begin);
  }
  context.progress().end();
}

at::Tensor Probes::vectors(int64_t begin, int64_t end) const {
  return random_gaussian(seed_, Stream::error_probe, products_.size(0), begin, end - begin,
                         products_.scalar_type());
}

// [g_begin .. g_(end-1), H g_begin .. H g_(end-1)].
at::Tensor Probes::with_products(int64_t begin, int64_t end) const {
  const int64_t n = end - begin;
  at::Tensor both = empty_block(products_.size(0), 2 * n, products_.scalar_type());
  both.slice(1, 0, n).copy_(vectors(begin, end));
  both.slice(1, n).copy_(products_.slice(1, begin, end));
  return both;
}

// Probes worth working with at once: each time takes passes over the vectors, which on disk are dear.
int64_t Probes::width_for(const Eigenvectors& eigenvectors) const {
  if (eigenvectors.in_memory()) return width_;
  const int64_t vector = products_.size(0) * static_cast<int64_t>(products_.element_size());
  return context_.ranks().agree(std::clamp<int64_t>(context_.memory().available() / 8 / vector, 1, count()));
}

ErrorEstimate Probes::error(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors,
                            at::Tensor* residual_bounds) const {
  ErrorEstimate estimate;
  estimate.probes = count();
  estimate.beta = beta();
  const bool one_pass = !eigenvectors.in_memory() && residual_bounds != nullptr;
  if (one_pass) return error_in_one_pass(eigenvalues, eigenvectors, *residual_bounds);
  const int64_t width = width_for(eigenvectors);
  at::Tensor squared_residuals = at::zeros({eigenvalues.numel()}, at::kDouble);
  for (int64_t begin = 0; begin < count(); begin += width) {
    const int64_t end = std::min(begin + width, count());
    const at::Tensor g = vectors(begin, end), y = products_.slice(1, begin, end);
    const at::Tensor missed =  // (H - U Lambda U^T) g
        y - eigenvectors.times(eigenvalues.unsqueeze(1) * eigenvectors.transposed_times(g));
    estimate.squared_frobenius += squared_norm(y);
    estimate.squared_error += squared_norm(missed);
    if (residual_bounds != nullptr)
      squared_residuals += squared_abs(eigenvectors.transposed_times(missed)).sum(1);
  }
  const double n = static_cast<double>(count());
  estimate.squared_frobenius /= n;
  estimate.squared_error /= n;
  if (residual_bounds != nullptr)
    *residual_bounds = (squared_residuals / n).sqrt() /
                       std::sqrt(1 - underestimate_margin(count(), kResidualFailure, beta()));
  return estimate;
}

// For eigenvectors on disk whose residuals are asked for, too: with c = U^T g and d = U^T y,
//   ||y - U Lambda c||^2 = ||y||^2 - 2 Re (Lambda c)^T d + ||Lambda c||^2 and U^T (y - U Lambda c) = d -
//   Lambda c,
// which resolves errors down to the square root of the vectors' precision; sketches have larger ones.
ErrorEstimate Probes::error_in_one_pass(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors,
                                        at::Tensor& residual_bounds) const {
  const int64_t q = count();
  const at::Tensor projected = eigenvectors.transposed_times(with_products(0, q));
  const at::Tensor model = eigenvalues.unsqueeze(1) * projected.slice(1, 0, q), d = projected.slice(1, q);
  const double n = static_cast<double>(q);
  ErrorEstimate estimate;
  estimate.probes = q;
  estimate.beta = beta();
  estimate.squared_frobenius = squared_norm(products_) / n;
  estimate.squared_error = std::max(
      0.0, estimate.squared_frobenius + at::real(model.conj() * (model - 2 * d)).sum().item<double>() / n);
  residual_bounds = (squared_abs(d - model).sum(1) / n).sqrt() /
                    std::sqrt(1 - underestimate_margin(q, kResidualFailure, beta()));
  return estimate;
}

at::Tensor Probes::squared_errors(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors) const {
  // ||y - sum_i lambda_i c_i u_i||^2 = ||y||^2 - 2 sum_i lambda_i c_i (u_i^T y) + sum_i (lambda_i c_i)^2, c =
  // U^T g.
  at::Tensor gains = at::zeros({eigenvalues.numel()}, at::kDouble);
  double total = 0;
  const int64_t width = width_for(eigenvectors);
  for (int64_t begin = 0; begin < count(); begin += width) {
    const int64_t n = std::min(width, count() - begin);
    const at::Tensor both = with_products(begin, begin + n);
    const at::Tensor projected = eigenvectors.transposed_times(both);
    const at::Tensor model = eigenvalues.unsqueeze(1) * projected.slice(1, 0, n);
    gains += at::real(model.conj() * (2 * projected.slice(1, n) - model)).sum(1);
    total += squared_norm(both.slice(1, n));
  }
  const at::Tensor left = at::cat({at::zeros({1}, at::kDouble), gains.cumsum(0)}).neg() + total;
  return left.clamp_min(0) / static_cast<double>(count());
}

Scree scree(const at::Tensor& eigenvalues, double error) {
  const at::Tensor squares = eigenvalues.to(at::kDouble).square();
  const double total = squares.sum().item<double>();
  require(total > 0, "scree: all eigenvalues are zero");
  const at::Tensor tail = (total - squares.cumsum(0)).clamp_min(0).sqrt();
  const double norm = std::sqrt(total);
  return {(tail / norm).square(), ((tail + error) / norm).square()};
}

at::Tensor trust(const at::Tensor& residuals, const at::Tensor& spectrum) {
  const int64_t k = residuals.numel();
  const auto [sorted, order] = spectrum.contiguous().sort();
  const at::Tensor bounds = residuals.contiguous();
  const double* const v = sorted.data_ptr<double>();
  const int64_t* const where = order.data_ptr<int64_t>();
  const double* const r = bounds.data_ptr<double>();
  at::Tensor result = at::zeros({k}, at::kByte);
  for (int64_t i = 0, n = spectrum.numel(); i < n; ++i) {
    if (where[i] >= k) continue;
    const double residual = r[where[i]];
    const double below = i > 0 ? v[i] - v[i - 1] : std::numeric_limits<double>::infinity();
    const double above = i + 1 < n ? v[i + 1] - v[i] : std::numeric_limits<double>::infinity();
    const Trust t = !(residual < std::abs(v[i]))           ? Trust::noise
                    : !(residual < std::min(below, above)) ? Trust::value
                                                           : Trust::pair;
    result.data_ptr<uint8_t>()[where[i]] = static_cast<uint8_t>(t);
  }
  return result;
}

at::Tensor subspace_errors(const at::Tensor& residuals, const at::Tensor& spectrum, Selection selection) {
  const int64_t k = residuals.numel();
  at::Tensor result = at::empty({k}, at::kDouble);
  if (k == 0) return result;
  const at::Tensor values = spectrum.slice(0, 0, k).contiguous(), bounds = residuals.contiguous();
  const double* const lambda = values.data_ptr<double>();
  const double* const r = bounds.data_ptr<double>();
  const Interval rest = unselected(values, spectrum.slice(0, k), selection);
  std::vector<double> delta;
  for (int64_t i = 0; i < k; ++i) delta.push_back(rest.distance(lambda[i]));
  for (int64_t j = k; j >= 1; --j) {
    double sum = 0;
    for (int64_t i = 0; i < j; ++i) {
      const double d = delta[static_cast<size_t>(i)];
      sum += r[i] < d ? (r[i] / d) * (r[i] / d) : 1;
    }
    result.data_ptr<double>()[j - 1] = std::sqrt(sum / static_cast<double>(j));
    // The j-th pair is now among those left out.
    for (int64_t i = 0; i + 1 < j; ++i) {
      double& d = delta[static_cast<size_t>(i)];
      d = std::min(d, std::max(0.0, std::abs(lambda[i] - lambda[j - 1]) - r[j - 1]));
    }
  }
  return result;
}

}  // namespace seigh
