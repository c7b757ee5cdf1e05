// What overlap to expect by chance: closed forms for the two null models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seigh {

/// Expected overlap k / D of two k-dimensional subspaces of R^D, one of them Haar-random, or of a uniformly
/// random mask of k parameters and any fixed k-dimensional subspace. Error unless 1 <= k <= D.
double chance_overlap(int64_t k, int64_t dimension);

/// Variance of the overlap of a fixed and a Haar-random k-dimensional subspace of R^D (real):
///   2 (D - k)^2 / (D^2 (D - 1) (D + 2)).
/// Error unless 1 <= k <= D. Fernandez et al., TMLR 2025.
double chance_variance(int64_t k, int64_t dimension);

/// Expected intersection over union of two uniformly random masks of k of D parameters, |∩| being
/// hypergeometric:
///   sum_j P(j) j / (2 k - j),   P(j) = C(k, j) C(D - k, k - j) / C(D, k).
/// Somewhat above ov / (2 - ov) at ov = k / D, most for few parameters. O(k) time at most. Error unless 1 <=
/// k <= D.
double chance_intersection_over_union(int64_t k, int64_t dimension);

/// Variance of the overlap of a uniformly random mask of k parameters and a *fixed* k-dimensional subspace
/// with leverage scores l_i = sum_j U_ij^2: that of the mean of k of the D scores drawn without replacement,
///   (1 - k / D) S^2 / k,  S^2 = sum (l_i - mean)^2 / (D - 1).
/// leverage: [D], float32 or float64, finite, D >= 2. Error otherwise, or unless 1 <= k <= D.
double random_mask_variance(const at::Tensor& leverage, int64_t k);

}  // namespace seigh
