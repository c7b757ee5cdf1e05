// Randomized block Krylov: block Lanczos from a random block, with full reorthogonalisation, Rayleigh-Ritz
// and thick restart.
//
// Golub, Underwood, "The block Lanczos method for computing eigenvalues" (1977); Musco, Musco, "Randomized
// block Krylov methods for stronger and faster approximate singular value decomposition" (NeurIPS 2015); Wu,
// Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems" (SIAM J. Matrix Anal. Appl.
// 2000). From orthonormal V = [processed | waiting], V1 and V2,
//   H V1 = V1 T + V2 S,   T = V1^T H V1,
// take b columns W of V2, Z = H W - V V^T H W = Q R; W moves to V1, Q to V2. T = Y Theta Y^T gives the Ritz
// pairs (theta_i, V1 y_i), whose residual is ||S y_i||: no product is spent on it. When the basis is full,
// V1 <- V1 Y_l keeps the l leading Ritz vectors (wanted ones, converged or not, and some more), T <-
// Theta_l, S <- S Y_l: the relation above holds on. A converged pair thereby stays locked in the basis.
//
// Small blocks reach a higher degree for the same products, and so a smaller error; eigenvalues of higher
// multiplicity than the block are found only as rounding or exhaustion brings in new directions.
//
// Cost: `products` products; 4 D p^2 flops for a basis of p columns, at the operator's precision with sums of
// panels in float64; O(p^3) in float64 for each Rayleigh-Ritz; D (p + 4 b) numbers of memory, or, with the
// basis on disk, D 4 b of memory, D (p + k) of disk and three passes over p columns for a block, 3 D p^2 / (2
// b) numbers read in all. Ranks hold the basis by rows, D p / n numbers each; they exchange blocks [D, b] and
// small matrices. The products of a block depend on those before it: for products that must be independent of
// each other use seigh().
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/core/filesystem.h"
#include "seigh/core/progress.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

struct KrylovOptions {
  int64_t k = 0;  ///< eigenpairs wanted; with `error` the most that may be needed
  int64_t products =
      0;  ///< at most so many, those of the probes not counted; 0: 2 k, with a tolerance or error 20 k
  double tolerance =
      0;  ///< stop when all residuals are below tolerance |lambda_1|; 0: when they are rounding
  double error =
      0;  ///< take as few pairs as bring the estimated ||H - H^||_F below error ||H||_F; 0: k pairs
  Selection selection = Selection::magnitude;
  uint64_t seed = 0;
  int64_t probes = 30;  ///< products for the a-posteriori error; 0: no certificate of it
  int64_t block = 0;    ///< b; 0: k / 20 between 8 (from D = 10^5 on, 16) and 32
  int64_t basis = 0;    ///< most columns of the basis; 0: what the products and the available memory call for
  Eigenvectors start =
      {};  ///< to begin from, [D, c], such as those of a similar operator; need not be orthonormal
  /// Folder (made if need be) that keeps the state, after each block but not more often than every
  /// save_seconds, except for a basis on disk, at each restart. A later call with the same options and
  /// operator goes on from it; products, tolerance and error may differ. The caller removes it when the
  /// result is safe. Empty: nowhere.
  fs::path state = {};
  double save_seconds = 5;
  /// Keeps the basis in files in `state` even where memory would do. Where it would not, they are there
  /// anyway if there is a folder for them; what does not fit the disk either is made up for by restarts.
  bool on_disk = false;

  /// Throws Error saying which value is out of range.
  void validate(int64_t dimension) const;
  /// `products` and `block` with their defaults filled in, for an operator of that size.
  KrylovOptions resolved(int64_t dimension) const;
  /// Columns of the basis where there are no restarts: what the products call for.
  int64_t full_basis(int64_t dimension) const;
  /// Those that there must be room for at least: what k pairs and restarts take.
  int64_t smallest_basis(int64_t dimension) const;
  /// Those aimed at: the full basis, or as much of it as `basis` allows.
  int64_t ideal_basis(int64_t dimension) const;
  /// Bytes of memory beside the basis and the operator's, for `element` bytes a number.
  int64_t working_memory(int64_t dimension, int64_t element) const;
};

/// Throws Error on invalid options, when memory or disk are too little for smallest_basis(), or when a
/// product is not finite. Not reaching the tolerance is no error: see EigenResult::converged and the
/// residuals.
EigenResult krylov(LinearOperator& op, const KrylovOptions& options, Progress& progress = silent_progress());

}  // namespace seigh
