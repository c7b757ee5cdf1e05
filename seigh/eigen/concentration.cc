#include "seigh/eigen/concentration.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cumsum.h>

#include <algorithm>

namespace seigh {
namespace {

constexpr double kTail = 0.025;

// The eps in (0, end) at which a falling bound on a probability is kTail.
template <typename Bound>
double where_tail_is(double end, const Bound& bound) {
  double low = 0, high = end;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) break;
    (bound(middle) > kTail ? low : high) = middle;
  }
  return high;
}

}  // namespace

Concentration concentration(const EigenResult& result, int64_t dimension) {
  Concentration c;
  if (result.rank == 0) return c;
  const at::Tensor values = result.eigenvalues.to(at::kDouble), squares = values.square().cumsum(0);
  const bool whole = result.spectrum.defined() && result.spectrum.numel() == dimension;
  const bool exact = result.method == "dense";
  const bool projection = result.method == "krylov" || result.method == "hmt";
  if (whole && (exact || projection)) c.nuclear = values.abs().cumsum(0) / result.spectrum.abs().sum();
  if (exact) {
    const double norm = result.frobenius * result.frobenius;
    if (norm > 0) c.share = c.low = c.high = (squares / norm).clamp_max(1);
    return c;
  }
  if (!result.error || !(result.error->squared_frobenius > 0)) return c;
  const int64_t q = result.error->probes;
  const int beta = result.error->beta;
  const double all = result.error->squared_frobenius;
  const double known = projection ? result.spectrum.square().sum().item<double>() : 0;
  const double rest = std::max(all - known, 0.0);
  // Both bounds are below kTail at the ends: the first is zero at 1, the second below e^(-50) at 100.
  const double under = where_tail_is(1, [&](double eps) { return probability_underestimate(q, eps, beta); });
  const double over = where_tail_is(100, [&](double eps) { return probability_overestimate(q, eps, beta); });
  const double lowest = all - rest + rest / (1 + over),
               highest = all - rest + rest / std::max(1 - under, 1e-9);
  c.share = (squares / all).clamp_max(1);
  c.low = squares / highest;
  c.high = (squares / lowest).clamp_max(1);
  return c;
}

}  // namespace seigh
