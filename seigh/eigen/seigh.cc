#include "seigh/eigen/seigh.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>

#include "seigh/base/error.h"
#include "seigh/base/timer.h"
#include "seigh/eigen/range.h"

namespace seigh {
namespace {

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
  auto [values, e] = at::linalg_eigh(symmetric_part(core));
  EigenResult result = make_result("seigh", values, sketch.outer, at::matmul(t, e));
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
  keep_selected(result, options.k, options.selection);
  certify(op, result, options.probes, progress);
  result.seconds = timer.seconds();
  return result;
}

}  // namespace seigh
