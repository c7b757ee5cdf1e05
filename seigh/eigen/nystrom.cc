#include "seigh/eigen/nystrom.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <memory>

#include "seigh/core/dtype.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/range.h"
#include "seigh/eigen/refine.h"
#include "seigh/sketch/test_matrix.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/placement.h"

namespace seigh {

namespace {

EigenResult solve(LinearOperator& op, const SolverOptions& options, const Context& context) {
  const Timer timer;
  const int64_t s = options.products;
  const int64_t width = options.block > 0 ? options.block : op.preferred_block();
  const int64_t bytes = (s + 16 * width) * op.size() * static_cast<int64_t>(c10::elementSize(op.dtype()));
  const c10::Device place = place_of(op, width, bytes, context);
  at::Tensor y = empty_block_at(place, op.size(), s, op.dtype());
  at::Tensor core = at::zeros({s, s}, wide(op.dtype()));
  const auto omega =
      make_test_matrix(options.test_matrix, op.size(), s, options.seed, Stream::omega, op.dtype(), place);
  context.progress().begin("measuring " + op.name(), s, "products");
  for_blocks(op, options.block, s, context, [&](int64_t begin, int64_t end) {
    const at::Tensor block = op.apply(omega->block(begin, end - begin).to(y.device()));
    y.slice(1, begin, end).copy_(block);
    core.slice(1, begin, end).copy_(omega->transposed_product(block));
    context.progress().advance(end - begin);
  });
  context.progress().end();
  const auto [core_values, core_vectors] = at::linalg_eigh(symmetric_part(core));
  const at::Tensor order = selection_order(core_values, s, Selection::magnitude);
  const int64_t r = std::clamp<int64_t>(2 * s / 3, options.k, s);
  const at::Tensor kept = order.slice(0, 0, r);
  at::Tensor d = core_values.index_select(0, kept), x = core_vectors.index_select(1, kept);
  // Of an operator of lower rank only what is above rounding.
  const at::Tensor sound = (d.abs() > 1e-12 * d.abs().max()).nonzero().squeeze(1);
  d = d.index_select(0, sound);
  x = x.index_select(1, sound);
  const std::shared_ptr<const TallMatrix> tall =
      seen_from(op.device(), std::make_shared<MemoryTallMatrix>(y, context));
  // Y X D^-1 X^H Y^H: of Z = Y X, [D, r], orthonormalised by T: Z = (Z T) G with G = T^H Z^H Z.
  const at::Tensor gram = at::matmul(x.mH(), at::matmul(seigh::gram(*tall), x));
  at::Tensor t = orthonormalizer_of_gram(gram);
  // Small directions are orthonormal only to the rounding of Y^H Y: passes over Z T itself mend that.
  for (int pass = 0; pass < 3 && t.size(1) > 0; ++pass) {
    const at::Tensor again = gram_of_product(*tall, at::matmul(x, t));
    const double loss = (again - at::eye(again.size(0), again.options())).abs().max().item<double>();
    if (!(loss > 10 * epsilon(op.dtype()))) break;
    t = at::matmul(t, orthonormalizer_of_gram(again));
  }
  const at::Tensor g = at::matmul(t.mH(), gram);
  auto [values, e] = at::linalg_eigh(symmetric_part(at::matmul(g / d, g.mH())));
  EigenResult result = make_result("nystrom", values, tall, at::matmul(at::matmul(x, t), e));
  result.seed = options.seed;
  result.products = s;
  finish_sketch(op, result, options, context);
  result.seconds = timer.seconds();
  return result;
}

}  // namespace

EigenResult nystrom(LinearOperator& op, const SolverOptions& options, const Context& context) {
  const SolverOptions o = options.of(Method::nystrom, op.size());
  const Context::Scope scope(context);
  return on_device_of(op, "nystrom", [&] { return refined(op, solve(op, o, context), o, context); });
}

}  // namespace seigh
