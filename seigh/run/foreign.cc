#include "seigh/run/foreign.h"

#include <algorithm>
#include <charconv>

#include "seigh/core/error.h"
#include "seigh/io/safetensors.h"
#include "seigh/nn/hidden_units.h"

namespace seigh {

std::shared_ptr<const Foreign> make_foreign(Recipe& recipe, const MakeForeign& make) {
  if (recipe.model.python.empty()) return nullptr;
  require(static_cast<bool>(make),
          "model.python is Python code, which this program does not run: use the seigh of the Python "
          "package, python3 -m seigh "
          "(pip install . in seigh's folder)");
  std::shared_ptr<const Foreign> foreign = make(recipe);
  const bool all = recipe.curvature.samples == 0;
  for (const std::string& split : recipe.curvature.splits) {
    const int64_t there = foreign->samples(split);
    if (all) {
      int64_t& samples = recipe.curvature.samples;
      samples = samples == 0 ? there : std::min(samples, there);
      continue;
    }
    require(recipe.curvature.samples <= there, recipe.curvature.samples, " samples are asked for, but ",
            recipe.data.python, " has ", there, " of the split \"", split, "\"; set curvature.samples");
  }
  return foreign;
}

StoredModel::StoredModel(std::string description, std::vector<ParameterSpec> parameters,
                         std::vector<ParameterSpec> buffers, std::vector<HiddenUnits> units)
    : description_(std::move(description)), units_(std::move(units)) {
  parameters_ = std::move(parameters);
  buffers_ = std::move(buffers);
}

std::unique_ptr<Model> StoredModel::of_checkpoint(const fs::path& file) {
  const NamedTensors content = read_safetensors(file, Maker::seigh);
  const auto number = [&](const char* key) {
    const auto entry = content.metadata.find(key);
    size_t value = 0;
    require(
        entry != content.metadata.end() &&
            std::from_chars(entry->second.data(), entry->second.data() + entry->second.size(), value).ec ==
                std::errc(),
        file.string(), ": metadata \"", key, "\" is missing; not a checkpoint of a network from elsewhere");
    return value;
  };
  const size_t parameters = number("parameters"), buffers = number("buffers");
  require(parameters <= content.tensors.size() && buffers <= content.tensors.size() - parameters,
          file.string(), " holds ", content.tensors.size(), " tensors, fewer than its metadata says");
  std::vector<ParameterSpec> specs;
  for (const auto& [name, tensor] : content.tensors) specs.push_back({name, tensor.sizes().vec()});
  const auto entry = content.metadata.find("network");
  const auto end = specs.begin() + static_cast<std::ptrdiff_t>(parameters);
  std::vector<ParameterSpec> own(specs.begin(), end);
  const auto text = content.metadata.find("units");
  std::vector<HiddenUnits> units;
  try {
    if (text != content.metadata.end()) units = read_units_text(text->second, own);
  } catch (const Error& error) {
    fail(file.string(), ": ", error.what());
  }
  return std::make_unique<StoredModel>(
      entry != content.metadata.end() ? entry->second : "a network from elsewhere", std::move(own),
      std::vector<ParameterSpec>(end, end + static_cast<std::ptrdiff_t>(buffers)), std::move(units));
}

at::Tensor StoredModel::initial_parameters(uint64_t) const {
  fail(description_, ": only names and shapes are here");
}
at::Tensor StoredModel::forward(const std::vector<at::Tensor>&, const std::vector<at::Tensor>&,
                                const at::Tensor&, bool) const {
  fail(description_, ": only names and shapes are here");
}

}  // namespace seigh
