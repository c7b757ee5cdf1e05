#include "seigh/eigen/seigh.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/range.h"
#include "seigh/tall/divided.h"

namespace seigh {
namespace {

// A^+ B for tall A: by QR, or by the pseudo-inverse where QR finds A numerically rank deficient.
at::Tensor least_squares(const at::Tensor& a, const at::Tensor& b) {
  if (a.size(1) == 0) return at::empty({0, b.size(1)}, b.options());  // the zero operator
  auto [q, r] = at::linalg_qr(a);
  const at::Tensor diagonal = r.diagonal().abs();
  if (diagonal.min().item<double>() > 1e-13 * diagonal.max().item<double>()) {
    return at::linalg_solve_triangular(r, at::matmul(q.mH(), b), /*upper=*/true);
  }
  return at::matmul(at::linalg_pinv(a), b);
}

}  // namespace

SketchPlan sketch_plan(const SolverOptions& options, const std::string& name, int64_t rows,
                       at::ScalarType dtype) {
  const SolverOptions o = options.resolved(rows);
  return {.operator_name = name,
          .rows = rows,
          .k = o.k,
          .s = o.products,
          .seed = o.seed,
          .test_matrix = o.test_matrix,
          .dtype = dtype,
          .storage = o.storage,
          .width = o.block};
}

EigenResult recover(const Sketch& sketch) {
  const Timer timer;
  const at::Tensor t = orthonormalizer(*sketch.outer);
  const at::Tensor psi_q = at::matmul(sketch.inner.index_select(1, sketch.outer_columns), t);
  const at::Tensor omega_q = at::matmul(sketch.omega_outer, t);
  // C = (Psi^H Q)^+ W ((Omega^H Q)^+)^H
  const at::Tensor core = least_squares(omega_q, least_squares(psi_q, sketch.inner).mH()).mH();
  auto [values, e] = at::linalg_eigh(symmetric_part(core));
  EigenResult result = make_result("seigh", values, sketch.outer, at::matmul(t, e));
  result.seed = sketch.seed;
  result.products = sketch.products;
  result.seconds = timer.seconds();
  return result;
}

EigenResult seigh(LinearOperator& op, const SolverOptions& options, const Context& context) {
  options.of(Method::seigh, op.size());
  const Context::Scope scope(context);
  const Timer timer;
  Ranks& ranks = context.ranks();
  const SketchPlan plan = sketch_plan(options, op.name(), op.size(), op.dtype());
  Sketch sketch;
  if (options.state.empty()) {
    sketch = measure(op, plan, context);
  } else {
    SketchStore store = SketchStore::together(options.state, plan, context);
    measure(op, store, ranks.rank(), ranks.size(), context);
    ranks.wait();
    require(static_cast<int64_t>(store.finished().size()) == store.plan().shards(),
            "another process is still measuring in ", options.state.string(), "; wait for it, then continue");
    sketch = sketch_of(store);
  }
  EigenResult result = recover(sketch);
  DividedColumns divided(op, context);
  finish_sketch(!ranks.alone() && !op.collective() ? divided : op, result, options, context);
  result.seconds = timer.seconds();
  return result;
}

}  // namespace seigh
