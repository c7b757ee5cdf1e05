// Chance, from coarse to fine: what overlap a mask would have if one property of it were kept and the rest
// were random, against the eigenspace as it is.
//
// With l_i(k) = sum_{j < k} U_ij^2 the leverage of parameter i and groups g of N_g parameters of which the
// mask of k holds n_g, masks that keep these counts have an overlap of
//
//   mean      (1/k) sum_g n_g mean_g
//   variance  (1/k^2) sum_g n_g (N_g - n_g) / (N_g - 1) s_g^2        (nothing where N_g = 1)
//
// with mean_g and s_g^2 the mean and the population variance of l(k) in g: sampling without replacement in
// each group (Cochran, Sampling Techniques, 1977, Thms 2.1, 2.2, 5.3). The *two-way* null keeps the counts of
// every row and every column of every tensor and has no closed form: it is sampled by a Markov chain
// (swaps.h), whose mixing is shown beside.
//
// So overlap over chance is a product that can be read: which layer, which units, which parameter. Under the
// two-way null all masks with its counts are equally likely, as they are where a parameter's odds are a
// number for its row times one for its column. Of magnitudes that are such a product times normal noise the
// parameter factor lies a few per cent below 1, though no parameter matters as such (docs/theory.md has
// figures).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/joint_null.h"
#include "seigh/overlap/units.h"

namespace seigh {

struct NullOptions {
  std::vector<int64_t> sizes = {};  ///< mask sizes for the two-way null, rising; none: null_sizes(K)
  int64_t samples = 200;  ///< of the two-way null at each size, at least 2; rounded up to whole chains
  int64_t chains = 4;     ///< Markov chains they come from, 1 to 1000
  uint64_t seed = 0;
  int64_t piece_bytes = int64_t{256} << 20;  ///< memory for the rows of U held at a time
  int64_t memory = 0;  ///< for sums and leverages held at a time; 0: a quarter of what the context has
  /// Error saying which value is out of range; `count`: K.
  void validate(int64_t count) const;
};

/// Ten sizes from 1 to K, logarithmically spaced, without repetitions; both ends are among them.
std::vector<int64_t> null_sizes(int64_t count);

/// A null with a closed form, over k = 1..K: float64 [K].
struct NullCurve {
  at::Tensor mean, deviation;  ///< of the overlap
  /// Share of the mask in groups with 0 < n_g < N_g: elsewhere there is nothing to shuffle.
  at::Tensor free;
};

/// The sampled null at n sizes: float64 [n], but for sizes.
struct TwoWayNull {
  at::Tensor sizes;            ///< int64 [n]
  at::Tensor overlap;          ///< the mask's own
  at::Tensor mean, deviation;  ///< over masks (n - 1), not of the mean: that is deviation / sqrt(effective)
  at::Tensor free;             ///< share of the mask's entries that some swap has moved
  at::Tensor samples;
  at::Tensor acceptance;       ///< share of proposed swaps that changed something
  at::Tensor autocorrelation;  ///< integrated autocorrelation time of the overlap, in samples, at least 1
  at::Tensor effective;        ///< samples over it
  /// Two-sided: twice the smaller share of masks, this one included, with an overlap at least as large or at
  /// least as small; at most 1.
  at::Tensor p;
};

struct OverlapNulls {
  NullCurve uniform;      ///< keeps nothing but k
  NullCurve layer;        ///< keeps the counts of every tensor
  NullCurve output_unit;  ///< of every output unit; a tensor without units counts as one
  NullCurve input_unit;
  TwoWayNull two_way;
  JointNull joint;  ///< at the sizes of the two-way null; undefined where the units are not known
  bool defined() const { return two_way.sizes.defined(); }
};

/// An overlap as a product, overlap = chance * layer * units * parameter.
struct OverlapFactors {
  int64_t size = 0;
  double overlap = 0;
  double chance = 0;     ///< mean of the uniform null
  double layer = 0;      ///< mean of the layer null over chance
  double units = 0;      ///< mean of the two-way null over that of the layer null
  double parameter = 0;  ///< overlap over the mean of the two-way null
  /// Of the overlap in the two-way null, in standard deviations; NaN where that null has only one mask. Says
  /// little with few entries free to move, leverages being heavy-tailed: then p.
  double z = 0;
  double p = 0;
  int64_t free = 0;  ///< entries of the mask that are free to move in the two-way null
  bool few() const { return free < 100; }
};

/// Those of size number i of the two-way null. `mask_size`: of a fixed mask; 0: as many as the space has
/// vectors.
OverlapFactors overlap_factors(const OverlapNulls& nulls, int64_t i, int64_t mask_size = 0);

/// All nulls of the nested masks that the first k of `order` are, k = 1..K.
///
/// order: int64 [K], distinct parameters that masks may hold, as magnitude_order() gives, no more than there
/// are eigenvectors. layouts: of the parameter tensors, in the order of the flat vector, summing to D; chance
/// is over those that masks may hold. One pass over the rows of U, or several where memory is short,
/// some ten D K flops each; a mask meets at most 3 K groups, so up to 48 K^2 bytes, and 8 bytes for every
/// size and parameter in the rows and columns that the mask meets. Samples: 2 K to 40 K steps each, by
/// acceptance, of tenths of a microsecond each, and 20 K to begin with for each chain. The result depends
/// neither on threads nor on memory, bit for bit; where passes are the device's (leverage_panels.h), to
/// rounding. Error on what does not fit or is not finite. Throws
/// Cancelled. Progress: "null models" in rows.
OverlapNulls overlap_nulls(const Eigenspace& space, const at::Tensor& order,
                           const std::vector<UnitLayout>& layouts, const NullOptions& options = {},
                           const Context& context = Context());

/// The same nulls of one mask of m parameters, as a lottery ticket is, against spaces of any k: curves and
/// the two-way null are at the spaces given, whose k are its `sizes`.
///
/// leverage: float64 [n, D], l_i(k) for each of the n `spaces`, rising; mask: int64 [m], CPU. One chain
/// serves all spaces; 8 n bytes for every parameter in the rows and columns that the mask meets, so up to
/// those of `leverage`. options.sizes does not matter.
OverlapNulls fixed_mask_nulls(const at::Tensor& leverage, const std::vector<int64_t>& spaces,
                              const at::Tensor& mask, const std::vector<UnitLayout>& layouts,
                              const NullOptions& options = {}, const Context& context = Context());

}  // namespace seigh
