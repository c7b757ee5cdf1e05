// First-order optimizers, as PyTorch's torch.optim.SGD and AdamW define them.
//
// theta are the parameters, g the gradient, eta the learning rate of step t = 1, 2, ..., w the weight decay.
//
// sgd (heavy ball without dampening; the decay is an L2 penalty w/2 |theta|^2 in the gradient):
//   g <- g + w theta;  b <- mu b + g;  theta <- theta - eta b
// adamw (Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019; the decay does not pass
// through the moments):
//   theta <- (1 - eta w) theta;  m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2
//   theta <- theta - eta / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + epsilon)
// b, m and v are zero before the first step.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace seigh {

enum class OptimizerKind { sgd, adamw };

/// "sgd" or "adamw"; throws Error on another name.
OptimizerKind parse_optimizer(const std::string& name);
std::string to_string(OptimizerKind kind);

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::sgd;
  double momentum = 0;      ///< mu of sgd, in [0, 1)
  double weight_decay = 0;  ///< w >= 0, within float32
  double beta1 = 0.9;       ///< of adamw, in [0, 1)
  double beta2 = 0.999;     ///< of adamw, in [0, 1)
  double epsilon = 1e-8;    ///< of adamw, positive, within float32

  /// Throws Error on values outside these ranges, and on a momentum of adamw.
  void validate() const;
};

/// What an optimizer remembers from step to step: flat float32 [D] by name. sgd with momentum: "momentum"
/// (b); adamw: "first_moment" (m) and "second_moment" (v); plain sgd: nothing.
using OptimizerState = std::map<std::string, at::Tensor>;

/// A value: step() makes new state tensors and leaves the old ones alone, so copies are independent.
class Optimizer {
 public:
  /// Before the first step of `size` = D parameters, which lie on `device`. Throws Error on options that are
  /// not valid.
  Optimizer(const OptimizerOptions& options, int64_t size, const c10::Device& device = c10::kCPU);
  /// After step `steps_done`, with the state() it had then, wherever that lies; before the first step any
  /// state is ignored. Throws Error when a part of the state is missing or not of shape [D].
  Optimizer(const OptimizerOptions& options, int64_t size, const OptimizerState& state, int64_t steps_done,
            const c10::Device& device = c10::kCPU);

  const OptimizerState& state() const { return state_; }
  /// Step t (counted from 1): changes `parameters` (float32 [D]) in place, by `gradient` of the same shape.
  void step(at::Tensor& parameters, const at::Tensor& gradient, double learning_rate, int64_t t);

 private:
  OptimizerOptions options_;
  OptimizerState state_;
};

}  // namespace seigh
