// Names and shapes of parameter tensors as an attribute of a result file.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/nn/model.h"

namespace seigh {

/// HDF5 keeps an attribute beside its data set, in 64 KiB at most; longer lists are left out.
inline constexpr size_t kMostTensorText = 60'000;

/// [["layers.0.weight", [20, 256]], ...]
std::string text_of_tensors(const std::vector<ParameterSpec>& tensors);
/// Throws Error naming the file unless text_of_tensors() can have written it.
std::vector<ParameterSpec> tensors_of_text(const fs::path& path, const std::string& text);

}  // namespace seigh
