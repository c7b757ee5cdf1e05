// What is known of the model at the parameters and samples of a decomposition, kept beside it so that masks
// by other scores than magnitude need no model later: RUN/model/*.h5 (docs/file_format.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "seigh/core/filesystem.h"

namespace seigh {

/// float64 or float32, [D] each, of the parameters that the matrix is over; undefined where nobody asked.
struct ModelFile {
  at::Tensor gradient;        ///< of the mean loss of the samples
  at::Tensor fisher;          ///< mean of the squared gradients of single samples' losses
  at::Tensor diagonal;        ///< of the matrix, estimated by its products
  at::Tensor diagonal_error;  ///< one standard deviation of each entry
  bool defined() const { return gradient.defined(); }
};

/// Written completely or not at all.
void write_model_file(const fs::path& path, const ModelFile& content, const std::string& recipe);
/// Throws Error naming the file when it is damaged, not finite, or not of `parameters` parameters.
ModelFile read_model_file(const fs::path& path, int64_t parameters);

}  // namespace seigh
