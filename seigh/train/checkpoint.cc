#include "seigh/train/checkpoint.h"

#include <charconv>
#include <cstdio>

#include "seigh/core/error.h"
#include "seigh/io/safetensors.h"
#include "seigh/nn/hidden_units.h"

namespace seigh {
namespace {

const std::string kOptimizer = "optimizer.";

std::string shortest(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return {buffer, end};
}

template <typename T>
T number(const fs::path& path, const NamedTensors& content, const std::string& key) {
  const auto entry = content.metadata.find(key);
  require(entry != content.metadata.end(), path.string(), ": metadata \"", key,
          "\" is missing; not a seigh checkpoint");
  T value{};
  const char* end = entry->second.data() + entry->second.size();
  const auto [stop, code] = std::from_chars(entry->second.data(), end, value);
  require(code == std::errc() && stop == end, path.string(), ": metadata \"", key,
          "\" is no number: ", entry->second);
  return value;
}

}  // namespace

std::string step_name(int64_t step) {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "step_%06lld", static_cast<long long>(step));
  return buffer;
}

void write_checkpoint(const fs::path& path, const Model& model, const Checkpoint& checkpoint,
                      const std::string& recipe) {
  NamedTensors content;
  const std::vector<at::Tensor> pieces = unflatten(model.parameters(), checkpoint.parameters);
  for (size_t i = 0; i < pieces.size(); ++i) {
    content.tensors.emplace_back(model.parameters()[i].name, pieces[i]);
  }
  for (size_t i = 0; i < checkpoint.buffers.size(); ++i) {
    content.tensors.emplace_back(model.buffers()[i].name, checkpoint.buffers[i]);
  }
  for (const auto& [state, flat] : checkpoint.optimizer) {
    const std::vector<at::Tensor> parts = unflatten(model.parameters(), flat);
    for (size_t i = 0; i < parts.size(); ++i)
      content.tensors.emplace_back(kOptimizer + state + "." + model.parameters()[i].name, parts[i]);
  }
  content.metadata = {{"step", std::to_string(checkpoint.step)},
                      {"loss", shortest(checkpoint.loss)},
                      {"train_loss", shortest(checkpoint.train_loss)},
                      {"test_accuracy", shortest(checkpoint.test_accuracy)},
                      {"network", model.description()},
                      {"parameters", std::to_string(model.parameters().size())},
                      {"buffers", std::to_string(checkpoint.buffers.size())}};
  if (const std::string units = units_text(model); !units.empty()) content.metadata["units"] = units;
  if (!recipe.empty()) content.metadata["recipe"] = recipe;
  write_safetensors(path, content);
}

Checkpoint read_checkpoint(const fs::path& path, const Model& model) {
  const NamedTensors content = read_safetensors(path, Maker::seigh);
  const auto tensors = content.by_name();
  const auto take = [&](const ParameterSpec& spec, const std::string& prefix = {}) {
    const std::string name = prefix + spec.name;
    const auto found = tensors.find(name);
    require(found != tensors.end(), path.string(), ": parameter ", name,
            " is missing; is this another model's file?");
    const at::Tensor* const tensor = found->second;
    require(tensor->sizes() == at::IntArrayRef(spec.shape), path.string(), ": parameter ", name,
            " has shape ", tensor->sizes(), ", the model's has ", at::IntArrayRef(spec.shape));
    return tensor->scalar_type() == at::kDouble ? *tensor : tensor->to(at::kFloat);
  };
  const auto take_all = [&](const std::string& prefix) {
    std::vector<at::Tensor> pieces;
    for (const ParameterSpec& spec : model.parameters()) pieces.push_back(take(spec, prefix));
    return flatten(pieces);
  };
  Checkpoint checkpoint;
  checkpoint.step = number<int64_t>(path, content, "step");
  checkpoint.loss = number<double>(path, content, "loss");
  checkpoint.test_accuracy = number<double>(path, content, "test_accuracy");
  if (content.metadata.contains("train_loss"))
    checkpoint.train_loss = number<double>(path, content, "train_loss");
  checkpoint.parameters = take_all("");
  for (const ParameterSpec& spec : model.buffers()) checkpoint.buffers.push_back(take(spec));
  for (const auto& entry : content.tensors) {
    if (!entry.first.starts_with(kOptimizer)) continue;
    const std::string state =
        entry.first.substr(kOptimizer.size(), entry.first.find('.', kOptimizer.size()) - kOptimizer.size());
    if (!checkpoint.optimizer.contains(state))
      checkpoint.optimizer[state] = take_all(kOptimizer + state + ".");
  }
  return checkpoint;
}

}  // namespace seigh
