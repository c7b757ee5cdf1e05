#include "seigh/train/train.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "seigh/core/context.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"
#include "seigh/core/full_precision.h"
#include "seigh/core/memory.h"
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

namespace {

// body(begin, end) for pieces of the samples that device and ceiling have room for. One that runs out of
// memory is called again for fewer.
template <typename Body>
void for_pieces(int64_t samples, const c10::Device& device, const Context& context, const Body& body) {
  constexpr int64_t kMost = 250;
  DeviceMemory memory(device, context.device_memory());
  const bool limited = context.device_memory() > 0 && memory.obstacle().empty();
  int64_t chunk = limited ? 1 : kMost;
  for (int64_t begin = 0; begin < samples;) {
    context.check_cancelled();
    const int64_t end = std::min(begin + chunk, samples), held = memory.held();
    if (limited && begin == 0) memory.reset_peak();
    try {
      body(begin, end);
    } catch (const c10::OutOfMemoryError&) {
      if (device.is_cpu() || end - begin == 1) throw;
      memory.release();
      chunk = (end - begin) / 2;
      continue;
    }
    if (limited && begin == 0) {
      const int64_t each = std::max<int64_t>((memory.peak() - held) / (end - begin), 1),
                    left = memory.available();
      if (each > left)
        throw MemoryError(text_of("a sample takes ", format_bytes(each), " of the memory of ", device, ", ",
                                  format_bytes(left), " may be taken there (--device-memory); raise that"));
      chunk = std::clamp<int64_t>(left / 5 * 4 / each, 1, kMost);
    }
    begin = end;
  }
}

}  // namespace

double accuracy(const Model& model, const at::Tensor& parameters, const std::vector<at::Tensor>& buffers,
                const Dataset& data, const Context& context) {
  const Context::Scope scope(context);
  const torch::NoGradGuard no_grad;
  const c10::Device device = parameters.device();
  const FullPrecision full(device);
  const std::vector<at::Tensor> pieces = unflatten(model.parameters(), parameters);
  at::Tensor correct = at::zeros({}, at::TensorOptions().dtype(at::kLong).device(device));
  bool classes = true;
  for_pieces(data.size(), device, context, [&](int64_t begin, int64_t end) {
    if (!classes) return;
    const at::Tensor outputs = model.forward(pieces, buffers, data.x.slice(0, begin, end).to(device));
    const at::Tensor answers = outputs.argmax(-1), targets = data.y.slice(0, begin, end).to(device);
    classes = !targets.is_floating_point() && targets.sizes() == answers.sizes();
    if (classes) correct += answers.eq(targets).sum();
  });
  if (!classes) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(correct.item<int64_t>()) / static_cast<double>(target_count(data.y));
}

double mean_loss(const Model& model, const Loss& loss, const at::Tensor& parameters,
                 const std::vector<at::Tensor>& buffers, const Dataset& data, const Context& context) {
  const Context::Scope scope(context);
  const torch::NoGradGuard no_grad;
  const c10::Device device = parameters.device();
  const FullPrecision full(device);
  const std::vector<at::Tensor> pieces = unflatten(model.parameters(), parameters);
  std::vector<at::Tensor> outputs;
  const c10::Device kept = context.device_memory() > 0 ? c10::Device(at::kCPU) : device;
  for_pieces(data.size(), device, context, [&](int64_t begin, int64_t end) {
    outputs.push_back(model.forward(pieces, buffers, data.x.slice(0, begin, end).to(device)).to(kept));
  });
  return loss_sum(loss, at::cat(outputs), data.y.to(kept)).item<double>() /
         static_cast<double>(target_count(data.y));
}

Dataset first_samples(const Dataset& data, int64_t n) {
  return {data.x.slice(0, 0, std::min(n, data.size())), data.y.slice(0, 0, std::min(n, data.size())),
          data.classes};
}

namespace {

at::Tensor copied(const at::Tensor& tensor, const c10::Device& device) {
  return tensor.to(tensor.options().device(device), /*non_blocking=*/false, /*copy=*/true);
}
std::vector<at::Tensor> copied(std::vector<at::Tensor> tensors, const c10::Device& device) {
  for (at::Tensor& tensor : tensors) tensor = copied(tensor, device);
  return tensors;
}

// What a mini-batch takes there is known when it has been done; the next ones take as much.
class Ceiling {
 public:
  explicit Ceiling(const Context& context)
      : memory_(context.device(), context.device_memory()), bytes_(context.device_memory()) {}
  // Before a mini-batch: what came before it, an evaluation, is no fault of its size.
  void begin() {
    if (bytes_ > 0 && !looked_) memory_.reset_peak();
  }
  void look(int64_t batch_size) {
    if (bytes_ == 0 || looked_) return;
    looked_ = true;
    if (const int64_t peak = memory_.peak(); peak > bytes_)
      throw MemoryError(text_of("training with mini-batches of ", batch_size, " samples takes ",
                                format_bytes(peak), " of the device's memory, ", format_bytes(bytes_),
                                " are allowed (--device-memory); lower train.batch_size or raise that"));
  }

 private:
  DeviceMemory memory_;
  int64_t bytes_;
  bool looked_ = false;
};

void train_there(const Model& model, const DataSplits& data, const TrainOptions& options,
                 const Checkpoint& start, const std::function<void(const Checkpoint&)>& save,
                 const Context& context) {
  const int64_t samples = data.train.size();
  const c10::Device device = context.device();
  const FullPrecision full(device);
  Ceiling ceiling(context);
  at::Tensor parameters = copied(start.parameters, device);
  std::vector<at::Tensor> buffers = copied(start.buffers, device);
  const at::Tensor pruned = options.pruned.defined() ? options.pruned.to(device) : at::Tensor();
  const auto prune = [&] {
    if (pruned.defined()) parameters.masked_fill_(pruned, 0);
  };
  prune();
  Optimizer optimizer(options.optimizer, parameters.numel(), start.optimizer, start.step, device);
  const int64_t per_epoch = samples / options.batch_size;
  int64_t epoch = -1;
  at::Tensor order;

  // Loss and gradient of the mini-batch that makes step `step`.
  const auto evaluate = [&](int64_t step, at::Tensor* gradient) {
    if ((step - 1) / per_epoch != epoch) {
      epoch = (step - 1) / per_epoch;
      order = random_permutation(options.seed, Stream::batch_order, samples, epoch).to(data.train.x.device());
    }
    const int64_t begin = (step - 1) % per_epoch * options.batch_size;
    const Dataset batch = data.train.select(order.slice(0, begin, begin + options.batch_size)).on(device);
    at::Tensor leaf = parameters.detach().requires_grad_(true);
    const at::Tensor loss =
        loss_sum(options.loss,
                 model.forward(unflatten(model.parameters(), leaf), buffers, batch.x, gradient != nullptr),
                 batch.y) /
        target_count(batch.y);
    if (gradient != nullptr) *gradient = torch::autograd::grad({loss}, {leaf})[0];
    return loss.detach();
  };
  // Losses that nobody has looked at: of the steps up to `last`.
  std::vector<at::Tensor> losses;
  const auto look = [&](int64_t last) {
    const at::Tensor values = at::stack(losses).to(at::kDouble).cpu();
    for (int64_t i = 0; i < values.numel(); ++i) {
      const double value = values[i].item<double>();
      if (!std::isfinite(value))
        throw Diverged(text_of("training diverged: the loss is ", value, " at step ",
                               last + 1 + i - values.numel(), "; lower train.learning_rate (now ",
                               options.learning_rate, ")"));
    }
    losses.clear();
    return values[-1].item<double>();
  };
  const auto is_checkpoint = [&](int64_t step) {
    return std::binary_search(options.checkpoint_steps.begin(), options.checkpoint_steps.end(), step);
  };
  const auto checkpoint = [&](int64_t step, double loss) {
    OptimizerState state;
    if (step > 0)
      for (const auto& [name, tensor] : optimizer.state()) state[name] = tensor.cpu();
    save({step, loss, accuracy(model, parameters, buffers, data.test, context), copied(parameters, c10::kCPU),
          copied(buffers, c10::kCPU), std::move(state),
          mean_loss(model, options.loss, parameters, buffers, first_samples(data.train, kLossSamples),
                    context)});
  };

  context.progress().begin("training " + model.description(), options.steps - start.step, "steps");
  if (start.step == 0 && is_checkpoint(0)) {
    losses.push_back(evaluate(1, nullptr));
    checkpoint(0, look(1));
  }
  const size_t together = device.is_cpu() ? 1 : 50;
  for (int64_t step = start.step + 1; step <= options.steps; ++step) {
    ceiling.begin();
    context.check_cancelled();
    at::Tensor gradient;
    losses.push_back(evaluate(step, &gradient));
    ceiling.look(options.batch_size);
    const bool kept = is_checkpoint(step);
    double loss = 0;
    if (kept || losses.size() >= together || step == options.steps) loss = look(step);
    optimizer.step(parameters, gradient, options.learning_rate * options.schedule.factor(step), step);
    prune();  // momentum, moments and decay go on, but move nothing there
    if (kept) checkpoint(step, loss);
    context.progress().advance(1);
  }
  context.progress().end();
}

}  // namespace

void train(const Model& model, const DataSplits& data, const TrainOptions& options, Checkpoint start,
           const std::function<void(const Checkpoint&)>& save, const Context& context) {
  options.validate(data.train.size());
  const Context::Scope scope(context);
  try {
    train_there(model, data, options, start, save, context);
  } catch (const c10::OutOfMemoryError&) {
    throw MemoryError(text_of("too little memory on ", context.device(), " to train with mini-batches of ",
                              options.batch_size,
                              " samples; lower train.batch_size, or train on the CPU (--device cpu)"));
  }
}

}  // namespace seigh
