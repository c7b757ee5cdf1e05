#include "seigh/nn/hidden_units.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "seigh/core/error.h"

namespace seigh {

using nlohmann::json;

const ParameterSpec* HiddenUnitsOf::find(const std::string& name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const ParameterSpec& spec) { return spec.name == name; });
  return found == parameters_.end() ? nullptr : &*found;
}

HiddenUnitsOf& HiddenUnitsOf::add(const std::string& name, int64_t outer) {
  const ParameterSpec* const spec = find(name);
  require(spec != nullptr, "there is no tensor ", name);
  require(spec->numel() % (outer * units_.count) == 0, "tensor ", name, " of ", spec->numel(),
          " parameters has not ", units_.count, " units");
  units_.blocks.push_back(
      {static_cast<size_t>(spec - parameters_.data()), outer, spec->numel() / (outer * units_.count)});
  return *this;
}

HiddenUnitsOf& HiddenUnitsOf::made_by(const std::string& name, int64_t copies) {
  add(name + ".weight", copies);
  if (find(name + ".bias") != nullptr) add(name + ".bias", copies);
  return *this;
}

HiddenUnitsOf& HiddenUnitsOf::read_by(const std::string& name, int64_t copies) {
  const ParameterSpec* const spec = find(name + ".weight");
  return add(name + ".weight", copies * (spec != nullptr ? spec->shape[0] : 1));
}

HiddenUnitsOf& HiddenUnitsOf::last_of(const std::string& name) {
  const ParameterSpec* const spec = find(name);
  return add(name, spec != nullptr ? spec->numel() / spec->shape.back() : 1);
}

std::string units_text(const Model& model) {
  json content;
  const std::vector<ParameterSpec>& specs = model.parameters();
  for (size_t t = 0; t < specs.size(); ++t)
    if (specs[t].parts > 1 || specs[t].transposed)
      content["tensors"].push_back({t, specs[t].parts, specs[t].transposed ? 1 : 0});
  for (const HiddenUnits& units : model.hidden_units()) {
    json blocks = json::array();
    for (const HiddenUnits::Block& block : units.blocks)
      blocks.push_back({block.tensor, block.outer, block.inner});
    content["units"].push_back({units.count, blocks});
  }
  return content.is_null() ? std::string() : content.dump();
}

std::vector<HiddenUnits> read_units_text(const std::string& text, std::vector<ParameterSpec>& specs) {
  std::vector<HiddenUnits> all;
  if (text.empty()) return all;
  try {
    const json content = json::parse(text);
    for (const json& entry : content.value("tensors", json::array())) {
      ParameterSpec& spec = specs.at(entry.at(0).get<size_t>());
      spec.parts = entry.at(1).get<int64_t>();
      spec.transposed = entry.at(2).get<int>() != 0;
      require(spec.parts >= 1 && spec.numel() % spec.parts == 0, "tensor ", spec.name, " is not in ",
              spec.parts, " parts");
    }
    for (const json& entry : content.value("units", json::array())) {
      HiddenUnits& units = all.emplace_back(HiddenUnits{entry.at(0).get<int64_t>(), {}});
      for (const json& block : entry.at(1)) {
        const HiddenUnits::Block& b = units.blocks.emplace_back(HiddenUnits::Block{
            block.at(0).get<size_t>(), block.at(1).get<int64_t>(), block.at(2).get<int64_t>()});
        const ParameterSpec& spec = specs.at(b.tensor);
        const int64_t numel = spec.numel();
        require(units.count >= 1 && b.outer >= 1 && b.inner >= 1 && numel % units.count == 0 &&
                    numel / units.count % b.outer == 0 && numel / units.count / b.outer == b.inner,
                "tensor ", spec.name, " has not ", units.count, " units of ", b.outer, " x ", b.inner);
      }
    }
  } catch (const json::exception&) {
    fail("hidden units are damaged: ", text.substr(0, 60));
  } catch (const std::out_of_range&) {
    fail("hidden units name a tensor that is not there: ", text.substr(0, 60));
  }
  return all;
}

std::vector<HiddenUnits> chain_of_units(const std::vector<ParameterSpec>& parameters) {
  std::vector<HiddenUnits> all;
  const auto layer = [&](size_t i) {
    const std::string& name = parameters[i].name;
    return name.substr(0, name.rfind('.'));
  };
  for (size_t i = 0; i + 2 < parameters.size(); i += 2)
    all.push_back(
        HiddenUnitsOf(parameters, parameters[i].shape[0]).made_by(layer(i)).read_by(layer(i + 2)).units());
  return all;
}

}  // namespace seigh
