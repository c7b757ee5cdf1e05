// Small networks with small data, and gradients to difference, for tests of curvature.
#pragma once

#include <ATen/ATen.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "seigh/core/random.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"

namespace seigh::test {

/// Gaussian inputs [n, features] and labels 0, 1, ..., classes - 1, 0, ...
inline Dataset gaussian_data(int64_t n, int64_t features, int64_t classes, uint64_t seed = 1) {
  return {random_gaussian(seed, Stream::test, n, 0, features, at::kFloat), at::arange(n).remainder(classes),
          classes};
}

/// Gradient of the mean loss at `parameters`, float64, by one plain backward pass over all samples.
inline at::Tensor plain_gradient(const Model& model, const at::Tensor& parameters, const Dataset& data,
                                 LossKind loss) {
  const at::Tensor leaf = parameters.detach().to(at::kDouble).requires_grad_(true);
  const at::Tensor outputs = model.forward(unflatten(model.parameters(), leaf), {}, data.x.to(at::kDouble));
  return torch::autograd::grad({loss_sum(loss, outputs, data.y) / data.size()}, {leaf})[0];
}

/// H v by central differences of gradients: error about h^2 |L''''| + eps |g| / h, near 1e-9 at h = 1e-4.
inline at::Tensor difference_product(const Model& model, const at::Tensor& parameters, const Dataset& data,
                                     LossKind loss, const at::Tensor& v) {
  const double h = 1e-4;
  const at::Tensor p = parameters.to(at::kDouble), d = v.to(at::kDouble);
  return (plain_gradient(model, p + h * d, data, loss) - plain_gradient(model, p - h * d, data, loss)) /
         (2 * h);
}

}  // namespace seigh::test
