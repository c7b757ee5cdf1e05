#include "seigh/spectrum/trace.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/real.h>

#include <algorithm>
#include <cmath>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/spectrum/leave_one_out.h"
#include "seigh/tall/panels.h"

namespace seigh {

void TraceOptions::validate(int64_t size) const {
  constexpr int64_t kFewest = 8;
  require(products >= std::min(kFewest, size), "products must be at least ", std::min(kFewest, size),
          ", not ", products, ": fewer say nothing of their error");
}

namespace {

// Re sum over rows of conj(a) b, for each column.
at::Tensor dots(const at::Tensor& a, const at::Tensor& b) {
  return at::real(a.conj() * b).sum(0);
}

}  // namespace

TraceResult trace(LinearOperator& op, const TraceOptions& options, const Context& context) {
  options.validate(op.size());
  const Context::Scope scope(context);
  const Timer timer;
  const int64_t size = op.size(), n = options.products / 2;
  const double dimension = static_cast<double>(size);
  TraceResult result;
  if (options.products >= size) {
    context.progress().begin("trace of " + op.name(), size, "products");
    const at::Tensor diagonal = exact_diagonal(op, context);
    result.trace = diagonal.sum().item<double>();
    result.error = std::sqrt(dimension) * product_rounding(op, diagonal.norm().item<double>());
    result.exact = true;
    result.products = size;
    context.progress().end();
    result.seconds = timer.seconds();
    return result;
  }
  require_memory("trace: a range of " + std::to_string(n) + " vectors",
                 size * (n + 3 * std::min(n, op.preferred_block())) * c10::elementSize(op.dtype()),
                 "spend fewer products", context);
  const auto omega = [&](int64_t begin, int64_t end) {
    return random_gaussian(options.seed, Stream::trace, size, begin, end - begin, op.dtype());
  };
  context.progress().begin("trace of " + op.name(), 2 * n, "products");
  const auto [q, r, s, frobenius] = random_range(op, n, omega, context);
  at::Tensor h = at::empty({n, n}, r.options()), w = at::empty({n, n}, r.options());
  at::Tensor squared = at::empty({n}, at::kDouble);  // |w_i|^2
  for_columns(op, n, context, [&](int64_t begin, int64_t end) {
    const at::Tensor vectors = omega(begin, end);
    w.slice(1, begin, end).copy_(transposed_product(q, vectors));
    squared.slice(0, begin, end).copy_(squared_abs(vectors).sum(0, /*keepdim=*/false, at::kDouble));
    h.slice(1, begin, end).copy_(transposed_product(q, op.apply(q.slice(1, begin, end))));
  });
  context.progress().end();
  // x_i = (I - s_i s_i^H) Q^H w_i, so that Q x_i is the part of w_i in the range of Q_i, and
  //   v^H A v = w_i^H A w_i - 2 Re x_i^H r_i + x_i^H H x_i,   |v|^2 = |w_i|^2 - |x_i|^2.
  const at::Tensor x = w - s * (s.conj() * w).sum(0);
  const at::Tensor form = dots(w, r) - 2 * dots(x, r) + dots(x, at::matmul(h, x));
  const at::Tensor length = squared - squared_abs(x).sum(0);
  const at::Tensor estimates = at::real(h.diagonal()).sum() - dots(s, at::matmul(h, s)) +
                               static_cast<double>(size - n + 1) * form / length;
  result.trace = estimates.mean().item<double>();
  const double spread = standard_error((estimates - estimates.mean()).square().sum(), n).item<double>();
  result.error = std::hypot(kShared * spread, std::sqrt(dimension) * product_rounding(op, frobenius));
  result.products = 2 * n;
  result.seconds = timer.seconds();
  return result;
}

}  // namespace seigh
