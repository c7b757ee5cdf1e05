#include "seigh/eigen/range.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_solve_triangular.h>

#include <algorithm>
#include <limits>
#include <utility>

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

void keep_selected(EigenResult& result, int64_t k, Selection selection) {
  result.selection = selection;
  const int64_t found = result.eigenvalues.numel();
  at::Tensor order = selection_order(result.eigenvalues, std::min(k, found), selection);
  const int64_t fitting = selection == Selection::positive   ? (result.eigenvalues > 0).sum().item<int64_t>()
                          : selection == Selection::negative ? (result.eigenvalues < 0).sum().item<int64_t>()
                                                             : found;
  result.rank = std::min(k, fitting);
  if (result.rank == found && selection == Selection::magnitude) return;
  result.spectrum = result.eigenvalues.index_select(0, order);
  order = order.slice(0, 0, result.rank);
  result.eigenvalues = result.eigenvalues.index_select(0, order);
  result.eigenvectors = result.eigenvectors.select(order);
  if (result.residuals.defined()) result.residuals = result.residuals.index_select(0, order);
}

void certify(LinearOperator& op, EigenResult& result, int64_t probes, const Context& context) {
  if (probes > 0) {
    result.error = Probes(op, probes, result.seed, context)
                       .error(result.eigenvalues, result.eigenvectors,
                              result.residuals.defined() ? nullptr : &result.residuals);
    result.products += probes;
  }
  result.peak_bytes = peak_memory_bytes();
}

}  // namespace seigh
