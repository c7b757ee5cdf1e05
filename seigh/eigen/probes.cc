#include "seigh/eigen/probes.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/real.h>
#include <ATen/ops/special_gammainc.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/eigen/range.h"
#include "seigh/eigen/result.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/placement.h"

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

double chi_square_quantile(double n, double probability) {
  require(n > 0 && 0 < probability && probability < 1, "chi_square_quantile: ", n,
          " degrees of freedom, probability ", probability);
  const at::Tensor shape = at::full({1}, 0.5 * n, at::kDouble);
  double low = 0, high = n + 40 * std::sqrt(n) + 1500;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) break;
    const double below = at::special_gammainc(shape, at::full({1}, 0.5 * middle, at::kDouble)).item<double>();
    (below < probability ? low : high) = middle;
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
  const int64_t bytes = op.size() * count * static_cast<int64_t>(c10::elementSize(op.dtype()));
  products_ = empty_block_at(place_of(op, width_, 3 * bytes, context), op.size(), count, op.dtype());
  const at::Tensor known = op.known_products(seed);
  const int64_t first = known.defined() ? std::min(known.size(1), count) : 0;
  if (first > 0) products_.slice(1, 0, first).copy_(known.slice(1, 0, first));
  context.progress().begin("certifying " + op.name(), count - first, "products");
  for (int64_t begin = first; begin < count; begin += width_) {
    const int64_t end = std::min(begin + width_, count);
    context.check_cancelled();
    products_.slice(1, begin, end).copy_(op.apply(vectors(begin, end)));
    context.progress().advance(end - begin);
  }
  context.progress().end();
}

at::Tensor Probes::vectors(int64_t begin, int64_t end) const {
  return random_gaussian(seed_, Stream::error_probe, products_.size(0), begin, end - begin,
                         products_.scalar_type())
      .to(products_.device());
}

// [g_begin .. g_(end-1), H g_begin .. H g_(end-1)].
at::Tensor Probes::with_products(int64_t begin, int64_t end) const {
  const int64_t n = end - begin;
  at::Tensor both = empty_block(products_.size(0), 2 * n, products_.scalar_type(), products_.device());
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

double Probes::norm_factor() const {
  return std::sqrt(chi_square_quantile(static_cast<double>(beta() * count()), kProbeFailure) / beta());
}

double Probes::norm_bound(double largest_of_gram) const {
  return std::sqrt(std::max(largest_of_gram, 0.0)) / norm_factor();
}

ErrorEstimate Probes::error_of_projection(const at::Tensor& values, int64_t k, double coupling,
                                          double rest) const {
  const double missed = values.slice(0, k).square().sum().item<double>() + 2 * coupling + rest;
  return {.probes = count(),
          .beta = beta(),
          .squared_error = missed,
          .squared_frobenius = missed + values.slice(0, 0, k).square().sum().item<double>()};
}

ErrorEstimate Probes::error(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors) const {
  ErrorEstimate estimate;
  estimate.probes = count();
  estimate.beta = beta();
  const double n = static_cast<double>(count());
  if (!eigenvectors.in_memory() && eigenvectors.count() > 0) {
    // One pass: resolves errors down to the square root of the vectors' precision.
    const at::Tensor left = squared_errors(eigenvalues, eigenvectors);
    estimate.squared_frobenius = left[0].item<double>();
    estimate.squared_error = left[-1].item<double>();
    return estimate;
  }
  const int64_t width = width_for(eigenvectors);
  for (int64_t begin = 0; begin < count(); begin += width) {
    const int64_t end = std::min(begin + width, count());
    const at::Tensor y = products(begin, end);
    estimate.squared_frobenius += squared_norm(y);
    estimate.squared_error += squared_norm(missed(eigenvalues, eigenvectors, begin, end));
  }
  estimate.squared_frobenius /= n;
  estimate.squared_error /= n;
  return estimate;
}

// (H - U Lambda U^T) g.
at::Tensor Probes::missed(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors, int64_t begin,
                          int64_t end) const {
  if (eigenvectors.count() == 0) return products(begin, end);
  return products(begin, end) -
         eigenvectors.times(eigenvalues.unsqueeze(1) * eigenvectors.transposed_times(vectors(begin, end)))
             .to(products_.device());
}

Probes::Bounds Probes::bounds(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors) const {
  at::Tensor projected, gram;  // U^T (H - H^) G and G^T (H - H^)^2 G
  if (eigenvectors.count() > 0 && !eigenvectors.in_memory()) {
    // One pass for vectors on disk: with c = U^T g, d = U^T H g,
    //   U^T (H - H^) g = d - Lambda c,  |(H - H^) g|^2 = |H g|^2 - 2 Re (Lambda c)^T d + |Lambda c|^2,
    // which resolves errors down to the square root of the vectors' precision; sketches have larger ones.
    const at::Tensor both = eigenvectors.transposed_times(with_products(0, count()));
    const at::Tensor model = eigenvalues.unsqueeze(1) * both.slice(1, 0, count()), d = both.slice(1, count());
    projected = d - model;
    const at::Tensor cross = at::matmul(model.mH(), d);
    gram = transposed_product(products_, products_) - cross - cross.mH() + at::matmul(model.mH(), model);
  } else {
    const at::Tensor error = missed(eigenvalues, eigenvectors, 0, count());
    projected = eigenvectors.count() > 0 ? eigenvectors.transposed_times(error)
                                         : at::zeros({0, count()}, wide(error.scalar_type()));
    gram = transposed_product(error, error);
  }
  return {squared_abs(projected).sum(1).sqrt() / norm_factor(),
          norm_bound(at::linalg_eigvalsh(symmetric_part(gram))[-1].item<double>())};
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

}  // namespace seigh
