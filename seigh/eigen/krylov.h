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
// Small blocks reach a higher degree for the same products, and so a smaller error. What a Krylov space has
// no part in, as copies of an eigenvalue of higher multiplicity than the block, no residual tells: before the
// iteration ends, what the basis leaves of H is bounded (complement.h), and where that admits a wanted
// eigenvalue, its leading directions and fresh random ones join the basis.
//
// Cost: `products` products; 4 D p^2 flops for a basis of p columns, at the operator's precision with sums of
// panels in float64; O(p^3) in float64 for each Rayleigh-Ritz; D (p + 4 b) numbers of memory, or, with the
// basis on disk, D 4 b of memory, D (p + k) of disk and three passes over p columns for a block, 3 D p^2 / (2
// b) numbers read in all. Ranks hold the basis by rows, D p / n numbers each; they exchange blocks [D, b] and
// small matrices. On an operator's device with room for it beside the products (what one takes is measured,
// by one or two that count as none) the basis is there, and all that is tall; small matrices, and in the end
// the eigenvectors, are on the host. Where there is room for the blocks alone, rows of the basis are on the
// host and brought there panel by panel, three times for a block. The products of a block depend on those
// before it: for products that must be independent of each other use seigh().
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/core/context.h"
#include "seigh/eigen/options.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// Where nothing is asked for, what residuals and enclosures are to meet, in terms of |lambda_1|.
inline constexpr double kKrylovTolerance = 1e-3;

/// Sizes of a block Krylov iteration, in columns and bytes.
struct KrylovSizes {
  int64_t products;        ///< at most, those of probes and checks not counted
  bool until_found;        ///< no number of products, tolerance or error was asked for: to kKrylovTolerance
  int64_t block;           ///< vectors per product: k / 20 between 8 (from D = 10^5 on, 16) and 32
  int64_t full_basis;      ///< columns where there are no restarts: what the products call for
  int64_t smallest_basis;  ///< that there must be room for at least: what k pairs and restarts take
  int64_t ideal_basis;     ///< aimed at: the full basis, or as much of it as options.basis allows
  int64_t working_memory;  ///< bytes beside the basis and the operator's
  int64_t on_device;       ///< the same where the basis is on a device, of it
  int64_t beside_device;   ///< and of the host, but for the eigenvectors
};
KrylovSizes krylov_sizes(const SolverOptions& options, int64_t dimension, at::ScalarType dtype,
                         const Ranks& ranks = Ranks());

/// A basis on a device, of columns of `column` bytes: how many, and how many bytes of all of them are there,
/// the others on the host. `room`: what the device has for it and, where some are on the host, for a copy of
/// `block` columns, `host` what that has, for k eigenvectors too.
struct DeviceShare {
  int64_t columns, bytes;
};
DeviceShare device_share(int64_t column, int64_t k, int64_t block, int64_t ideal, int64_t room, int64_t host);

/// Throws Error on invalid options, when memory or disk are too little for the smallest basis, or when a
/// product is not finite. Not reaching the tolerance is no error: see EigenResult::converged and the
/// residuals.
EigenResult krylov(LinearOperator& op, const SolverOptions& options, const Context& context = Context());

}  // namespace seigh
