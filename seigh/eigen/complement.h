// The norm of what a subspace leaves of an operator.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// Of B = P A P on the range of the projector P.
struct ComplementBounds {
  double high = 0,
         low = 0;  ///< B's eigenvalues are at most `high`, those of -B at most `low`; infinity: not known
  double ritz_high = 0, ritz_low = 0;  ///< the largest Ritz values of B and of -B: no more than the truth
  at::Tensor vectors;                  ///< their vectors, block [D, 2], at most two
};

/// By `steps` of Lanczos' iteration on B, each one product, from one random vector in the range of P, with
/// reorthogonalisation: D steps numbers of memory. With xi-, xi+ the extreme Ritz values, n = `range` the
/// dimension of the range and eps = (ln(2 * 1.648 sqrt(n) / p) / (2 m - 1))^2 after m steps, both lambda+ -
/// xi+ and xi- - lambda- are at most eps (xi+ - xi-) / (1 - 2 eps) with all but p = kProbeFailure probability
/// (Kuczynski, Wozniakowski, SIAM J. Matrix Anal. Appl. 13 (1992) 1094, Thm 4.2, shifted). An iteration that
/// breaks down has met every eigenvalue of B, so that its Ritz values are the extremes but for rounding.
///
/// project(v): P v of a block [D, b], on the host or on op.device(), where all else then lies. The vector is
/// number `draw` of `seed`'s. The ranks call it together.
ComplementBounds complement_bounds(LinearOperator& op,
                                   const std::function<at::Tensor(const at::Tensor&)>& project, int64_t range,
                                   int64_t steps, uint64_t seed, int64_t draw, const Context& context);

}  // namespace seigh
