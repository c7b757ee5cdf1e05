#include "seigh/train/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "seigh/core/error.h"

namespace seigh {
namespace {

constexpr double kMost = std::numeric_limits<float>::max();
constexpr const char *kMomentum = "momentum", *kFirst = "first_moment", *kSecond = "second_moment";

std::vector<const char*> state_names(const OptimizerOptions& options) {
  if (options.kind == OptimizerKind::adamw) return {kFirst, kSecond};
  if (options.momentum > 0) return {kMomentum};
  return {};
}

}  // namespace

OptimizerKind parse_optimizer(const std::string& name) {
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adamw}) {
    if (to_string(kind) == name) return kind;
  }
  fail("unknown optimizer \"", name, "\"; choose sgd or adamw");
}

std::string to_string(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::sgd:
      return "sgd";
    case OptimizerKind::adamw:
      return "adamw";
  }
  fail("optimizer out of range");
}

void OptimizerOptions::validate() const {
  require(0 <= momentum && momentum < 1, "momentum must be at least 0 and below 1, not ", momentum);
  require(kind == OptimizerKind::sgd || momentum == 0, "momentum (", momentum,
          ") belongs to sgd; adamw has beta1 instead");
  require(0 <= weight_decay && weight_decay < kMost,
          "weight decay must not be negative, and finite: ", weight_decay);
  for (const double beta : {beta1, beta2})
    require(0 <= beta && beta < 1, "betas must be at least 0 and below 1, not ", beta);
  require(0 < epsilon && epsilon < kMost, "epsilon must be positive, not ", epsilon);
}

Optimizer::Optimizer(const OptimizerOptions& options, int64_t size, const c10::Device& device)
    : options_(options) {
  options_.validate();
  for (const char* name : state_names(options_))
    state_[name] = at::zeros({size}, at::TensorOptions().dtype(at::kFloat).device(device));
}

Optimizer::Optimizer(const OptimizerOptions& options, int64_t size, const OptimizerState& state,
                     int64_t steps_done, const c10::Device& device)
    : Optimizer(options, size, device) {
  if (steps_done == 0) return;
  for (auto& [name, tensor] : state_) {
    const auto found = state.find(name);
    require(found != state.end(), "the checkpoint of step ", steps_done, " lacks the optimizer's ", name,
            "; continue from an earlier one");
    require(found->second.sizes() == tensor.sizes(), "the optimizer's ", name, " has shape ",
            found->second.sizes(), ", not ", tensor.sizes());
    tensor = found->second.to(device);
  }
}

void Optimizer::step(at::Tensor& parameters, const at::Tensor& gradient, double learning_rate, int64_t t) {
  const OptimizerOptions& o = options_;
  if (o.kind == OptimizerKind::sgd) {
    at::Tensor direction = o.weight_decay > 0 ? gradient + o.weight_decay * parameters : gradient;
    if (o.momentum > 0) {
      at::Tensor& b = state_.at(kMomentum);
      direction = b = b * o.momentum + direction;
    }
    parameters.sub_(direction, learning_rate);
    return;
  }
  at::Tensor &m = state_.at(kFirst), &v = state_.at(kSecond);
  m = m * o.beta1 + gradient * (1 - o.beta1);
  v = v * o.beta2 + gradient.square() * (1 - o.beta2);
  const double power = static_cast<double>(t);
  const double correction1 = 1 - std::pow(o.beta1, power), correction2 = 1 - std::pow(o.beta2, power);
  // Every factor by itself: their products may be beyond float32, which libtorch refuses as a scalar.
  const at::Tensor scale = v.sqrt().div_(std::sqrt(correction2)).add_(o.epsilon);
  if (o.weight_decay > 0) parameters.sub_(parameters * o.weight_decay, learning_rate);
  parameters.addcdiv_(m / correction1, scale, -learning_rate);
}

}  // namespace seigh
