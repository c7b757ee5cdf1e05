#include "seigh/eigen/complement.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/random.h"
#include "seigh/eigen/probes.h"
#include "seigh/tall/panels.h"

namespace seigh {

ComplementBounds complement_bounds(LinearOperator& op,
                                   const std::function<at::Tensor(const at::Tensor&)>& project, int64_t range,
                                   int64_t steps, uint64_t seed, int64_t draw, const Context& context) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  ComplementBounds bounds;
  if (range <= 0) return {-kInf, -kInf, -kInf, -kInf, {}};
  const int64_t most = std::min(steps, range);
  if (most < 1) return {kInf, kInf, -kInf, -kInf, {}};
  const auto length = [](const at::Tensor& v) {
    return std::sqrt(transposed_product(v, v).abs().item<double>());
  };
  at::Tensor v = project(random_gaussian(seed, Stream::complement, op.size(), draw, 1, op.dtype()));
  double size = length(v);
  if (!(size > 0)) return {kInf, kInf, -kInf, -kInf, {}};
  at::Tensor w = empty_block(op.size(), most, op.dtype(), v.device());
  std::vector<double> alpha, beta;
  double scale = 0;
  bool broken = false;
  context.progress().begin("what is left of " + op.name(), most, "products");
  for (int64_t m = 0; m < most; ++m) {
    context.check_cancelled();
    w.slice(1, m, m + 1).copy_(v / size);
    const at::Tensor q = w.slice(1, m, m + 1);
    at::Tensor next = project(op.apply(q));
    alpha.push_back(at::real(transposed_product(q, next)).item<double>());
    const at::Tensor done = w.slice(1, 0, m + 1);
    for (int pass = 0; pass < 2; ++pass) subtract_product(next, done, transposed_product(done, next));
    size = length(next);
    scale = std::max({scale, std::abs(alpha.back()), size});
    broken = !(size > 10 * epsilon(op.dtype()) * scale);
    if (op.collective()) broken = context.ranks().agree(broken);
    context.progress().advance(1);
    if (broken) break;
    beta.push_back(size);
    v = project(next);  // again, so that what is left of the rest stays rounding
    size = length(v);
  }
  context.progress().end();
  const int64_t m = static_cast<int64_t>(alpha.size());
  at::Tensor t = at::zeros({m, m}, at::kDouble);
  for (int64_t i = 0; i < m; ++i) {
    t[i][i] = alpha[static_cast<size_t>(i)];
    if (i + 1 < m) t[i][i + 1] = t[i + 1][i] = beta[static_cast<size_t>(i)];
  }
  const auto [values, y] = at::linalg_eigh(t);
  bounds.ritz_high = values[m - 1].item<double>();
  bounds.ritz_low = -values[0].item<double>();
  const at::Tensor ends = m > 1 ? at::cat({y.slice(1, m - 1), y.slice(1, 0, 1)}, 1) : y;
  bounds.vectors = times_small(w.slice(1, 0, m), ends.to(wide(op.dtype())));
  const double eps = std::pow(std::log(2 * 1.648 * std::sqrt(static_cast<double>(range)) / kProbeFailure) /
                                  static_cast<double>(2 * m - 1),
                              2);
  const double slack = broken || m == range ? 0
                       : 2 * eps < 1        ? eps * (bounds.ritz_high + bounds.ritz_low) / (1 - 2 * eps)
                                            : kInf;
  bounds.high = bounds.ritz_high + slack;
  bounds.low = bounds.ritz_low + slack;
  return bounds;
}

}  // namespace seigh
