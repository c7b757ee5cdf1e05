#include "seigh/curvature/probe.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>
#include <exception>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/curvature/replaced_kernels.h"

namespace seigh {
namespace {

constexpr int64_t kSamples = 4;
// Rounding differs between batch sizes; dropout and batch statistics change the leading digits.
constexpr double kSame = 1e-3;

bool same(const at::Tensor& a, const at::Tensor& b) {
  const double scale = b.abs().max().item<double>();
  return !((a - b).abs().max().item<double>() > kSame * scale);  // NaN is somebody else's to find
}

void check_shapes(const Loss& loss, const at::Tensor& outputs, const at::Tensor& y, const std::string& name) {
  require(outputs.is_floating_point() && (outputs.dim() == 2 || outputs.dim() == 3) &&
              outputs.size(0) == y.size(0) && outputs.size(-1) >= 1,
          name, ": outputs of ", y.size(0), " samples have shape ", outputs.sizes(), " of ",
          outputs.scalar_type(),
          "; they must be floating [N, C] or [N, T, C] for N samples (T tokens) and C "
          "classes or values");
  if (loss.kind == LossKind::custom) return;
  const bool values = loss.kind != LossKind::cross_entropy;
  const at::IntArrayRef targets = y.sizes(),
                        rows = outputs.sizes().slice(0, static_cast<size_t>(outputs.dim() - 1));
  if (y.is_floating_point()) {
    require(values, to_string(loss.kind), " needs classes: save y as int64, or use mean_squared_error");
    require(targets == outputs.sizes(), name, ": outputs of ", y.size(0), " samples have shape ",
            outputs.sizes(), ", their targets y ", targets, "; for ", to_string(loss.kind),
            " they must be the same");
    require(loss.kind != LossKind::binary_cross_entropy ||
                (y.min().item<double>() >= 0 && y.max().item<double>() <= 1),
            name, ": targets y run from ", y.min().item<double>(), " to ", y.max().item<double>(),
            "; for binary_cross_entropy they lie between 0 and 1");
  } else {
    const bool other_way = outputs.dim() == 3 && y.dim() == 2 && y.size(1) == outputs.size(2);
    require(targets == rows || !other_way, name, ": outputs of ", y.size(0), " samples have shape ",
            outputs.sizes(), ", their classes y ", targets,
            ": [N, C, T], with the classes second; return outputs.transpose(1, 2)");
    require(targets == rows, name, ": outputs of ", y.size(0), " samples have shape ", outputs.sizes(),
            ", so classes y must have shape ", rows, ", not ", targets);
    require(!other_way, name, ": outputs of ", y.size(0), " samples have shape ", outputs.sizes(),
            ", which is [N, T, C] or [N, C, T], as T = C; write the loss as a module of your own, which says "
            "which (train.loss = \"loss.pt\"), or take another T");
  }
}

}  // namespace

int64_t probe(const Model& model, const Loss& loss, const Dataset& data, const at::Tensor& parameters,
              const std::vector<at::Tensor>& buffers, at::ScalarType dtype, const std::string& name) {
  const ReplacedKernels replaced;  // as in the products
  require(data.size() > 0, "the data hold no samples");
  const int64_t n = std::min(kSamples, data.size()), half = n / 2;
  const at::Tensor x = data.x.slice(0, 0, n).to(parameters.device()),
                   y = data.y.slice(0, 0, n).to(parameters.device());
  std::vector<at::Tensor> leaves, state, before;
  for (const at::Tensor& piece : unflatten(model.parameters(), parameters))
    leaves.push_back(piece.to(dtype).clone().requires_grad_(true));
  for (const at::Tensor& buffer : buffers) {
    state.push_back(buffer.to(dtype).clone());
    before.push_back(state.back().clone());
  }

  const at::Tensor outputs = model.forward(leaves, state, x);
  check_shapes(loss, outputs, y, name);
  for (size_t i = 0; i < state.size(); ++i)
    require(at::equal(state[i], before[i]), name, " changes its buffer ", model.buffers()[i].name,
            ", as batch norm does in training mode, which tracing keeps for ever; call net.eval() before "
            "torch.jit.trace");
  {
    const at::NoGradGuard no_grad;
    const auto same_again = [&](const at::Tensor& before_it, int64_t samples) {
      require(same(model.forward(leaves, state, x.slice(0, 0, samples)), before_it), name,
              " gives other outputs when called twice, as dropout does in training mode, which tracing keeps "
              "for ever; call net.eval() before torch.jit.trace");
    };
    same_again(outputs, n);
    if (half > 0) {
      const at::Tensor fewer = model.forward(leaves, state, x.slice(0, 0, half));
      require(fewer.dim() == outputs.dim() && fewer.size(0) == half, name, ": outputs of ", half,
              " samples have shape ", fewer.sizes(),
              "; the size of the batch was fixed when it was traced: use x.shape[0], not a number, or "
              "torch.jit.script");
      if (!same(fewer, outputs.slice(0, 0, half))) {
        same_again(fewer, half);  // what is random may have been the same twice
        same_again(outputs, n);
        fail(
            name,
            ": outputs of a sample depend on the others of its batch, as with batch norm in training mode or "
            "without running statistics; call net.eval() before exporting, with track_running_stats=True");
      }
    }
  }
  require(outputs.requires_grad(), name,
          " has no derivative: its outputs do not depend on its parameters; trace it with gradients on, "
          "outside torch.no_grad(), or use torch.jit.script");

  if (loss.kind != LossKind::custom && !data.y.is_floating_point()) {
    const int64_t lowest = data.y.min().item<int64_t>(), highest = data.y.max().item<int64_t>();
    require(
        lowest >= 0 && highest < outputs.size(-1), name, " has ", outputs.size(-1),
        " outputs, for classes 0..", outputs.size(-1) - 1, ", but y holds class ",
        lowest < 0 ? lowest : highest,
        loss.kind == LossKind::mean_squared_error
            ? "; integers are classes, which are compared with 0 and 1; for numbers save y as float32, in "
              "the shape of the outputs"
            : "");
  }
  require(loss.kind != LossKind::custom || loss.custom->mean(outputs, y).requires_grad(),
          loss.kind == LossKind::custom ? loss.custom->name() : "",
          " has no derivative in the outputs; write it with differentiable operations and export it outside "
          "torch.no_grad()");
  try {
    torch::autograd::grad({loss_sum(loss, outputs, y)}, leaves);
  } catch (const std::exception& error) {
    const std::string why = first_line(error.what());
    fail(name, " has no derivative: ", why,
         why.find("transformer") != std::string::npos || why.find("attention") != std::string::npos
             ? "; it was traced through the fused fast path: trace it with gradients on, outside "
               "torch.no_grad(), and check_trace=False, or use torch.jit.script"
             : "; trace it with gradients on, outside torch.no_grad(), or use other operations");
  }
  return outputs.size(-1);
}

}  // namespace seigh
