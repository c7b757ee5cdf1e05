// Overlap of nested masks with nested eigenspaces, for every size k at once, beside its null models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/bands.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/nulls.h"
#include "seigh/overlap/units.h"

namespace seigh {

struct OverlapOptions {
  int64_t random_masks = 200;  ///< draws for each simultaneous band, and of the two-way null, at least 2
  uint64_t seed = 0;           ///< of the random masks
  int64_t piece_bytes = int64_t{256} << 20;  ///< memory for the rows of U held at a time
  /// Error saying which value is out of range.
  void validate() const;
};

/// Of the null that keeps the counts of layers, of output units and of input units.
struct OverlapBands {
  SimultaneousBand layer, output_unit, input_unit;
};

/// Curves over k = 1..K of one mask, all float64 [K] on the CPU, k-th value at index k - 1.
struct OverlapCurves {
  at::Tensor magnitude;  ///< the k parameters largest in magnitude, or by another score
  at::Tensor best;       ///< the best mask of k parameters, see best_overlap()
  at::Tensor chance;     ///< of uniformly random masks: k / D where masks may hold every parameter
  at::Tensor mask;       ///< int64 [K]: parameters by falling score; the first k are the mask
  int64_t eligible = 0;  ///< how many parameters masks may hold
  int64_t tied = 1;      ///< how many have the score of the mask's last; index decided between them
  /// The mask's last score over the median of those that masks may hold: infinity where that is 0, NaN in
  /// files of earlier versions.
  double contrast = std::numeric_limits<double>::quiet_NaN();
  /// Where the magnitude mask's overlap with the true eigenspaces lies; undefined where that is not known.
  at::Tensor magnitude_low, magnitude_high;

  /// The standard deviation of `magnitude` that comes of the sketch having these columns and not others,
  /// estimated by leaving some out: a spread, no bound, since what all sketches of that size get wrong it
  /// does not see. NaN where k is beyond what was left; undefined where there is no such estimate.
  at::Tensor magnitude_deviation;

  /// What the mask's overlap is a product of; not defined() in files of earlier versions.
  OverlapNulls nulls;
  OverlapBands bands;

  /// Fills in magnitude_deviation from `replicates` [groups, K, n], eigenvectors in terms of the space's, by
  /// the delete-group jackknife (after Epperly and Tropp, arXiv 2207.06342). One gather of K rows.
  void spread_magnitude(const Eigenspace& space, const at::Tensor& replicates);
  /// Fills in magnitude_low and _high from `errors`, float64 [K]: upper bounds on ||sin Theta||_F / sqrt(k)
  /// between computed and true eigenspaces. With U* = U cos Theta + Z sin Theta in principal bases and P the
  /// mask's projector, ||P U*||_F <= ||P U||_F + ||sin Theta||_F, and the same with the roles exchanged: so
  /// |sqrt ov* - sqrt ov| <= errors.
  void bound_magnitude(const at::Tensor& errors);
};

/// All curves of the masks of the parameters with the largest |score|, with their nulls. scores: [D], the
/// parameters themselves for magnitude; layouts: of the parameter tensors, in the order of the flat vector,
/// summing to D. K is the number of eigenvectors, or of the parameters that masks may hold if that is less.
/// Costs 3 random_masks + 1 gathers of K rows, joined into few calls of rows(), one pass of best_overlap()
/// and those of overlap_nulls(), whose errors and progress are passed on; of copy_on_device() where there is
/// one. Error also if scores or layouts do not fit the eigenspace, or a score is NaN or infinite.
OverlapCurves overlap_curves(const Eigenspace& space, const at::Tensor& scores,
                             const std::vector<UnitLayout>& layouts, const OverlapOptions& options = {},
                             const Context& context = Context());

}  // namespace seigh
