#include "seigh/eigen/hmt.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/real.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/range.h"
#include "seigh/eigen/refine.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/placement.h"

namespace seigh {

namespace {

EigenResult solve(LinearOperator& op, const SolverOptions& options, const Context& context) {
  const Timer timer;
  const int64_t s = options.products, half = s / 2;
  require(half >= options.k, "hmt takes half of its products for the range: s = ", s,
          " must be at least 2 k = ", 2 * options.k);
  const int64_t width = options.block > 0 ? options.block : op.preferred_block();
  const int64_t columns = 2 * half + 2 * width + 2 * options.probes;
  c10::Device place =
      place_of(op, width, columns * op.size() * static_cast<int64_t>(c10::elementSize(op.dtype())), context);
  at::Tensor y = empty_block_at(place, op.size(), half, op.dtype());
  place = y.device();
  context.progress().begin("range of " + op.name(), half, "products");
  for_blocks(op, options.block, half, context, [&](int64_t begin, int64_t end) {
    y.slice(1, begin, end)
        .copy_(
            op.apply(random_gaussian(options.seed, Stream::omega, op.size(), begin, end - begin, op.dtype())
                         .to(place)));
    context.progress().advance(end - begin);
  });
  context.progress().end();
  const at::Tensor t = orthonormalizer(MemoryTallMatrix(y, context));
  const at::Tensor q = times_small_in_place(y, t);
  at::Tensor hq = empty_block(op.size(), q.size(1), op.dtype(), place);
  context.progress().begin("projecting " + op.name(), q.size(1), "products");
  for_blocks(op, options.block, q.size(1), context, [&](int64_t begin, int64_t end) {
    hq.slice(1, begin, end).copy_(op.apply(q.slice(1, begin, end)));
    context.progress().advance(end - begin);
  });
  context.progress().end();
  const at::Tensor projected = symmetric_part(transposed_product(q, hq));
  auto [values, e] = at::linalg_eigh(projected);
  EigenResult result = make_result("hmt", values, std::make_shared<MemoryTallMatrix>(q, context), e);
  result.seed = options.seed;
  result.products = half + q.size(1);
  at::Tensor residuals;
  if (op.rounds()) {
    keep_selected(result, options.k, options.selection, residuals);
    result.seconds = timer.seconds();
    return result;
  }
  // H Q = Q T + R, R^T R = S^T S.
  subtract_product(hq, q, projected);
  const at::Tensor squares = symmetric_part(transposed_product(hq, hq));
  const double norm = result.rank > 0 ? values.abs().max().item<double>() : 0;
  result.rounding = rounding_bound(op.product_error(), norm, op.dtype());
  const at::Tensor order = selection_order(values, values.numel(), Selection::magnitude);
  const at::Tensor f = e.index_select(1, order);
  residuals = at::real((f.conj() * at::matmul(squares, f)).sum(0)).clamp_min(0).sqrt() + result.rounding;
  double eta = std::numeric_limits<double>::infinity();
  if (options.probes > 0) {
    // With B = (I - Q Q^T) H (I - Q Q^T): B G = (I - Q Q^T) H G - R Q^T G.
    const Probes probes(op, options.probes, options.seed, context);
    const at::Tensor left = empty_block(op.size(), probes.count(), op.dtype(), place);
    left.copy_(probes.products(0, probes.count()));
    subtract_product(left, q, transposed_product(q, left));
    subtract_product(left, hq, transposed_product(q, probes.vectors(0, probes.count())));
    const at::Tensor gram = symmetric_part(transposed_product(left, left));
    eta = probes.norm_bound(at::linalg_eigvalsh(gram)[-1].item<double>());
    result.products += probes.count();
    keep_selected(result, options.k, options.selection, residuals);
    result.error = probes.error_of_projection(result.spectrum, result.rank,
                                              at::real(squares.diagonal()).sum().item<double>(),
                                              at::real(gram.diagonal()).mean().item<double>());
  } else {
    keep_selected(result, options.k, options.selection, residuals);
  }
  const auto [sizes, x] = at::linalg_eigh(squares);
  const at::Tensor coupling = sizes.clamp_min(0).sqrt().unsqueeze(1) * x.mH();
  result.certificates =
      certify_pairs(result.spectrum, residuals, result.rank, options.selection, options.k,
                    interlacing_bounds(projected, coupling, eta, eta, op.size(), result.rounding), op.size());
  result.eigenvectors = result.eigenvectors.on_host();
  result.peak_bytes = peak_memory_bytes();
  result.seconds = timer.seconds();
  return result;
}

}  // namespace

EigenResult hmt(LinearOperator& op, const SolverOptions& options, const Context& context) {
  const SolverOptions o = options.of(Method::hmt, op.size());
  const Context::Scope scope(context);
  return on_device_of(op, "hmt", [&] { return refined(op, solve(op, o, context), o, context); });
}

}  // namespace seigh
