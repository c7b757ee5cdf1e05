#include "seigh/run/data.h"

#include <ATen/ops/isfinite.h>

#include "seigh/core/error.h"
#include "seigh/curvature/model_source.h"
#include "seigh/recipe/options.h"
#include "seigh/recipe/own_network.h"

namespace seigh {

DataSplits checked_data(const Recipe& r, const Model& model, const Loss& loss, const fs::path& data_folder) {
  DataSplits data = load_data(r, data_folder);
  if (!r.model.module.empty() || !r.data.x.empty()) probe(r, model, loss, data);
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
      ModelSource(model, parameters, model.initial_buffers(), part.select(chosen), loss, eigh_dtype(r), name);
  }
  return data;
}

const Dataset& named_part(const DataSplits& data, const std::string& name) {
  return name == "train" ? data.train : name == "test" ? data.test : data.validation;
}

}  // namespace seigh
