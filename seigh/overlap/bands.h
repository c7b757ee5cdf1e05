// Where curves of overlap over k would lie by chance, for all k at once.
//
// One random order that keeps a mask's counts by group for every k (random_order_within()) gives nested masks
// of all sizes, whose overlaps depend on each other as the mask's own do. With mean(k) and deviation(k) of
// the null in closed form, max over k of |ov(k) - mean(k)| / deviation(k) of n such orders gives the factor c
// for which mean +- c deviation holds a whole curve with a stated probability, and the mask's own maximum its
// permutation p (Westfall and Young, Resampling-Based Multiple Testing, 1993, Sec. 2.3; Ge, Dudoit, Speed,
// Test 12, 2003). Sizes with fewer than ten entries free to move are left out: there leverages, heavy-tailed
// as they are, would decide c alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/nulls.h"
#include "seigh/overlap/units.h"

namespace seigh {

/// ov(k) = (1/k) sum_{i, j < k} B_ij^2 for k = 1..K, from one 2-D cumulative sum: float64 [..., K].
///
/// blocks: [..., K, K], float32 or float64. For a mask, B is the rows of U at the mask's ordered parameters;
/// for two nested subspaces, B = U1^T U2. O(K^2) a block. Error on another shape or dtype, NaN or infinity.
at::Tensor nested_overlap(const at::Tensor& blocks);

/// The overlap curve of every order, each int64 [K], K at most the number of eigenvectors: float64 [orders,
/// K]. Rows of U are asked for in as few calls as `piece_bytes` allow.
at::Tensor curves_of(const Eigenspace& space, const std::vector<at::Tensor>& orders, int64_t piece_bytes,
                     const Context& context);

struct SimultaneousBand {
  /// float64 [K]: a random mask's whole curve lies between them with the probability asked for; NaN where too
  /// few entries are free to move.
  at::Tensor low, high;
  double p =
      1;  ///< of the mask's largest deviation from the null, over all k; 1 where there is nothing to test
};

/// Of one null: `curve` as overlap_nulls() found it for `order`. `overlap` [K]: the mask's own curve.
/// `draws` >= 2 random orders; p is never below 1 / (draws + 1), nor can the band's probability be finer.
/// Costs as many gathers of K rows.
SimultaneousBand simultaneous_band(const Eigenspace& space, Grouping grouping, const at::Tensor& order,
                                   const at::Tensor& overlap, const NullCurve& curve,
                                   const std::vector<UnitLayout>& layouts, int64_t draws, uint64_t seed,
                                   int64_t piece_bytes, double probability = 0.95,
                                   const Context& context = Context());

}  // namespace seigh
