// Two-pass randomized Rayleigh-Ritz: the range of Y = H Omega, then the operator on it.
//
// Halko, Martinsson, Tropp, "Finding structure with randomness" (SIAM Review 2011), algorithms 4.1 and 5.3:
//   Q = orth(H Omega), T = Q^T H Q = E Theta E^T, U = Q E.
// Cost: s / 2 products for the range and s / 2 for T, 6 D (s / 2)^2 flops, D s numbers of memory. Residuals
// follow from H Q at no further product.
#pragma once

#include "seigh/core/context.h"
#include "seigh/eigen/options.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// k leading pairs from s products, s / 2 >= k of them for the range (products = 0: 2 k). Throws Error on
/// invalid options.
EigenResult hmt(LinearOperator& op, const SolverOptions& options, const Context& context = Context());

}  // namespace seigh
