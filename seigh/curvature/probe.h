// Does a network from elsewhere run on these data, and has it derivatives? Found out on a few samples, before
// anything long. What its products are worth, check.h says, on all samples.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/data/dataset.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"

namespace seigh {

/// Runs `model` in evaluation mode and `loss` on the first samples of `data`, in `dtype`, and differentiates,
/// where the parameters and buffers lie. Returns C, the size of the last dimension of the outputs;
/// data.classes is not looked at.
///
/// Throws Error, beginning with `name` (the network's file) and saying how to export instead, when
///   - outputs are not [N, C] or [N, T, C], or do not fit the loss and the targets, or do so in two ways;
///   - they change from call to call (dropout), change buffers or depend on the other samples (batch norm in
///     training mode), or only one size of batch is taken;
///   - they have no derivative (traced without gradients, or through the fused fast path).
int64_t probe(const Model& model, const Loss& loss, const Dataset& data, const at::Tensor& parameters,
              const std::vector<at::Tensor>& buffers, at::ScalarType dtype, const std::string& name);

}  // namespace seigh
