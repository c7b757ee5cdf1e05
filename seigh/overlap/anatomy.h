// Where an eigenspace lies, and where a mask lies in it: by tensor, by size, within units.
//
// With l_i(k) = sum_{j < k} U_ij^2 the leverage of parameter i:
//   energy_tj = sum_{i in tensor t} U_ij^2, so that sum_{j < k} energy_tj / k is the tensor's share of the
//   top
//     space, and sum_t energy_tj^2 says how far vector j keeps to few tensors (of a Haar-random vector
//     sum_t N_t (N_t + 2) / (D (D + 2)));
//   participation_j = sum_i U_ij^4, 1 on a single parameter, 3 / (D + 2) of a Haar-random vector: the inverse
//     participation ratio (Bell and Dean, Discuss. Faraday Soc. 50, 1970);
//   ceiling = (ov - null) / (best - null), best the mask of largest leverages with the same counts by group;
//   correlation: of the ranks of |score| and of leverage l(K) within groups, pooled (Spearman's; Lehmann,
//     Nonparametrics, 1975, Sec. 7.4), with its standard deviation under permutation within groups, which is
//     exact: sum_g A_g B_g / (N_g - 1) for sums of squares A_g, B_g of centred ranks. Two-way: of ranks
//     within a tensor from which row and column means have been taken; its deviation is that of as many
//     independent pairs as there are degrees of freedom.
//
// Cost: one pass over the rows of U, or several where memory is short, some 6 D K flops, on the context's
// device where that has room (leverage_panels.h); 8 D bytes a size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/joint_null.h"
#include "seigh/overlap/units.h"

namespace seigh {

/// Of an eigenspace of K vectors over T tensors (their parts taken together), float64.
struct SpaceAnatomy {
  at::Tensor energy;         ///< [T, K]
  at::Tensor participation;  ///< [K]
  bool defined() const { return energy.defined(); }
};

struct RankCorrelation {
  double value = 0, deviation = 0;  ///< NaN where no group has two parameters of different ranks
};

/// Of a mask, float64; n sizes k as of its two-way null.
struct MaskAnatomy {
  at::Tensor sizes;   ///< int64 [n]
  at::Tensor counts;  ///< int64 [T, n]: parameters of the mask in each tensor
  at::Tensor within;  ///< [T, n]: sum of l_i(k) over them
  /// The share of what masks with the same counts could reach above their null, [n]; NaN where that is
  /// nothing.
  at::Tensor ceiling_layer, ceiling_output_unit, ceiling_input_unit;
  /// By Grouping from layer on, then two-way.
  RankCorrelation layer, output_unit, input_unit, two_way;
  /// Masks of m parameters against spaces of k: mean l_i(k) over the m with the largest score, [m, n], and
  /// its mean over masks with the same counts by layer.
  at::Tensor
      mask_sizes;  ///< int64 [m]: .005, .01, .02, .05, .1, .2, .3 and .5 of those masks may hold, and `ones`
  at::Tensor by_size, by_size_layer;
  JointNull joint;  ///< at `sizes`
  bool defined() const { return sizes.defined(); }
};

/// l_i(k) of all parameters for the `sizes` k, rising: float64 [sizes, D]. One pass over the rows of U.
/// Progress: "where curvature lies" in rows.
at::Tensor leverages(const Eigenspace& space, const std::vector<int64_t>& sizes,
                     int64_t piece_bytes = int64_t{256} << 20, const Context& context = Context());

/// A mask as anatomy() takes it: what overlap_curves() was given, and what it made of it.
struct StudiedMask {
  at::Tensor scores;  ///< [D]
  const std::vector<UnitLayout>* layouts;
  const OverlapCurves* curves;
  /// Size of a mask that is one of its own, as of a lottery ticket: one more of mask_sizes.
  int64_t ones = 0;
  const std::vector<UnitGroup>* units = nullptr;  ///< for the joint null, if there are any
  int64_t permutations = 200;                     ///< of it
  uint64_t seed = 0;
};

struct Anatomy {
  SpaceAnatomy space;
  std::vector<MaskAnatomy> masks;
};

/// Of a space and of masks against it, in one go; layouts[0] decides the tensors. Error on what does not fit.
/// Throws Cancelled. Progress: "where curvature lies" in rows.
Anatomy anatomy(const Eigenspace& space, const std::vector<StudiedMask>& masks,
                int64_t piece_bytes = int64_t{256} << 20, const Context& context = Context());

}  // namespace seigh
