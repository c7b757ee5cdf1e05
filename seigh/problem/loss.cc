#include "seigh/problem/loss.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "seigh/base/error.h"

namespace seigh {

LossKind parse_loss(const std::string& name) {
  for (const LossKind kind : {LossKind::cross_entropy, LossKind::mean_squared_error}) {
    if (to_string(kind) == name) return kind;
  }
  fail("unknown loss \"", name, "\"; choose cross_entropy or mean_squared_error");
}

std::string to_string(LossKind kind) {
  switch (kind) {
    case LossKind::cross_entropy: return "cross_entropy";
    case LossKind::mean_squared_error: return "mean_squared_error";
  }
  fail("loss out of range");
}

at::Tensor loss_sum(LossKind kind, const at::Tensor& outputs, const at::Tensor& targets) {
  switch (kind) {
    case LossKind::cross_entropy:
      return -at::log_softmax(outputs, 1).gather(1, targets.unsqueeze(1)).sum();
    case LossKind::mean_squared_error:
      return (outputs - at::one_hot(targets, outputs.size(1))).square().sum() / outputs.size(1);
  }
  fail("loss out of range");
}

}  // namespace seigh
