#include "seigh/overlap/chance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cmath>

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

double chance_intersection_over_union(int64_t k, int64_t dimension) {
  require_subspace(k, dimension);
  const double size = static_cast<double>(k), d = static_cast<double>(dimension);
  // Weights from the most likely count on, downwards and upwards: P(j + 1) / P(j) = (k - j)^2 / ((j + 1) (D -
  // 2k + j + 1)).
  const auto ratio = [&](double j) { return (size - j) * (size - j) / ((j + 1) * (d - 2 * size + j + 1)); };
  constexpr double kNothing = 1e-20;
  const double least = static_cast<double>(std::max<int64_t>(0, 2 * k - dimension));
  const double middle = std::clamp(std::floor((size + 1) * (size + 1) / (d + 2)), least, size);
  double weights = 0, sum = 0;
  const auto add = [&](double j, double weight) {
    weights += weight;
    sum += weight * j / (2 * size - j);
  };
  add(middle, 1);
  double weight = 1;
  for (double j = middle; j < size && weight > kNothing; ++j) add(j + 1, weight *= ratio(j));
  weight = 1;
  for (double j = middle; j > least && weight > kNothing; --j) add(j - 1, weight /= ratio(j - 1));
  return sum / weights;
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
