// Checkpoints: all that training goes on from at one step, as a safetensors file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/nn/model.h"
#include "seigh/train/optimizer.h"

namespace seigh {

struct Checkpoint {
  int64_t step = 0;
  double loss = 0;  ///< mean loss of the mini-batch that made this step; of the first mini-batch at step 0
  double test_accuracy = 0;         ///< share of test samples (text: tokens) classified right
  at::Tensor parameters;            ///< flat [D], float32, or float64 of a network that is in float64
  std::vector<at::Tensor> buffers;  ///< float32 or float64, as Model::buffers()
  OptimizerState optimizer = {};    ///< after this step
  /// Mean loss of the first kLossSamples training samples in evaluation mode, unlike `loss` comparable
  /// between steps and runs; NaN in checkpoints of earlier versions.
  double train_loss = std::numeric_limits<double>::quiet_NaN();
};
constexpr int64_t kLossSamples = 1000;

/// "step_000100": how files of training step 100 are named.
std::string step_name(int64_t step);
/// Parameters by name in registration order, buffers, the optimizer's state as
/// "optimizer.<state>.<parameter>"; metadata step, loss, train_loss, test_accuracy, network, parameters and
/// buffers (how many tensors), units (units_text()) and, if given, recipe. Written completely or not at all.
void write_checkpoint(const fs::path& path, const Model& model, const Checkpoint& checkpoint,
                      const std::string& recipe = "");
/// Throws Error naming the file when a tensor is missing or has another shape, or when the file is damaged.
Checkpoint read_checkpoint(const fs::path& path, const Model& model);

}  // namespace seigh
