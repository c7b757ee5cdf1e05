// CIFAR-10.
#pragma once

#include <cstdint>

#include "seigh/core/filesystem.h"
#include "seigh/data/dataset.h"

namespace seigh {

struct CifarOptions {
  fs::path data_folder = {};            ///< --data; empty: search the usual places
  int64_t validation_samples = 10'000;  ///< the last ones of the training files are held out
  bool normalise = false;  ///< per channel: minus the mean, over the standard deviation of the training part
  int64_t samples_per_file = 10'000;  ///< records in each file; another number for cut-down copies
};

/// Loads CIFAR-10 (Krizhevsky 2009) from its binary layout: data_batch_1.bin ... data_batch_5.bin and
/// test_batch.bin, each of samples_per_file records of one label byte and 3072 pixel bytes (red, green, blue
/// planes). x is float32 [N, 3, 32, 32] in [0, 1], or normalised by the statistics of the training part,
/// validation excluded (divisor N of the variance).
///
/// Looks in the places of load_mnist() (name "cifar-10") and in their subfolders cifar-10-batches-bin. When
/// none has a file of the six, the archive cifar-10-binary.tar.xz is looked for in the same places and
/// unpacked by `tar` into the cache folder, once: a complete copy there is taken before any archive is
/// unpacked. Throws Error naming the missing file, the places looked at and what to do; naming the file, the
/// expected and the actual number of bytes when a file was cut short; and on labels beyond 9.
DataSplits load_cifar10(const CifarOptions& options);

}  // namespace seigh
