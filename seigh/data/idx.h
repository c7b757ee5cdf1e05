// The IDX format of the MNIST files (yann.lecun.com/exdb/mnist): big-endian magic number 00 00 type rank,
// then sizes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/core/filesystem.h"

namespace seigh {

/// Reads an IDX file of unsigned bytes (plain, or gzip-compressed) as a uint8 tensor of `rank` dimensions.
/// Throws Error naming the file on a wrong magic number, rank or length, and MemoryError where there is no
/// room (io/limits.h) for `times` the bytes it promises: what the caller makes of them.
at::Tensor read_idx(const fs::path& path, int64_t rank, int64_t times = 1);

}  // namespace seigh
