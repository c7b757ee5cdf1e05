// Labelled data in memory, and where it is found on disk.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "seigh/core/filesystem.h"

namespace seigh {

/// Inputs and targets of N samples.
struct Dataset {
  at::Tensor x;  ///< float32 [N, ...] (text: int64 [N, T]); images as [N, channels, height, width] with
                 ///< values in [0, 1]
  at::Tensor y;  ///< int64 [N] (text: [N, T]), classes 0..classes-1; floating targets [N, ...] where the loss
                 ///< takes them (loss.h)
  int64_t classes = 0;
  at::Tensor numbers = {};  ///< int64 [N]: which samples of a larger set these are; undefined: its own

  int64_t size() const { return x.defined() ? x.size(0) : 0; }
  /// The samples at `index` (int64 [n]), copied.
  Dataset select(const at::Tensor& index) const;
  /// The same on another device; their numbers stay.
  Dataset on(const c10::Device& device) const;
};

/// The three parts of a data set as training uses them.
struct DataSplits {
  std::string name;    ///< "mnist", "fashion-mnist"
  std::string source;  ///< the folder it was read from
  Dataset train, validation, test;
};

/// Indices (int64 [count], ascending) of the first count/classes samples of each class; when `classes` does
/// not divide `count` the lowest classes give one more. `subset` n > 0 takes those after what the n subsets
/// before have taken: disjoint ones. Throws Error when a class has too few samples.
at::Tensor balanced_subset(const at::Tensor& labels, int64_t classes, int64_t count, int64_t subset = 0);

/// The labels (int64 [N]), a share of them, each drawn with that probability, replaced by another class, all
/// others alike. Depends on the seed and each label's place alone. Throws Error unless 0 <= share <= 1 and
/// classes >= 2.
at::Tensor noisy_labels(const at::Tensor& labels, int64_t classes, double share, uint64_t seed);

struct MnistOptions {
  std::string name = "mnist";           ///< "mnist" or "fashion-mnist": which files to look for
  fs::path data_folder;                 ///< --data; empty: search the usual places
  int64_t image_size = 28;              ///< side in pixels after an antialiased bilinear resize
  int64_t validation_samples = 10'000;  ///< the last ones of the training file are held out
};

/// Loads the four IDX files of MNIST or Fashion-MNIST (plain or gzip), resizes to image_size and scales to
/// [0, 1]. Looks in data_folder if given, else in $SEIGH_DATA, $XDG_CACHE_HOME/seigh (or ~/.cache/seigh), in
/// each first in its subfolder `name`, then in itself; and last in /usr/share/datasets/`name`, where Debian's
/// dataset-fashion-mnist is. The first folder with any of the files is taken and must have all four. Throws
/// Error naming the missing file, the places looked at and how to get the data, and on files that are damaged
/// or do not fit together.
DataSplits load_mnist(const MnistOptions& options);

}  // namespace seigh
