// NumPy's .npy files, format versions 1.0 to 3.0 (numpy.lib.format documentation).
#pragma once

#include <ATen/core/Tensor.h>

#include "seigh/core/filesystem.h"

namespace seigh {

/// Reads an array of little-endian float32, float64, int32, int64 or uint8, in C or Fortran order, as a
/// contiguous CPU tensor of that dtype and shape. Throws Error on anything else, and on a truncated file.
at::Tensor read_npy(const fs::path& path);

/// Writes float64 numbers of one dimension, completely or not at all: version 1.0.
void write_npy(const fs::path& path, const at::Tensor& vector);

}  // namespace seigh
