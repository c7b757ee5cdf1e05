#include "seigh/results/tensor_list.h"

#include <nlohmann/json.hpp>

#include "seigh/core/error.h"
#include "seigh/io/limits.h"

namespace seigh {

std::string text_of_tensors(const std::vector<ParameterSpec>& tensors) {
  nlohmann::json list = nlohmann::json::array();
  for (const ParameterSpec& spec : tensors) list.push_back({spec.name, spec.shape});
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<ParameterSpec> tensors_of_text(const fs::path& path, const std::string& text) {
  require_plain_json(text, path.string());
  std::vector<ParameterSpec> tensors;
  try {
    for (const auto& entry : nlohmann::json::parse(text)) {
      tensors.push_back({entry.at(0).get<std::string>(), entry.at(1).get<std::vector<int64_t>>()});
    }
  } catch (const nlohmann::json::exception&) {
    fail(path.string(), ": attribute \"tensors\" is damaged");
  }
  return tensors;
}

}  // namespace seigh
