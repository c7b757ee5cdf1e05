// Eigenpairs that were found with rounded products, held against products in full precision.
//
// Products of fewer digits (LinearOperator::rounds()) find a good subspace fast, but say nothing of the
// matrix' own eigenvalues below their rounding. With the k orthonormal vectors U that were found and Z = H U
// in full precision, T = U^T Z and R = Z - U T, a last Rayleigh-Ritz step T = Y Theta Y^T gives the pairs
// (Theta, U Y): eigenvalues are then wrong by the square of what the vectors are wrong by, and residuals,
// enclosures (certificates.h) and estimated errors are those of H itself, with all that a projection by hmt
// knows. How the vectors were found does not matter to any of them.
//
// Where there is no room for Z beside U, the k pairs are taken in m groups, and Ritz vectors are mixed within
// a group only; the parts R_j of R then are not known together, but R^T R <= m diag(R_j^T R_j), and
// enclosures grow with R^T R.
//
// Of several ranks each has its rows of U, and all of a group's columns in turn.
//
// Cost: k products and those of probes (and, of krylov, of checks); 8 D k^2 flops; D k numbers of memory
// beside U, or as much as there is.
#pragma once

#include "seigh/core/context.h"
#include "seigh/eigen/options.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// `found` by a solver with `op`, whose pairs it has not certified, refined if op.rounds(), on the host;
/// otherwise as it is. Ranks call it together. `most`: vectors taken together at most, not formed as a whole;
/// 0: as many as there is room for.
EigenResult refined(LinearOperator& op, EigenResult found, const SolverOptions& options,
                    const Context& context, int64_t most = 0);

/// What it takes beside the vectors, at least: bytes.
int64_t refinement_memory(const SolverOptions& options, int64_t dimension, at::ScalarType dtype);

}  // namespace seigh
