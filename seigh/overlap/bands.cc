#include "seigh/overlap/bands.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "seigh/core/deterministic.h"
#include "seigh/core/error.h"
#include "seigh/overlap/masks.h"

namespace seigh {
namespace {

constexpr double kFewest = 10;  // entries free to move

}  // namespace

at::Tensor nested_overlap(const at::Tensor& blocks) {
  require(blocks.dim() >= 2 && blocks.size(-1) == blocks.size(-2) && blocks.size(-1) >= 1,
          "nested overlaps need square blocks [..., K, K], got shape ", blocks.sizes());
  require(blocks.scalar_type() == at::kFloat || blocks.scalar_type() == at::kDouble,
          "nested overlaps need float32 or float64, got ", blocks.scalar_type());
  require(blocks.isfinite().all().item<bool>(), "the rows of the eigenvectors hold NaN or infinity");
  // Element (k-1, k-1) of the cumulative sum over both dimensions is the sum over i, j < k.
  const at::Tensor sums = blocks.to(at::kDouble).square();
  add_up(sums, -1);
  add_up(sums, -2);
  return sums.diagonal(0, -2, -1) / at::arange(1, blocks.size(-1) + 1, at::kDouble).to(blocks.device());
}

at::Tensor curves_of(const Eigenspace& space, const std::vector<at::Tensor>& orders, int64_t piece_bytes,
                     const Context& context) {
  const int64_t width = space.count(), total = static_cast<int64_t>(orders.size());
  const int64_t k = orders.front().numel();
  require(1 <= k && k <= width, "an order of ", k, " parameters does not fit ", width, " eigenvectors");
  const int64_t together = std::clamp<int64_t>(piece_bytes / (8 * k * width), 1, total);
  std::vector<at::Tensor> curves;
  for (int64_t begin = 0; begin < total; begin += together) {
    context.check_cancelled();
    const int64_t n = std::min(together, total - begin);
    const std::vector<at::Tensor> group(orders.begin() + begin, orders.begin() + begin + n);
    const at::Tensor rows = space.rows(at::cat(group));
    require(rows.dim() == 2 && rows.size(0) == n * k && rows.size(1) == width,
            "rows of the eigenspace have shape ", rows.sizes(), ", not [", n * k, ", ", width, "]");
    curves.push_back(nested_overlap(rows.slice(1, 0, k).reshape({n, k, k})).cpu());
  }
  return at::cat(curves);
}

SimultaneousBand simultaneous_band(const Eigenspace& space, Grouping grouping, const at::Tensor& order,
                                   const at::Tensor& overlap, const NullCurve& curve,
                                   const std::vector<UnitLayout>& layouts, int64_t draws, uint64_t seed,
                                   int64_t piece_bytes, double probability, const Context& context) {
  require(draws >= 2, "a band needs at least 2 random masks, not ", draws);
  require(0 < probability && probability < 1, "the probability of a band lies between 0 and 1, not ",
          probability);
  const at::Tensor sizes = at::arange(1, order.numel() + 1, at::kDouble);
  const at::Tensor tested = (curve.free * sizes >= kFewest - 1e-6).logical_and(curve.deviation > 0);
  SimultaneousBand band;
  band.low = at::full_like(curve.mean, std::numeric_limits<double>::quiet_NaN());
  band.high = band.low.clone();
  if (!tested.any().item<bool>()) return band;

  const at::Tensor mean = curve.mean.masked_select(tested), deviation = curve.deviation.masked_select(tested);
  const auto farthest = [&](const at::Tensor& one) {
    return ((one.masked_select(tested) - mean) / deviation).abs().max().item<double>();
  };
  std::vector<double> maxima;
  // As many orders at a time as their rows may be, so that they are never all there.
  const int64_t together = std::clamp<int64_t>(piece_bytes / (8 * order.numel() * space.count()), 1, draws);
  for (int64_t begin = 0; begin < draws; begin += together) {
    std::vector<at::Tensor> orders;
    for (int64_t draw = begin; draw < std::min(begin + together, draws); ++draw)
      orders.push_back(random_order_within(grouping, order, layouts, seed, draw));
    const at::Tensor curves = curves_of(space, orders, piece_bytes, context);
    for (int64_t i = 0; i < curves.size(0); ++i) maxima.push_back(farthest(curves[i]));
  }
  const double own = farthest(overlap);
  const auto n = static_cast<double>(draws);
  const double reached = static_cast<double>(
      std::count_if(maxima.begin(), maxima.end(), [&](double other) { return other >= own * (1 - 1e-12); }));
  band.p = (1 + reached) / (n + 1);
  std::sort(maxima.begin(), maxima.end());
  // The order statistic whose expected coverage is at least what is asked for; the largest where draws are
  // too few for that.
  const auto rank = static_cast<size_t>(std::ceil((n + 1) * probability));
  const double factor = maxima[std::min(rank, maxima.size()) - 1];
  const at::Tensor reach = curve.deviation * factor;
  band.low = (curve.mean - reach).where(tested, band.low);
  band.high = (curve.mean + reach).where(tested, band.high);
  return band;
}

}  // namespace seigh
