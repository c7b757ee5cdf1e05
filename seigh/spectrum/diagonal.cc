#include "seigh/spectrum/diagonal.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/real.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "seigh/core/dtype.h"
#include "seigh/core/parallel.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/spectrum/leave_one_out.h"
#include "seigh/tall/panels.h"

namespace seigh {
namespace {

at::Tensor signs(uint64_t seed, int64_t rows, int64_t begin, int64_t end, at::ScalarType dtype) {
  at::Tensor block = empty_block(rows, end - begin, dtype);
  parallel_for(end - begin, [&](int64_t i) {
    block.select(1, i).copy_(random_signs(seed, Stream::diagonal, rows, begin + i));
  });
  return block;
}

double ratio(double error, double of) {
  return of > 0 ? error / of : error > 0 ? std::numeric_limits<double>::infinity() : 0;
}

}  // namespace

DiagonalResult diagonal(LinearOperator& op, const TraceOptions& options, const Context& context) {
  options.validate(op.size());
  const Context::Scope scope(context);
  const Timer timer;
  const int64_t size = op.size(), n = options.products / 2;
  DiagonalResult result;
  const auto finish = [&] {
    context.progress().end();
    result.relative_error = ratio(result.error.norm().item<double>(), result.diagonal.norm().item<double>());
    result.seconds = timer.seconds();
    return result;
  };
  if (options.products >= size) {
    context.progress().begin("diagonal of " + op.name(), size, "products");
    result.diagonal = exact_diagonal(op, context);
    result.error = (epsilon(op.dtype()) * result.diagonal.abs()).clamp_min(op.product_error());
    result.exact = true;
    result.products = size;
    return finish();
  }
  const int64_t width = std::min(n, op.preferred_block());
  require_memory("diagonal: a range of " + std::to_string(n) + " vectors and its products",
                 size * (2 * n * c10::elementSize(op.dtype()) + 6 * width * wide_bytes(op.dtype())),
                 "spend fewer products", context);
  const auto omega = [&](int64_t begin, int64_t end) {
    return signs(options.seed, size, begin, end, op.dtype());
  };
  context.progress().begin("diagonal of " + op.name(), 2 * n, "products");
  const auto [q, r, s, frobenius] = random_range(op, n, omega, context);
  at::Tensor z = empty_block(size, n, op.dtype());  // A Q
  at::Tensor of_range = at::zeros({size}, at::kDouble);
  for_columns(op, n, context, [&](int64_t begin, int64_t end) {
    const at::Tensor columns = q.slice(1, begin, end), products = op.apply(columns);
    z.slice(1, begin, end).copy_(products);
    of_range += at::real(columns * products.conj()).sum(1, /*keepdim=*/false, at::kDouble);
  });
  // The rest of d_i, which is of the size of the error.
  const at::Tensor factors = (s.conj() * r).sum(0);  // s_i^H r_i
  at::Tensor sum = at::zeros({size}, at::kDouble), squares = at::zeros({size}, at::kDouble);
  for (int64_t begin = 0; begin < n; begin += width) {
    const int64_t end = std::min(begin + width, n);
    context.check_cancelled();
    const at::Tensor part = s.slice(1, begin, end), u = times_small(q, part);
    const at::Tensor rest =
        at::real(u * (factors.slice(0, begin, end) * omega(begin, end) - times_small(z, part).conj()));
    sum += rest.sum(1);
    squares += rest.square().sum(1);
  }
  const double count = static_cast<double>(n);
  result.diagonal = of_range + sum / count;
  const at::Tensor spread = standard_error((squares - sum.square() / count).clamp_min(0), n);
  result.error = ((kShared * spread).square() + std::pow(product_rounding(op, frobenius), 2)).sqrt();
  result.products = 2 * n;
  return finish();
}

}  // namespace seigh
