#include "seigh/overlap/units.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

#include "seigh/core/error.h"

namespace seigh {
namespace {

// "transformer.wte.weight": "wte"; "pos_embed": itself. In lower case.
std::string module_of(const std::string& name) {
  std::string path = name;
  for (const char* tensor : {".weight", ".bias"}) {
    if (path.ends_with(tensor)) path.resize(path.rfind('.'));
  }
  std::string module = path.substr(path.rfind('.') + 1);  // npos + 1 is 0
  std::transform(module.begin(), module.end(), module.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return module;
}

bool is_embedding(const std::string& name) {
  const std::string module = module_of(name);
  const auto holds = [&](const char* word) { return module.find(word) != std::string::npos; };
  if (holds("unembed")) return false;
  return module == "wte" || module == "wpe" || holds("embed") || holds("token") || holds("position");
}

}  // namespace

UnitLayout unit_layout(const NamedShape& tensor) {
  int64_t numel = 1;
  for (const int64_t size : tensor.shape) {
    require(size >= 0, "tensor ", tensor.name, " has a dimension of size ", size);
    numel *= size;
  }
  const bool embedding = is_embedding(tensor.name);
  size_t first = 0;  // the dimension of the rows
  while (embedding && first < tensor.shape.size() && tensor.shape[first] == 1) ++first;
  UnitLayout layout;
  if (numel == 0 || tensor.shape.size() < first + 2) {
    layout.taps = numel;
    layout.defined = false;
    return layout;
  }
  layout.rows = tensor.shape[first];
  layout.columns = tensor.shape[first + 1];
  layout.taps = numel / (layout.rows * layout.columns);
  layout.rows_are_outputs = !embedding;
  return layout;
}

std::vector<UnitLayout> unit_layouts(const std::vector<NamedShape>& tensors) {
  std::vector<UnitLayout> layouts;
  for (const NamedShape& tensor : tensors) layouts.push_back(unit_layout(tensor));
  return layouts;
}

std::string_view grouping_name(Grouping grouping) {
  switch (grouping) {
    case Grouping::uniform:
      return "uniform";
    case Grouping::layer:
      return "layer";
    case Grouping::output_unit:
      return "output_unit";
    case Grouping::input_unit:
      return "input_unit";
  }
  return "";
}

int64_t eligible_count(const std::vector<UnitLayout>& layouts) {
  int64_t count = 0;
  for (const UnitLayout& layout : layouts) count += layout.eligible ? layout.numel() : 0;
  return count;
}

std::vector<char> eligible_parameters(const std::vector<UnitLayout>& layouts) {
  std::vector<char> eligible;
  for (const UnitLayout& layout : layouts)
    eligible.insert(eligible.end(), static_cast<size_t>(layout.numel()), layout.eligible ? 1 : 0);
  return eligible;
}

std::string tensor_kind(const NamedShape& tensor) {
  if (unit_layout(tensor).defined) return is_embedding(tensor.name) ? "embedding" : "weight";
  std::string last = tensor.name.substr(tensor.name.rfind('.') + 1);
  std::transform(last.begin(), last.end(), last.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return last == "weight" || last == "scale" || last == "gamma" ? "norm" : "bias";
}

}  // namespace seigh
