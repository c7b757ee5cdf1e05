// How far a computed eigendecomposition can be trusted: what is known of every eigenvalue by its index, found
// or not, and what follows for each pair.
//
// Enclosures. Let V1 hold the vectors that were multiplied, H V1 = V1 T + V2 S, and B = P H P for the
// projector P on the complement of V1, with eigenvalues at most eta. Then, by Cauchy's interlacing from below
// and Weyl's monotonicity from above (H is at most the matrix with B replaced by eta I; a Lehmann-type bound,
// Parlett, "The Symmetric Eigenvalue Problem", ch. 10-11), for the i-th largest eigenvalue
//   theta_i <= lambda_i(H) <= max(lambda_i [[T, S^T], [S, eta I]], eta);
// the same of -H for the other end. Of a decomposition H^ with |H - H^|_2 <= eta, lambda_i(H) lies within eta
// of lambda_i(H^) (Weyl).
//
// Pairs. When no other eigenvalue than lambda_i is within `gap` of theta, the angle of u and the eigenvector
// has a sine of at most r / gap (Davis, Kahan 1970), r the residual. Other eigenvalues are, by index, those
// before i, none of which is below the lower bound of lambda_(i-1), and those behind it, none of which is
// above the upper bound of lambda_(i+1): so an eigenvalue that was not found counts as well.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "seigh/eigen/selection.h"

namespace seigh {

/// Enclosures of a matrix' eigenvalues by index from its high end: lower[i] <= lambda_(i+1) <= upper[i], both
/// falling; no eigenvalue behind those is above `rest`.
struct EndBounds {
  std::vector<double> lower, upper;
  double rest = std::numeric_limits<double>::infinity();
};

/// From both ends: `high` of H, `low` of -H.
struct SpectrumBounds {
  EndBounds high, low;
};

/// For a projection T = V1^T H V1 [p, p] with H V1 = V1 T + V2 S, S [w, p], of an operator of `dimension`
/// rows: eigenvalues of B are at most eta_high, those of -B at most eta_low (infinity: not known).
/// `rounding`: what T and S may be off by in the spectral norm. Three decompositions of p + w rows in
/// float64, where T and S lie. The ends have p entries each.
SpectrumBounds interlacing_bounds(const at::Tensor& t, const at::Tensor& s, double eta_high, double eta_low,
                                  int64_t dimension, double rounding);

/// For pairs with orthonormal vectors, `values` and upper bounds `residuals` on their residuals (float64 [n],
/// any order), and |H - H^|_2 <= eta for H^ made of these pairs. Where an eigenvalue of H^ is further than
/// eta from all behind it, and the intervals value +- residual down to it are disjoint, each of them holds
/// exactly one eigenvalue, and is what is known. The high end has an entry for every positive value, the low
/// for every negative one.
SpectrumBounds perturbation_bounds(const at::Tensor& values, const at::Tensor& residuals, double eta,
                                   int64_t dimension);

/// For all eigenvalues, `values` float64 [D], each within `rounding`.
SpectrumBounds rounding_bounds(const at::Tensor& values, double rounding);

/// How far a pair can be trusted.
enum class Trust : uint8_t {
  noise = 0,  ///< the residual reaches |lambda|, and no enclosure excludes 0: not even its sign is certain
  value = 1,  ///< an eigenvalue lies within the residual and one, by index, in the enclosure; the vector may
              ///< mix those of several, or another may have been missed
  cluster = 2,  ///< certified together with others it cannot be separated from: index range, enclosure and
                ///< the span of all of them
  pair = 3,     ///< certified: eigenvalue, eigenvector and place
};

/// "noise", "value", "cluster", "pair".
std::string to_string(Trust trust);

/// Of the pairs that were selected, all [k].
struct Certificates {
  at::Tensor trust;  ///< uint8, values of Trust
  at::Tensor
      angle;  ///< float64, radians: upper bound on the angle between u_i and the true eigenvector; for a
              ///< cluster on the largest angle between its span and the true one; pi/2 where there is none
  at::Tensor low, high;    ///< float64: the enclosure of the eigenvalue, by index
  at::Tensor first, last;  ///< int64: between which places, counted from 1, the eigenvalue is in the
                           ///< selection's order (of `both`: of its end's); of a cluster's, the cluster's
  /// float64: upper bounds on the distance of span(u_1..u_j) from the span of the true leading j
  /// eigenvectors,
  /// ||sin Theta||_F / sqrt(j) (projection metric, between 0 and 1). As P_out (H - lambda_i) u_i = P_out r_i
  /// for the projector P_out on the eigenvectors left out, ||P_out u_i|| <= ||r_i|| / delta_i with delta_i
  /// the distance of lambda_i from the eigenvalues left out, found or not; sum_i ||P_out u_i||^2 =
  /// ||sin Theta||_F^2. By magnitude, those left out of the leading j are at most as large as the (j + 1)-th
  /// largest upper bound, whichever of +lambda and -lambda comes first.
  at::Tensor subspace;

  int64_t certified() const;  ///< how many are pairs or in clusters
};

/// Certified pairs have 2 r < gap and are among the `wanted` first of the selection; a cluster spreads over
/// no more than 1/20 of its value. Eigenvalues are equal when they differ by less than 1e-4 of their value: a
/// vector among those of equal ones is certified, as a cluster, also where not all of them were found, and
/// its angle is the one with the span of them all.
///
/// spectrum, residuals: float64 [n], all pairs that were found, the k <= n selected ones first, in the
/// selection's order; bounds: as made of these pairs; dimension: D.
Certificates certify_pairs(const at::Tensor& spectrum, const at::Tensor& residuals, int64_t k,
                           Selection selection, int64_t wanted, const SpectrumBounds& bounds,
                           int64_t dimension);

/// Bounds on the share of ||H||_F^2 outside the k leading pairs, for every k [TYUC19, Sec. 6.5]: float64 [K]
/// each,
///   lower(k) = (tail_k / ||H^||)^2,  upper(k) = ((tail_k + err) / ||H^||)^2,  tail_k^2 = sum_{i >= k}
///   lambda_i^2.
struct Scree {
  at::Tensor lower, upper;
};
Scree scree(const at::Tensor& eigenvalues, double error);

}  // namespace seigh
