// Nystrom approximation of an indefinite operator with a truncated core.
//
// Nakatsukasa, Park, "Randomized low-rank approximation for symmetric indefinite matrices" (SIAM J. Matrix
// Anal. Appl. 2023, arXiv 2212.01127): with s columns Y = H Omega and the core C = Omega^T Y,
//   H^ = Y (C_r)^+ Y^T,
// C_r the r pairs of C largest in magnitude. C of an indefinite H can be nearly singular, which ruins the
// plain formula; r = 2 s / 3 avoids it. U and Lambda are those of H^: with Y = Q R, of R (C_r)^+ R^T. Cost: s
// products, independent of each other; 2 D s^2 flops, D s numbers of memory (twice SEIGH's at the same
// products).
#pragma once

#include "seigh/core/context.h"
#include "seigh/eigen/options.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// k leading pairs from s products (products = 0: 2 k). Throws Error on invalid options.
EigenResult nystrom(LinearOperator& op, const SolverOptions& options, const Context& context = Context());

}  // namespace seigh
