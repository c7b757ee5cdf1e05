#include "seigh/train/train.h"

#include <ATen/Functions.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"

namespace seigh {

void TrainOptions::validate(int64_t train_samples) const {
  require(steps >= 0, "training steps must not be negative: ", steps);
  require(1 <= batch_size && batch_size <= train_samples,
          "batch_size must lie between 1 and the number of training samples, ", train_samples, ", not ",
          batch_size);
  require(learning_rate > 0 && learning_rate < std::numeric_limits<float>::max(),
          "learning_rate must be positive and finite, not ", learning_rate);
  schedule.validate();
  optimizer.validate();
  loss.validate();
  require(std::is_sorted(checkpoint_steps.begin(), checkpoint_steps.end()), "checkpoint steps must ascend");
  for (const int64_t step : checkpoint_steps) {
    require(0 <= step && step <= steps, "checkpoint step ", step, " lies outside 0..", steps);
  }
}

at::Tensor batch_indices(const TrainOptions& options, int64_t train_samples, int64_t step) {
  const int64_t per_epoch = train_samples / options.batch_size;
  const int64_t epoch = (step - 1) / per_epoch, batch = (step - 1) % per_epoch;
  return random_permutation(options.seed, Stream::batch_order, train_samples, epoch)
      .slice(0, batch * options.batch_size, (batch + 1) * options.batch_size);
}

double accuracy(const Model& model, const at::Tensor& parameters, const std::vector<at::Tensor>& buffers,
                const Dataset& data) {
  const torch::NoGradGuard no_grad;
  const std::vector<at::Tensor> pieces = unflatten(model.parameters(), parameters);
  int64_t correct = 0;
  constexpr int64_t kChunk = 250;  // bounds the activations in memory
  for (int64_t begin = 0; begin < data.size(); begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, data.size());
    const at::Tensor outputs = model.forward(pieces, buffers, data.x.slice(0, begin, end));
    const at::Tensor answers = outputs.argmax(-1), targets = data.y.slice(0, begin, end);
    if (targets.is_floating_point() || targets.sizes() != answers.sizes())
      return std::numeric_limits<double>::quiet_NaN();
    correct += answers.eq(targets).sum().item<int64_t>();
  }
  return static_cast<double>(correct) / static_cast<double>(target_count(data.y));
}

double mean_loss(const Model& model, const Loss& loss, const at::Tensor& parameters,
                 const std::vector<at::Tensor>& buffers, const Dataset& data) {
  const torch::NoGradGuard no_grad;
  const std::vector<at::Tensor> pieces = unflatten(model.parameters(), parameters);
  std::vector<at::Tensor> outputs;
  constexpr int64_t kChunk = 250;  // bounds the activations in memory
  for (int64_t begin = 0; begin < data.size(); begin += kChunk)
    outputs.push_back(
        model.forward(pieces, buffers, data.x.slice(0, begin, std::min(begin + kChunk, data.size()))));
  return loss_sum(loss, at::cat(outputs), data.y).item<double>() / static_cast<double>(target_count(data.y));
}

Dataset first_samples(const Dataset& data, int64_t n) {
  return {data.x.slice(0, 0, std::min(n, data.size())), data.y.slice(0, 0, std::min(n, data.size())),
          data.classes};
}

void train(const Model& model, const DataSplits& data, const TrainOptions& options, Checkpoint start,
           const std::function<void(const Checkpoint&)>& save, const Context& context) {
  const int64_t samples = data.train.size();
  options.validate(samples);
  const Context::Scope scope(context);
  at::Tensor parameters = start.parameters.clone();
  const auto copied = [](std::vector<at::Tensor> tensors) {
    for (at::Tensor& tensor : tensors) tensor = tensor.clone();
    return tensors;
  };
  std::vector<at::Tensor> buffers = copied(start.buffers);
  const auto prune = [&] {
    if (options.pruned.defined()) parameters.masked_fill_(options.pruned, 0);
  };
  prune();
  Optimizer optimizer(options.optimizer, parameters.numel(), start.optimizer, start.step);
  const int64_t per_epoch = samples / options.batch_size;
  int64_t epoch = -1;
  at::Tensor order;

  // Loss and gradient of the mini-batch that makes step `step`.
  const auto evaluate = [&](int64_t step, at::Tensor* gradient) {
    if ((step - 1) / per_epoch != epoch) {
      epoch = (step - 1) / per_epoch;
      order = random_permutation(options.seed, Stream::batch_order, samples, epoch);
    }
    const int64_t begin = (step - 1) % per_epoch * options.batch_size;
    const Dataset batch = data.train.select(order.slice(0, begin, begin + options.batch_size));
    at::Tensor leaf = parameters.detach().requires_grad_(true);
    const at::Tensor loss =
        loss_sum(options.loss,
                 model.forward(unflatten(model.parameters(), leaf), buffers, batch.x, gradient != nullptr),
                 batch.y) /
        target_count(batch.y);
    const double value = loss.item<double>();
    if (!std::isfinite(value))
      throw Diverged(text_of("training diverged: the loss is ", value, " at step ", step,
                             "; lower train.learning_rate (now ", options.learning_rate, ")"));
    if (gradient != nullptr) *gradient = torch::autograd::grad({loss}, {leaf})[0];
    return value;
  };
  const auto checkpoint = [&](int64_t step, double loss) {
    if (!std::binary_search(options.checkpoint_steps.begin(), options.checkpoint_steps.end(), step)) return;
    save({step, loss, accuracy(model, parameters, buffers, data.test), parameters.clone(), copied(buffers),
          step == 0 ? OptimizerState() : optimizer.state(),
          mean_loss(model, options.loss, parameters, buffers, first_samples(data.train, kLossSamples))});
  };

  context.progress().begin("training " + model.description(), options.steps - start.step, "steps");
  if (start.step == 0) checkpoint(0, evaluate(1, nullptr));
  for (int64_t step = start.step + 1; step <= options.steps; ++step) {
    context.check_cancelled();
    at::Tensor gradient;
    const double loss = evaluate(step, &gradient);
    optimizer.step(parameters, gradient, options.learning_rate * options.schedule.factor(step), step);
    prune();  // momentum, moments and decay go on, but move nothing there
    checkpoint(step, loss);
    context.progress().advance(1);
  }
  context.progress().end();
}

}  // namespace seigh
