// What the Grassmannian metrics say of pairs that have nothing in common: the synthetic study of Fernandez,
// Schneider, Mahsereci, Hennig, TMLR 2025, Sec. 4. Independent pairs of k-dimensional subspaces of R^D, Haar
// (uniformly random) ones and masks, over D and rho, k = max(round(rho D), 1).
//
// Of each D, `pairs` pairs are drawn once, and all k take the leading columns of a basis and the leading
// entries of a mask: the cells of one D share their pairs, those of different D are independent. Subspaces
// with k > D/2 have 2k - D angles of zero for certain, and the others are those of their complements: there
// the leading D - k columns span the complement. So a pair costs two QR decompositions [D, m] and, by k, two
// singular value problems [min(k, D - k)]^2, m the largest of these; masks against masks are counted.
//
// A basis is the Q of a Gaussian matrix. Its columns would need signs to be Haar as a basis; subspaces do
// not.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "seigh/core/context.h"

namespace seigh {

struct SyntheticOptions {
  int64_t pairs = 50;
  /// The cells that are shown over D, a line for each ratio, ...
  std::vector<int64_t> dimensions = {16, 32, 64, 128, 256, 512, 1024, 2048};
  std::vector<double> ratios = {0.4, 0.2, 0.05, 0.01, 0.005};
  /// ... and those over the ratio, a line for each dimension.
  std::vector<int64_t> fine_dimensions = {128, 256, 512, 1024};
  std::vector<double> fine_ratios = {1.0, 0.99, 0.95, 0.9, 0.6, 0.3, 0.1, 0.05, 0.01, 0.005};

  /// Throws Error naming the field: 2 to 10 000 pairs, dimensions of 2 to 4096, ratios in (0, 1], lists
  /// without repeats of 1 to 100 entries, 10^6 pairs in all cells together.
  void validate() const;
};

enum class PairKind { haar_haar, mask_mask, haar_mask };
inline constexpr std::array<PairKind, 3> all_pair_kinds{PairKind::haar_haar, PairKind::mask_mask,
                                                        PairKind::haar_mask};
/// "Haar-Haar".
std::string_view pair_kind_name(PairKind kind);
/// The seven of metrics.h in their order, and intersection over union, of masks only.
const std::vector<std::string>& synthetic_metrics();
/// Is it 1 for equal subspaces (overlap, intersection over union), or 0?
bool is_similarity(const std::string& metric);

struct SyntheticStudy {
  at::Tensor dimension;  ///< int64 [cells], rising
  at::Tensor ratio;      ///< float64 [cells], falling within a dimension
  at::Tensor k;          ///< int64 [cells]
  at::Tensor values;     ///< float64 [kinds, metrics, cells, pairs]; NaN: no such metric of this kind
};

/// The size max(round(ratio D), 1).
int64_t synthetic_size(int64_t dimension, double ratio);

/// All cells of both grids. The same numbers, bit for bit, on any number of threads. Reports pairs, of all
/// dimensions, to the progress. Throws Error (validate) and Cancelled.
SyntheticStudy synthetic_study(const SyntheticOptions& options, uint64_t seed,
                               const Context& context = Context());

inline constexpr std::array<double, 5> synthetic_levels{0.05, 0.25, 0.5, 0.75, 0.95};
/// Quantiles over the pairs at these levels, between order statistics linearly: float64 [kinds, metrics,
/// cells, 5].
at::Tensor synthetic_quantiles(const SyntheticStudy& study);

/// How a metric's median follows k/D, by kind of pair. As a similarity: s is overlap or intersection over
/// union, or one minus the distance. A cell is *resolved* where two k-masks have at least one parameter in
/// common on average, k^2/D >= 1: below, the median of masks' overlap is 0 whatever the metric.
struct MetricFinding {
  std::string metric;
  std::array<double, 3> off{};           ///< max |median s - k/D| over all cells
  std::array<double, 3> off_resolved{};  ///< over the resolved ones
  /// Share of the resolved cells with k < D in which median s < .01: "orthogonal".
  std::array<double, 3> saturated{};
  /// Of log median s on log k/D over the resolved cells with k < D, least squares; NaN where a median is 0,
  /// or with fewer than two sizes.
  std::array<double, 3> slope{};
  double between_kinds = 0;  ///< largest difference of medians of two kinds in one resolved cell
  /// Does the median tell k/D, of every kind of pair: off_resolved <= .1, nothing saturated, slope within
  /// .1 of 1?
  bool follows = false;
};
inline constexpr double kSaturated = 0.01, kFollows = 0.1, kSlope = 0.1;
/// One for each metric. NaN where there is no resolved cell, or no such kind.
std::vector<MetricFinding> synthetic_findings(const SyntheticStudy& study);

}  // namespace seigh
