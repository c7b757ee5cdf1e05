// Overlap of nested masks with nested eigenspaces, for every size k at once, beside its null models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/nulls.h"

namespace seigh {

/// ov(k) = (1/k) sum_{i, j < k} B_ij^2 for k = 1..K, from one 2-D cumulative sum: float64 [..., K].
///
/// blocks: [..., K, K], float32 or float64. For a mask, B is the rows of U at the mask's ordered parameters;
/// for two nested subspaces, B = U1^T U2. O(K^2) a block. Error on another shape or dtype, NaN or infinity.
at::Tensor nested_overlap(const at::Tensor& blocks);

struct OverlapOptions {
  int64_t random_masks = 50;                 ///< draws for each of the two random null models, at least 2
  uint64_t seed = 0;                         ///< of the random masks
  int64_t piece_bytes = int64_t{256} << 20;  ///< memory for the rows of U held at a time
  /// Error saying which value is out of range.
  void validate() const;
};

/// Curves over k = 1..K, all float64 [K] on the CPU, k-th value at index k - 1. Deviations are standard
/// deviations over masks (n - 1), not of the mean.
struct OverlapCurves {
  at::Tensor magnitude;    ///< the k parameters largest in magnitude
  at::Tensor best;         ///< the best mask of k parameters, see best_overlap()
  at::Tensor random_mean;  ///< uniformly random masks
  at::Tensor random_std;
  at::Tensor
      random_by_layer_mean;  ///< random masks with as many parameters of each layer as the magnitude mask
  at::Tensor random_by_layer_std;
  at::Tensor chance;  ///< k / D
  at::Tensor mask;    ///< int64 [K]: parameters by falling magnitude; its first k are the magnitude mask
  /// Where the magnitude mask's overlap with the true eigenspaces lies; undefined where that is not known.
  at::Tensor magnitude_low, magnitude_high;

  /// The standard deviation of `magnitude` that comes of the sketch having these columns and not others,
  /// estimated by leaving some out: a spread, no bound, since what all sketches of that size get wrong it
  /// does not see. NaN where k is beyond what was left; undefined where there is no such estimate.
  at::Tensor magnitude_deviation;

  /// What the magnitude mask's overlap is a product of; not defined() unless filled in by overlap_nulls().
  OverlapNulls nulls;

  /// Fills in magnitude_deviation from `replicates` [groups, K, n], eigenvectors in terms of the space's, by
  /// the delete-group jackknife (after Epperly and Tropp, arXiv 2207.06342). One gather of K rows.
  void spread_magnitude(const Eigenspace& space, const at::Tensor& replicates);
  /// Fills in magnitude_low and _high from `errors`, float64 [K]: upper bounds on ||sin Theta||_F / sqrt(k)
  /// between computed and true eigenspaces. With U* = U cos Theta + Z sin Theta in principal bases and P the
  /// mask's projector, ||P U*||_F <= ||P U||_F + ||sin Theta||_F, and the same with the roles exchanged: so
  /// |sqrt ov* - sqrt ov| <= errors.
  void bound_magnitude(const at::Tensor& errors);
};

/// All curves of an eigenspace. parameters: [D], where the curvature was taken; layer_sizes: parameters of
/// each layer, in the order of the flat vector, summing to D. Draws are those of random_order() and
/// random_order_by_layer() numbered 0..random_masks - 1. Costs 2 random_masks + 1 gathers of K rows, joined
/// into few calls of rows(), and one pass of best_overlap(), whose errors and progress are passed on. Error
/// also if parameters or layers do not fit the eigenspace, or a parameter is NaN or infinite.
OverlapCurves overlap_curves(const Eigenspace& space, const at::Tensor& parameters,
                             const std::vector<int64_t>& layer_sizes, const OverlapOptions& options = {},
                             const Context& context = Context());

}  // namespace seigh
