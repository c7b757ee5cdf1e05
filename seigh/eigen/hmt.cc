#include "seigh/eigen/hmt.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/real.h>

#include <algorithm>
#include <memory>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/range.h"
#include "seigh/tall/panels.h"

namespace seigh {

EigenResult hmt(LinearOperator& op, const SolverOptions& wanted, const Context& context) {
  const SolverOptions options = wanted.of(Method::hmt, op.size());
  const Context::Scope scope(context);
  const Timer timer;
  const int64_t s = options.products, half = s / 2;
  require(half >= options.k, "hmt takes half of its products for the range: s = ", s,
          " must be at least 2 k = ", 2 * options.k);
  at::Tensor y = empty_block(op.size(), half, op.dtype());
  context.progress().begin("range of " + op.name(), half, "products");
  for_blocks(op, options.block, half, context, [&](int64_t begin, int64_t end) {
    y.slice(1, begin, end)
        .copy_(op.apply(
            random_gaussian(options.seed, Stream::omega, op.size(), begin, end - begin, op.dtype())));
    context.progress().advance(end - begin);
  });
  context.progress().end();
  const at::Tensor t = orthonormalizer(MemoryTallMatrix(y, context));
  const at::Tensor q = times_small_in_place(y, t);
  at::Tensor hq = empty_block(op.size(), q.size(1), op.dtype());
  context.progress().begin("projecting " + op.name(), q.size(1), "products");
  for_blocks(op, options.block, q.size(1), context, [&](int64_t begin, int64_t end) {
    hq.slice(1, begin, end).copy_(op.apply(q.slice(1, begin, end)));
    context.progress().advance(end - begin);
  });
  context.progress().end();
  const at::Tensor projected = transposed_product(q, hq);
  auto [values, e] = at::linalg_eigh(symmetric_part(projected));
  EigenResult result = make_result("hmt", values, std::make_shared<MemoryTallMatrix>(q, context), e);
  result.seed = options.seed;
  result.products = half + q.size(1);
  if (result.rank > 0) {
    // ||H Q e - theta Q e||^2 = e^H (H Q)^H (H Q) e - theta^2, as Q is orthonormal and theta = e^H Q^H H Q e.
    const at::Tensor order = selection_order(values, values.numel(), Selection::magnitude);
    const at::Tensor f = e.index_select(1, order);
    const at::Tensor squares =
        at::real((f.conj() * at::matmul(transposed_product(hq, hq), f)).sum(0)) - result.eigenvalues.square();
    const double norm = values.abs().max().item<double>();
    // The difference cancels: below eps ||H||^2 it is rounding.
    result.residuals = squares.clamp_min(0).add(4 * epsilon(op.dtype()) * norm * norm).sqrt();
  }
  keep_selected(result, options.k, options.selection);
  certify(op, result, options.probes, context);
  result.seconds = timer.seconds();
  return result;
}

}  // namespace seigh
