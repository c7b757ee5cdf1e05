// Data sets from files of tensors: .npy, safetensors, HDF5.
#pragma once

#include <string>

#include "seigh/data/dataset.h"

namespace seigh {

/// Inputs and targets of N samples. Each of `x` and `y` names a file, or FILE:NAME with the name of a tensor
/// inside a .safetensors, .h5 or .hdf5 file; without it the tensors are "x" and "y". An empty `y` stands for
/// tensor "y" of the file of `x`.
///
/// x becomes floating [N, ...] (float32 or float64 as in the file) or int64 [N, ...] (tokens); y int64 (from
/// int32 too), or floating targets. `classes` is 0: it is the network's to say. Throws Error naming the file
/// when one is missing or damaged, when a tensor is missing or has another dtype, and when x and y are not of
/// the same samples.
Dataset load_tensor_data(const std::string& x, const std::string& y);

}  // namespace seigh
