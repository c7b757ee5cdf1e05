#include "seigh/run/data.h"

#include <ATen/ops/isfinite.h>

#include <algorithm>

#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"
#include "seigh/curvature/model_source.h"
#include "seigh/recipe/options.h"
#include "seigh/recipe/own_network.h"

namespace seigh {

DataSplits checked_data(const Recipe& r, const Model& model, const Loss& loss, const fs::path& data_folder,
                        const Context& context) {
  const c10::Device device = context.device();
  DataSplits data = load_data(r, data_folder);
  if (!r.model.module.empty() || !r.data.x.empty()) probe(r, model, loss, data, device);
  if (!brings_weights(r) || (!r.prune.scores.empty() && r.prune.fine_tune > 0))
    train_options(r, loss).validate(data.train.size());
  for (const std::string& name : r.curvature.splits) {
    const Dataset& part = named_part(data, name);
    at::Tensor chosen;
    try {
      chosen = curvature_samples(r, part, name);
    } catch (const Error& error) {
      fail("curvature.samples, split \"", name, "\": ", error.what());
    }
    // Is a loss of the user's own a mean? Known now, not after training.
    const at::Tensor parameters = model.initial_parameters(static_cast<uint64_t>(r.seed));
    if (loss.kind == LossKind::custom && parameters.isfinite().all().item<bool>())
      ModelSource(model, parameters.to(device), moved(model.initial_buffers(), device),
                  part.select(chosen).on(device), loss, eigh_dtype(r), name);
  }
  return data;
}

DataSplits placed(const DataSplits& data, const Context& context) {
  if (context.device().is_cpu()) return data;
  const auto bytes = [](const Dataset& part) {
    return static_cast<int64_t>(part.x.nbytes() + part.y.nbytes());
  };
  const DeviceMemory memory(context.device(), context.device_memory());
  int64_t room = int64_t{1} << 30;  // small for any device whose memory is not known
  if (memory.obstacle().empty()) {
    room = memory.available() / 4;
  } else if (context.device_memory() > 0) {
    room = std::min(room, context.device_memory() / 4);
  }
  if (bytes(data.train) + bytes(data.test) > room) return data;
  DataSplits there = data;
  there.train = data.train.on(context.device());
  there.test = data.test.on(context.device());
  return there;
}

const Dataset& named_part(const DataSplits& data, const std::string& name) {
  return name == "train" ? data.train : name == "test" ? data.test : data.validation;
}

}  // namespace seigh
