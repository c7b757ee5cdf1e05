#include "seigh/eigen/seigh.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>

#include "seigh/core/communicator.h"
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

SketchPlan SeighOptions::plan(const std::string& name, int64_t rows, at::ScalarType dtype) const {
  return {.operator_name = name,
          .rows = rows,
          .k = k,
          .s = s == 0 ? 2 * k : s,
          .seed = seed,
          .test_matrix = test_matrix,
          .dtype = dtype,
          .storage = storage,
          .width = block};
}

void SeighOptions::validate(int64_t dimension) const {
  SketchPlan plan;
  plan.rows = dimension;
  plan.k = k;
  plan.s = s == 0 ? 2 * k : s;
  plan.storage = storage;
  plan.validate();
  require(block >= 0, "block must not be negative: ", block);
  require(probes >= 0, "probes must not be negative: ", probes);
  require(test_matrix == "ssrft" || test_matrix == "sparse", "there is no test matrix \"", test_matrix,
          "\"; the kinds are ssrft and sparse");
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

EigenResult seigh(LinearOperator& op, const SeighOptions& options, Progress& progress) {
  options.validate(op.size());
  const Timer timer;
  Sketch sketch;
  if (options.store.empty()) {
    sketch = measure(op, options.plan(op.name(), op.size(), op.dtype()), progress);
  } else {
    SketchPlan plan = options.plan(op.name(), op.size(), op.dtype());
    SketchStore store = SketchStore::together(options.store, plan);
    measure(op, store, world().rank(), world().size(), progress);
    world().wait();
    require(static_cast<int64_t>(store.finished().size()) == store.plan().shards(),
            "another process is still measuring in ", options.store.string(), "; wait for it, then continue");
    sketch = sketch_of(store);
  }
  EigenResult result = recover(sketch);
  keep_selected(result, options.k, options.selection);
  DividedColumns divided(op);
  certify(world().size() > 1 && !op.collective() ? divided : op, result, options.probes, progress);
  result.seconds = timer.seconds();
  return result;
}

}  // namespace seigh
