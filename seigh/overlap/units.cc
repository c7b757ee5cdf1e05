#include "seigh/overlap/units.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

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

// Queries, keys and values in the rows of one tensor.
bool is_fused(const NamedShape& tensor) {
  if (tensor.shape.empty() || tensor.shape.size() > 2 || tensor.shape[0] % 3 != 0) return false;
  if (tensor.shape.size() == 2 && tensor.shape[0] < tensor.shape[1]) return false;
  const std::string module = module_of(tensor.name);
  return module.find("qkv") != std::string::npos || module == "c_attn" || module.starts_with("in_proj") ||
         module == "query_key_value";
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
  layout.rows_are_outputs = !embedding && !tensor.transposed;
  return layout;
}

std::vector<UnitLayout> unit_layouts(const std::vector<NamedShape>& tensors) {
  std::vector<UnitLayout> layouts;
  for (const NamedShape& tensor : tensors) {
    UnitLayout layout = unit_layout(tensor);
    const int64_t parts = tensor.parts > 1 ? tensor.parts : is_fused(tensor) ? 3 : 1;
    int64_t& divided = layout.defined ? layout.rows : layout.taps;
    require(divided % parts == 0, "tensor ", tensor.name, " is not in ", parts, " parts");
    divided /= parts;
    for (int64_t part = 0; part < parts; ++part, layout.continues = true) layouts.push_back(layout);
  }
  return layouts;
}

std::vector<size_t> tensors_of(const std::vector<UnitLayout>& layouts) {
  std::vector<size_t> tensors;
  for (const UnitLayout& layout : layouts)
    tensors.push_back(tensors.empty() ? 0 : tensors.back() + (layout.continues ? 0 : 1));
  return tensors;
}

at::Tensor by_tensor(const at::Tensor& by_layout, const std::vector<UnitLayout>& layouts) {
  const std::vector<size_t> tensors = tensors_of(layouts);
  const std::vector<int64_t> tensor(tensors.begin(), tensors.end());
  std::vector<int64_t> shape = by_layout.sizes().vec();
  shape[0] = tensor.empty() ? 0 : tensor.back() + 1;
  return at::zeros(shape, by_layout.options()).index_add_(0, at::tensor(tensor, at::kLong), by_layout);
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
