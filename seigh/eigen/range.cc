#include "seigh/eigen/range.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_solve_triangular.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "seigh/core/dtype.h"
#include "seigh/core/timer.h"

namespace seigh {

namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

struct GramRoot {
  at::Tensor t;
  double largest, smallest;  // eigenvalues of G that are kept
};

// G's eigenvalues carry absolute errors of about k eps ||G||, so directions below that are rounding, not
// range, and are dropped: singular values of Y below sqrt(k eps) ||Y||.
GramRoot root_of(const at::Tensor& gram) {
  const int64_t k = gram.size(0);
  if (k == 0) return {gram, 1, 1};
  const auto [squares, v] = at::linalg_eigh(gram);  // rising
  const double largest = squares[k - 1].item<double>();
  if (largest <= 0) return {at::empty({k, 0}, squares.options()), 1, 1};
  const int64_t dropped = (squares <= static_cast<double>(k) * kEps * largest).sum().item<int64_t>();
  return {v.slice(1, dropped, k) / squares.slice(0, dropped, k).sqrt(), largest,
          squares[dropped].item<double>()};
}

}  // namespace

at::Tensor orthonormalizer_of_gram(const at::Tensor& gram) {
  return root_of(gram).t;
}

at::Tensor symmetric_part(const at::Tensor& a) {
  return 0.5 * (a + a.mH());
}

at::Tensor orthonormalizer(const TallMatrix& y) {
  const GramRoot root = root_of(gram(y));
  // The smallest direction kept is orthonormal only to eps ||G|| / its square. Where that is poor beside the
  // precision of Y, one more pass over it, of three times the work, mends it, as in Cholesky QR done twice:
  // R^H R = (Y T)^H (Y T), T <- T R^-1.
  const double enough = c10::toRealValueType(y.dtype()) == at::kFloat ? 1e-7 : 1e-12;
  if (kEps * root.largest <= enough * root.smallest) return root.t;
  const at::Tensor r = at::linalg_cholesky(gram_of_product(y, root.t), /*upper=*/true);
  return at::linalg_solve_triangular(r, root.t, /*upper=*/true, /*left=*/false);
}

EigenResult make_result(const std::string& method, const at::Tensor& values,
                        std::shared_ptr<const TallMatrix> basis, const at::Tensor& coefficients) {
  const at::Tensor order = selection_order(values, values.numel(), Selection::magnitude);
  EigenResult result;
  result.method = method;
  result.eigenvalues = values.index_select(0, order);
  result.spectrum = result.eigenvalues;
  result.eigenvectors = Eigenvectors(std::move(basis), coefficients.index_select(1, order));
  result.rank = order.numel();
  return result;
}

Selected select_pairs(const at::Tensor& values, int64_t k, Selection selection) {
  const int64_t found = values.numel();
  const int64_t positive = (values > 0).sum().item<int64_t>(), negative = (values < 0).sum().item<int64_t>();
  if (selection == Selection::both) {
    // The selected ones are what `both` selects when so many are asked of each end.
    const int64_t highs = std::min((k + 1) / 2, positive), lows = std::min(k / 2, negative);
    return {ends_order(values, highs, lows), highs + lows};
  }
  const int64_t there = selection == Selection::positive   ? positive
                        : selection == Selection::negative ? negative
                                                           : found;
  return {selection_order(values, std::min(k, found), selection), std::min(k, there)};
}

void keep_selected(EigenResult& result, int64_t k, Selection selection, at::Tensor& residuals) {
  result.selection = selection;
  const at::Tensor& values = result.eigenvalues;
  const int64_t found = values.numel();
  auto [order, rank] = select_pairs(values, k, selection);
  result.rank = rank;
  result.spectrum = values.index_select(0, order);
  if (residuals.defined()) residuals = residuals.index_select(0, order);
  order = order.slice(0, 0, result.rank);
  if (result.rank < found || selection != Selection::magnitude) {
    result.eigenvectors = result.eigenvectors.select(order);
    result.replicates = at::Tensor();
  }
  result.eigenvalues = result.spectrum.slice(0, 0, result.rank).clone();
  if (residuals.defined()) result.residuals = residuals.slice(0, 0, result.rank).clone();
}

double rounding_bound(double measured, double norm, at::ScalarType dtype) {
  return measured > 0 ? std::max(kRoundingSafety * measured, 4 * epsilon(dtype) * norm)
                      : 20 * epsilon(dtype) * norm;
}

void finish_sketch(LinearOperator& op, EigenResult& result, const SolverOptions& options,
                   const Context& context) {
  result.rounding = kRoundingSafety * op.product_error();
  at::Tensor residuals;
  if (options.probes == 0 || op.rounds()) {
    keep_selected(result, options.k, options.selection, residuals);
  } else {
    const Probes probes(op, options.probes, result.seed, context);
    result.products += probes.count();
    auto [bounds, norm] = probes.bounds(result.eigenvalues, result.eigenvectors);
    residuals = bounds + result.rounding;
    const SpectrumBounds spectrum =
        perturbation_bounds(result.eigenvalues, residuals, norm + result.rounding, op.size());
    keep_selected(result, options.k, options.selection, residuals);
    result.error = probes.error(result.eigenvalues, result.eigenvectors);
    result.certificates = certify_pairs(result.spectrum, residuals, result.rank, options.selection, options.k,
                                        spectrum, op.size());
  }
  result.eigenvectors = result.eigenvectors.on_host();
  result.peak_bytes = peak_memory_bytes();
}

}  // namespace seigh
