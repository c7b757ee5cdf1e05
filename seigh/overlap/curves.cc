#include "seigh/overlap/curves.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/overlap/best_overlap.h"
#include "seigh/overlap/masks.h"

namespace seigh {
namespace {

// Fewer would say little of a deviation, and cost little less.
constexpr int64_t kLeastSamples = 200;

// The score of a parameter over the median one.
double contrast(const at::Tensor& scores, int64_t index, const std::vector<char>& eligible) {
  const at::Tensor values = scores.to(at::kCPU, at::kDouble).contiguous();
  const double* value = values.const_data_ptr<double>();
  std::vector<double> sizes;
  for (size_t i = 0; i < eligible.size(); ++i)
    if (eligible[i] != 0) sizes.push_back(std::abs(value[i]));
  const auto middle = sizes.begin() + static_cast<int64_t>(sizes.size() / 2);
  std::nth_element(sizes.begin(), middle, sizes.end());
  return *middle > 0 ? std::abs(value[index]) / *middle : std::numeric_limits<double>::infinity();
}

}  // namespace

void OverlapCurves::bound_magnitude(const at::Tensor& errors) {
  require(errors.dim() == 1 && errors.numel() >= magnitude.numel(), "there are ", magnitude.numel(),
          " overlaps, but errors of ", errors.numel(), " eigenspaces");
  const at::Tensor mine = errors.slice(0, 0, magnitude.numel());
  magnitude_low = (magnitude.sqrt() - mine).clamp_min(0).square();
  magnitude_high = (magnitude.sqrt() + mine).clamp_max(1).square();
}

void OverlapCurves::spread_magnitude(const Eigenspace& space, const at::Tensor& replicates) {
  const int64_t k = magnitude.numel(), groups = replicates.size(0), n = std::min(replicates.size(2), k);
  require(replicates.size(1) == space.count() && replicates.size(2) <= space.count(), "replicates of shape ",
          replicates.sizes(), " are not of ", space.count(), " eigenvectors");
  const at::Tensor rows = space.rows(mask).cpu().to(at::kDouble);
  std::vector<at::Tensor> curves;
  for (int64_t group = 0; group < groups; ++group) {
    const at::Tensor block = at::matmul(rows.slice(0, 0, n), replicates[group].to(at::kDouble));
    curves.push_back(nested_overlap(block.slice(1, 0, n)));
  }
  const at::Tensor all = at::stack(curves);
  const double share = static_cast<double>(groups - 1) / static_cast<double>(groups);
  magnitude_deviation = at::full({k}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  // About the whole sketch's curve, not about their mean: what smaller sketches shift it by counts, too.
  magnitude_deviation.slice(0, 0, n).copy_(
      (all - magnitude.slice(0, 0, n)).square().sum(0).mul(share).sqrt());
}

void OverlapOptions::validate() const {
  constexpr int64_t kMost = 1'000'000;
  require(2 <= random_masks && random_masks <= kMost, "overlap: random_masks is ", random_masks,
          "; a standard deviation needs at least 2, and none more than ", kMost);
  require(piece_bytes > 0, "overlap: piece_bytes must be positive, not ", piece_bytes);
}

OverlapCurves overlap_curves(const Eigenspace& space, const at::Tensor& scores,
                             const std::vector<UnitLayout>& layouts, const OverlapOptions& options,
                             const Context& context) {
  options.validate();
  const Context::Scope scope(context);
  const int64_t d = space.dimension();
  require(space.count() >= 1 && space.count() <= d, "an eigenspace of ", space.count(), " vectors in ", d,
          " dimensions has no overlap curve");
  require(scores.numel() == d, "there are ", scores.numel(), " parameters, but the eigenvectors have ", d,
          " entries");
  const std::vector<char> eligible = eligible_parameters(layouts);
  require(static_cast<int64_t>(eligible.size()) == d, "the tensors hold ", eligible.size(),
          " parameters, but there are ", d);

  OverlapCurves result;
  result.eligible = eligible_count(layouts);
  require(result.eligible >= 1, "there are no parameters that a mask may hold");
  const int64_t k = std::min(space.count(), result.eligible);
  result.mask = magnitude_order(scores, k, eligible);
  result.tied = tied_at(scores, result.mask, eligible);
  result.contrast = contrast(scores, result.mask[k - 1].item<int64_t>(), eligible);
  const std::unique_ptr<const Eigenspace> copy = copy_on_device(space, context);
  const Eigenspace& near = copy ? *copy : space;
  result.magnitude = curves_of(near, {result.mask}, options.piece_bytes, context)[0].clone();
  result.best = best_overlap(near, options.piece_bytes, context, eligible).slice(0, 0, k).clone();
  result.nulls = overlap_nulls(near, result.mask, layouts,
                               {.samples = std::max(options.random_masks, kLeastSamples),
                                .seed = options.seed,
                                .piece_bytes = options.piece_bytes},
                               context);
  result.chance = result.eligible == d ? at::arange(1, k + 1, at::kDouble) / static_cast<double>(d)
                                       : result.nulls.uniform.mean.clone();
  const auto band = [&](Grouping grouping, const NullCurve& curve) {
    return simultaneous_band(near, grouping, result.mask, result.magnitude, curve, layouts,
                             options.random_masks, options.seed, options.piece_bytes, 0.95, context);
  };
  result.bands = {.layer = band(Grouping::layer, result.nulls.layer),
                  .output_unit = band(Grouping::output_unit, result.nulls.output_unit),
                  .input_unit = band(Grouping::input_unit, result.nulls.input_unit)};
  return result;
}

}  // namespace seigh
