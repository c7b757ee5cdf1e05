// Whether a network can be differentiated twice, and rightly.
#pragma once

#include <ATen/ATen.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <vector>

#include "seigh/core/random.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"

namespace seigh::test {

/// A point of parameter space for the checks below, float64 [D]: the initial parameters plus Gaussian noise
/// of standard deviation 0.1, so that no bias, token or gate is exactly 0, where a ReLU would sit on its
/// kink.
inline at::Tensor generic_point(const Model& model, uint64_t seed) {
  const at::Tensor noise =
      random_gaussian(seed, Stream::test, model.parameter_count(), 1, 1, at::kDouble).select(1, 0);
  return model.initial_parameters(seed).to(at::kDouble) + 0.1 * noise;
}

/// A unit vector, float64 [D].
inline at::Tensor random_direction(int64_t n, uint64_t seed) {
  const at::Tensor v = random_gaussian(seed, Stream::test, n, 2, 1, at::kDouble).select(1, 0);
  return v / v.norm();
}

/// Mean cross-entropy in evaluation mode as a function of the flat parameters; everything in the dtype of
/// `parameters`.
class MeanLoss {
 public:
  MeanLoss(const Model& model, at::Tensor x, at::Tensor y)
      : model_(model), x_(std::move(x)), y_(std::move(y)) {}

  at::Tensor gradient(const at::Tensor& parameters) const {
    const at::Tensor leaf = parameters.detach().clone().requires_grad_(true);
    return torch::autograd::grad({loss(leaf)}, {leaf})[0];
  }
  at::Tensor hessian_product(const at::Tensor& parameters, const at::Tensor& v) const {
    const at::Tensor leaf = parameters.detach().clone().requires_grad_(true);
    const at::Tensor g = torch::autograd::grad({loss(leaf)}, {leaf}, {}, true, /*create_graph=*/true)[0];
    return torch::autograd::grad({g}, {leaf}, {v})[0];
  }

 private:
  at::Tensor loss(const at::Tensor& leaf) const {
    std::vector<at::Tensor> buffers = model_.initial_buffers();
    for (at::Tensor& buffer : buffers) buffer = buffer.to(leaf.scalar_type());
    const at::Tensor x = x_.is_floating_point() ? x_.to(leaf.scalar_type()) : x_;
    return loss_sum(LossKind::cross_entropy, model_.forward(unflatten(model_.parameters(), leaf), buffers, x),
                    y_) /
           target_count(y_);
  }
  const Model& model_;
  at::Tensor x_, y_;
};

/// || H v - (g(p + h v) - g(p - h v)) / 2h || / || H v || in float64 at a generic point, v a unit vector and
/// h = 1e-5: truncation is of the order h^2 = 1e-10, rounding eps / h = 2e-11, each times a ratio of
/// derivatives.
inline double second_derivative_error(const Model& model, const at::Tensor& x, const at::Tensor& y,
                                      uint64_t seed) {
  const MeanLoss loss(model, x, y);
  const at::Tensor p = generic_point(model, seed), v = random_direction(p.size(0), seed);
  const double h = 1e-5;
  const at::Tensor difference = (loss.gradient(p + h * v) - loss.gradient(p - h * v)) / (2 * h);
  const at::Tensor product = loss.hessian_product(p, v);
  return ((product - difference).norm() / product.norm()).item<double>();
}

/// || H v in float32 - H v in float64 || / || H v ||.
inline double single_precision_error(const Model& model, const at::Tensor& x, const at::Tensor& y,
                                     uint64_t seed) {
  const MeanLoss loss(model, x, y);
  // Rounded first, so that both start from the same point.
  const at::Tensor p = generic_point(model, seed).to(at::kFloat),
                   v = random_direction(p.size(0), seed).to(at::kFloat);
  const at::Tensor exact = loss.hessian_product(p.to(at::kDouble), v.to(at::kDouble));
  return ((loss.hessian_product(p, v).to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

}  // namespace seigh::test
