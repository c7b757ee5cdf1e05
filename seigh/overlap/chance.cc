#include "seigh/overlap/chance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>

#include "seigh/core/error.h"

namespace seigh {
namespace {

void require_subspace(int64_t k, int64_t dimension) {
  require(k >= 1 && k <= dimension, "a subspace of ", dimension, " dimensions cannot have k = ", k);
}

}  // namespace

double chance_overlap(int64_t k, int64_t dimension) {
  require_subspace(k, dimension);
  return static_cast<double>(k) / static_cast<double>(dimension);
}

double chance_variance(int64_t k, int64_t dimension) {
  require_subspace(k, dimension);
  if (k == dimension) return 0.0;  // 0 / 0 for D = 1
  const double d = static_cast<double>(dimension);
  const double rest = static_cast<double>(dimension - k) / d;
  return 2.0 * rest * rest / ((d - 1.0) * (d + 2.0));
}

double random_mask_variance(const at::Tensor& leverage, int64_t k) {
  require(leverage.dim() == 1 && leverage.numel() >= 2, "leverage scores are a vector [D], D >= 2, got ",
          leverage.sizes());
  require(leverage.isfinite().all().item<bool>(), "the leverage scores hold NaN or infinity");
  require_subspace(k, leverage.numel());
  const at::Tensor scores = leverage.to(at::kDouble);
  const double d = static_cast<double>(leverage.numel());
  const double s2 = (scores - scores.mean()).square().sum().item<double>() / (d - 1.0);
  return (1.0 - static_cast<double>(k) / d) * s2 / static_cast<double>(k);
}

}  // namespace seigh
