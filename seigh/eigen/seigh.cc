#include "seigh/eigen/seigh.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>

#include <cmath>
#include <limits>

#include "seigh/base/error.h"
#include "seigh/base/timer.h"
#include "seigh/linop/panels.h"

namespace seigh {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

// T with Y T orthonormal. G's eigenvalues carry absolute errors of about k eps ||G||, so directions below
// that are rounding, not range, and are dropped: singular values of Y below sqrt(k eps) ||Y||.
at::Tensor orthonormalizer(const at::Tensor& y) {
  const int64_t k = y.size(1);
  auto [squares, v] = at::linalg_eigh(transposed_product(y, y));  // rising
  const double largest = squares[k - 1].item<double>();
  if (largest <= 0) return at::empty({k, 0}, squares.options());
  const int64_t dropped = (squares <= static_cast<double>(k) * kEps * largest).sum().item<int64_t>();
  const at::Tensor t = v.slice(1, dropped, k) / squares.slice(0, dropped, k).sqrt();
  // The smallest direction kept is orthonormal only to eps ||G|| / its square. Where that is poor, one more
  // pass over Y mends it, as in Cholesky QR done twice: R^T R = (Y T)^T (Y T), T <- T R^-1.
  if (kEps * largest <= 1e-12 * squares[dropped].item<double>()) return t;
  const at::Tensor r = at::linalg_cholesky(gram_of_product(y, t), /*upper=*/true);
  return at::linalg_solve_triangular(r, t, /*upper=*/true, /*left=*/false);
}

// A^+ B for tall A: by QR, or by the pseudo-inverse where QR finds A numerically rank deficient.
at::Tensor least_squares(const at::Tensor& a, const at::Tensor& b) {
  if (a.size(1) == 0) return at::empty({0, b.size(1)}, b.options());  // the zero operator
  auto [q, r] = at::linalg_qr(a);
  const at::Tensor diagonal = r.diagonal().abs();
  if (diagonal.min().item<double>() > 1e-13 * diagonal.max().item<double>()) {
    return at::linalg_solve_triangular(r, at::matmul(q.t(), b), /*upper=*/true);
  }
  return at::matmul(at::linalg_pinv(a), b);
}

}  // namespace

void SeighOptions::validate(int64_t dimension) const {
  MeasureOptions{k, s == 0 ? 2 * k : s, seed, block}.validate(dimension);
  require(probes >= 0, "probes must not be negative: ", probes);
}

EigenResult recover(const Sketch& sketch) {
  const Timer timer;
  const at::Tensor t = orthonormalizer(sketch.outer);
  const at::Tensor psi_q = at::matmul(sketch.inner.slice(1, 0, sketch.k), t);
  const at::Tensor omega_q = at::matmul(sketch.omega_outer, t);
  // C = (Psi^T Q)^+ W ((Omega^T Q)^+)^T
  const at::Tensor core = least_squares(omega_q, least_squares(psi_q, sketch.inner).t()).t();
  auto [values, e] = at::linalg_eigh(0.5 * (core + core.t()));
  const at::Tensor order = values.abs().argsort(/*dim=*/0, /*descending=*/true);

  EigenResult result;
  result.method = "seigh";
  result.eigenvalues = values.index_select(0, order);
  result.eigenvectors = Eigenvectors(sketch.outer, at::matmul(t, e.index_select(1, order)));
  result.rank = order.numel();
  result.seed = sketch.seed;
  result.products = sketch.products;
  result.seconds = timer.seconds();
  return result;
}

EigenResult seigh(LinearOperator& op, const SeighOptions& options, Progress& progress) {
  options.validate(op.size());
  const Timer timer;
  const int64_t s = options.s == 0 ? 2 * options.k : options.s;
  EigenResult result = recover(measure(op, {options.k, s, options.seed, options.block}, progress));
  if (options.probes > 0) {
    result.error =
        estimate_error(op, result.eigenvalues, result.eigenvectors, options.probes, options.seed, progress);
    result.products += options.probes;
  }
  result.seconds = timer.seconds();
  result.peak_bytes = peak_memory_bytes();
  return result;
}

}  // namespace seigh
