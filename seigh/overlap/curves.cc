#include "seigh/overlap/curves.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <limits>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/overlap/best_overlap.h"
#include "seigh/overlap/masks.h"

namespace seigh {
namespace {

// 1, 2, ..., K: float64 [K].
at::Tensor sizes_up_to(int64_t k) {
  return at::arange(1, k + 1, at::kDouble);
}

// The overlap curve of every order: float64 [orders, K]. Rows of U are asked for in as few calls as the
// memory allows.
at::Tensor curves_of(const Eigenspace& space, const std::vector<at::Tensor>& orders, int64_t piece_bytes,
                     const Context& context) {
  const int64_t k = space.count(), total = static_cast<int64_t>(orders.size());
  const int64_t together = std::clamp<int64_t>(piece_bytes / (8 * k * k), 1, total);
  std::vector<at::Tensor> curves;
  for (int64_t begin = 0; begin < total; begin += together) {
    context.check_cancelled();
    const int64_t n = std::min(together, total - begin);
    const std::vector<at::Tensor> group(orders.begin() + begin, orders.begin() + begin + n);
    const at::Tensor rows = space.rows(at::cat(group)).cpu();
    require(rows.dim() == 2 && rows.size(0) == n * k && rows.size(1) == k,
            "rows of the eigenspace have shape ", rows.sizes(), ", not [", n * k, ", ", k, "]");
    curves.push_back(nested_overlap(rows.reshape({n, k, k})));
  }
  return at::cat(curves);
}

// Standard deviation (n - 1) over the first dimension.
at::Tensor deviation(const at::Tensor& curves) {
  const double degrees = static_cast<double>(curves.size(0) - 1);
  return (curves - curves.mean(0)).square().sum(0).div(degrees).sqrt();
}

}  // namespace

at::Tensor nested_overlap(const at::Tensor& blocks) {
  require(blocks.dim() >= 2 && blocks.size(-1) == blocks.size(-2) && blocks.size(-1) >= 1,
          "nested overlaps need square blocks [..., K, K], got shape ", blocks.sizes());
  require(blocks.scalar_type() == at::kFloat || blocks.scalar_type() == at::kDouble,
          "nested overlaps need float32 or float64, got ", blocks.scalar_type());
  require(blocks.isfinite().all().item<bool>(), "the rows of the eigenvectors hold NaN or infinity");
  // Element (k-1, k-1) of the cumulative sum over both dimensions is the sum over i, j < k.
  const at::Tensor sums = blocks.to(at::kDouble).square().cumsum(-1).cumsum(-2).diagonal(0, -2, -1);
  return sums / sizes_up_to(blocks.size(-1)).to(blocks.device());
}

void OverlapCurves::bound_magnitude(const at::Tensor& errors) {
  require(errors.sizes() == magnitude.sizes(), "there are ", magnitude.numel(), " overlaps, but errors of ",
          errors.numel(), " eigenspaces");
  magnitude_low = (magnitude.sqrt() - errors).clamp_min(0).square();
  magnitude_high = (magnitude.sqrt() + errors).clamp_max(1).square();
}

void OverlapCurves::spread_magnitude(const Eigenspace& space, const at::Tensor& replicates) {
  const int64_t k = magnitude.numel(), groups = replicates.size(0), n = replicates.size(2);
  require(replicates.size(1) == k && n <= k, "replicates of shape ", replicates.sizes(), " are not of ", k,
          " eigenvectors");
  const at::Tensor rows = space.rows(mask).cpu().to(at::kDouble);
  std::vector<at::Tensor> curves;
  for (int64_t group = 0; group < groups; ++group) {
    const at::Tensor block = at::matmul(rows.slice(0, 0, n), replicates[group].to(at::kDouble));
    curves.push_back(nested_overlap(block));
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

OverlapCurves overlap_curves(const Eigenspace& space, const at::Tensor& parameters,
                             const std::vector<int64_t>& layer_sizes, const OverlapOptions& options,
                             const Context& context) {
  options.validate();
  const Context::Scope scope(context);
  const int64_t d = space.dimension(), k = space.count();
  require(k >= 1 && k <= d, "an eigenspace of ", k, " vectors in ", d, " dimensions has no overlap curve");
  require(parameters.numel() == d, "there are ", parameters.numel(),
          " parameters, but the eigenvectors have ", d, " entries");
  int64_t in_layers = 0;
  for (const int64_t size : layer_sizes) in_layers += size;
  require(in_layers == d, "the layers hold ", in_layers, " parameters, but there are ", d);

  OverlapCurves result;
  result.mask = magnitude_order(parameters, k);
  result.chance = sizes_up_to(k) / static_cast<double>(d);

  const int64_t draws = options.random_masks;
  std::vector<at::Tensor> orders{result.mask};
  for (int64_t draw = 0; draw < draws; ++draw) orders.push_back(random_order(d, k, options.seed, draw));
  for (int64_t draw = 0; draw < draws; ++draw) {
    orders.push_back(random_order_by_layer(result.mask, layer_sizes, options.seed, draw));
  }
  const at::Tensor curves = curves_of(space, orders, options.piece_bytes, context);
  const at::Tensor random = curves.narrow(0, 1, draws), by_layer = curves.narrow(0, 1 + draws, draws);
  result.magnitude = curves[0].clone();
  result.random_mean = random.mean(0);
  result.random_std = deviation(random);
  result.random_by_layer_mean = by_layer.mean(0);
  result.random_by_layer_std = deviation(by_layer);
  result.best = best_overlap(space, options.piece_bytes, context);
  return result;
}

}  // namespace seigh
