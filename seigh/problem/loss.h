// Loss functions, as sums over samples so that mini-batches of any size add up; the mean is the sum over N.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace seigh {

enum class LossKind { cross_entropy, mean_squared_error };

/// "cross_entropy" or "mean_squared_error"; throws Error on another name.
LossKind parse_loss(const std::string& name);
std::string to_string(LossKind kind);

/// Sum over samples of the loss of outputs [N, C] for targets int64 [N]; scalar, differentiable twice.
/// cross_entropy: -log softmax(outputs)[target]. mean_squared_error: squared distance to the one-hot target over C.
at::Tensor loss_sum(LossKind kind, const at::Tensor& outputs, const at::Tensor& targets);

}  // namespace seigh
