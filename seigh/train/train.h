// Training by mini-batches, restartable at any step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"
#include "seigh/train/checkpoint.h"
#include "seigh/train/optimizer.h"
#include "seigh/train/schedule.h"

namespace seigh {

/// The loss became NaN or infinite.
class Diverged : public Error {
 public:
  using Error::Error;
};

struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 500;
  double learning_rate = 0.3;  ///< times schedule.factor(t) at step t
  Schedule schedule = {};
  OptimizerOptions optimizer = {};
  Loss loss = {};
  uint64_t seed = 12345;                  ///< of the order of samples
  std::vector<int64_t> checkpoint_steps;  ///< ascending, each in 0..steps
  at::Tensor pruned;                      ///< bool [D]: parameters that are 0 and stay so; undefined: none

  /// Throws Error on values that cannot be trained with.
  void validate(int64_t train_samples) const;
};

/// Sample indices (int64 [batch_size]) of the mini-batch that makes step `step` (counted from 1). Each epoch
/// goes through a fresh permutation; samples that fill no whole mini-batch are left out of that epoch.
at::Tensor batch_indices(const TrainOptions& options, int64_t train_samples, int64_t step);

/// Evaluation is where the parameters lie; buffers lie there, too, and data, which may lie elsewhere, are
/// brought there piece by piece, in pieces that the context's ceiling of a device's memory leaves room for.
///
/// Share of targets (samples, or tokens of all sequences) whose largest output is the target, in evaluation
/// mode; NaN when the targets are no classes.
double accuracy(const Model& model, const at::Tensor& parameters, const std::vector<at::Tensor>& buffers,
                const Dataset& data, const Context& context = Context());

/// Mean loss over `data` in evaluation mode, which holds their outputs at the same time.
double mean_loss(const Model& model, const Loss& loss, const at::Tensor& parameters,
                 const std::vector<at::Tensor>& buffers, const Dataset& data,
                 const Context& context = Context());
/// The first `n` samples of `data`, or all of fewer; a view.
Dataset first_samples(const Dataset& data, int64_t n);

/// Trains on context.device() from `start` (its step, parameters, buffers and, after step 0, state of the
/// optimizer) and calls `save` at every checkpoint step after it, including start.step itself when that is 0
/// and among them. A mini-batch depends on (seed, step) alone, so training from a checkpoint repeats the
/// uninterrupted run. `start`, the data and the pruned may lie anywhere; data are copied by mini-batches
/// where they do not lie there. Checkpoints are on the CPU. Elsewhere than on the CPU, whether the loss is
/// finite is looked at every fifty steps and before each checkpoint: not every step waits for the device.
/// Pruned parameters are 0 from the first step on, whatever `start` and the optimizer say. Throws Diverged
/// when the loss becomes NaN or infinite, Error when `start` lacks the optimizer's state, and MemoryError
/// when the device has too little memory or a mini-batch takes more than context.device_memory().
void train(const Model& model, const DataSplits& data, const TrainOptions& options, Checkpoint start,
           const std::function<void(const Checkpoint&)>& save, const Context& context = Context());

}  // namespace seigh
