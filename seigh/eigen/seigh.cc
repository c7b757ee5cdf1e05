#include "seigh/eigen/seigh.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/range.h"
#include "seigh/eigen/refine.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/placement.h"

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

namespace {

struct Recovered {
  at::Tensor values, coefficients;  // float64 [r]; of the vectors, in terms of Y
};

// From some of the columns: Y T orthonormal.
Recovered recover_from(const at::Tensor& t, const at::Tensor& inner, const at::Tensor& inner_outer,
                       const at::Tensor& omega_outer) {
  const at::Tensor psi_q = at::matmul(inner_outer, t);
  const at::Tensor omega_q = at::matmul(omega_outer, t);
  // C = (Psi^H Q)^+ W ((Omega^H Q)^+)^H
  const at::Tensor core = least_squares(omega_q, least_squares(psi_q, inner).mH()).mH();
  auto [values, e] = at::linalg_eigh(symmetric_part(core));
  return {values, at::matmul(t, e)};
}

// Without a tenth of the columns in turn (a delete-group jackknife): U^T U_g for the vectors U_g that then
// come out.
at::Tensor replicates(const Sketch& sketch, const at::Tensor& coefficients) {
  constexpr int64_t kGroups = 10, kMost = int64_t{256} << 20;
  const int64_t k = sketch.outer->columns(), n = sketch.inner.size(1), rank = coefficients.size(1);
  if (k < 2 * kGroups || rank < k || 4 * kGroups * k * k > kMost) return {};
  const at::Tensor whole = gram(*sketch.outer);
  const at::Tensor left = at::matmul(coefficients.mH(), whole);
  std::vector<at::Tensor> all;
  int64_t smallest = k;
  for (int64_t group = 0; group < kGroups; ++group) {
    // Columns of every part, outer ones and others, by turns.
    const at::Tensor columns = at::arange(n, at::kLong).remainder(kGroups).ne(group).nonzero().squeeze(1);
    const at::Tensor outer = sketch.outer_columns.remainder(kGroups).ne(group).nonzero().squeeze(1);
    const at::Tensor t = orthonormalizer_of_gram(whole.index_select(0, outer).index_select(1, outer));
    const Recovered some =
        recover_from(t, sketch.inner.index_select(1, columns),
                     sketch.inner.index_select(1, sketch.outer_columns.index_select(0, outer)),
                     sketch.omega_outer.index_select(0, columns).index_select(1, outer));
    const at::Tensor order = selection_order(some.values, some.values.numel(), Selection::magnitude);
    all.push_back(at::matmul(left.index_select(1, outer), some.coefficients.index_select(1, order)));
    smallest = std::min(smallest, order.numel());
  }
  for (at::Tensor& one : all) one = one.slice(1, 0, smallest);
  return at::stack(all).to(at::kFloat);
}

EigenResult recovered(const Sketch& sketch) {
  const Timer timer;
  const at::Tensor t = orthonormalizer(*sketch.outer);
  const auto [values, coefficients] =
      recover_from(t, sketch.inner, sketch.inner.index_select(1, sketch.outer_columns), sketch.omega_outer);
  EigenResult result = make_result("seigh", values, sketch.outer, coefficients);
  if (!coefficients.is_complex()) {
    const at::Tensor order = selection_order(values, values.numel(), Selection::magnitude);
    result.replicates = replicates(sketch, coefficients.index_select(1, order));
  }
  result.seed = sketch.seed;
  result.products = sketch.products;
  result.seconds = timer.seconds();
  return result;
}

}  // namespace

EigenResult recover(const Sketch& measured, c10::Device device) {
  Sketch sketch = measured;
  sketch.outer = seen_from(device, sketch.outer);
  if (sketch.outer == measured.outer || sketch.outer->divided()) return recovered(sketch);
  try {
    return recovered(sketch);
  } catch (const c10::OutOfMemoryError&) {
    DeviceMemory(device).release();
  }
  return recovered(measured);
}

namespace {

EigenResult solve(LinearOperator& op, const SolverOptions& options, const Context& context) {
  const Timer timer;
  Ranks& ranks = context.ranks();
  const SketchPlan plan = sketch_plan(options, op.name(), op.size(), op.dtype());
  Sketch sketch;
  if (options.state.empty()) {
    sketch = measure(op, plan, context);
  } else {
    SketchStore store = SketchStore::together(options.state, plan, context);
    store.tie_to(options.fingerprint);
    measure(op, store, ranks.rank(), ranks.size(), context);
    ranks.wait();
    require(static_cast<int64_t>(store.finished().size()) == store.plan().shards(),
            "another process is still measuring in ", options.state.string(), "; wait for it, then continue");
    sketch = sketch_of(store);
  }
  EigenResult result = recover(sketch, op.device());
  DividedColumns divided(op, context);
  finish_sketch(!ranks.alone() && !op.collective() ? divided : op, result, options, context);
  result.seconds = timer.seconds();
  return result;
}

}  // namespace

EigenResult seigh(LinearOperator& op, const SolverOptions& options, const Context& context) {
  options.of(Method::seigh, op.size());
  const Context::Scope scope(context);
  return on_device_of(op, "seigh",
                      [&] { return refined(op, solve(op, options, context), options, context); });
}

}  // namespace seigh
