// Text as sequences of characters, for language models.
#pragma once

#include <cstdint>
#include <string>

#include "seigh/core/filesystem.h"
#include "seigh/data/dataset.h"

namespace seigh {

struct TextOptions {
  std::string name = "tinyshakespeare";  ///< the file looked for is `name`.txt
  fs::path data_folder = {};             ///< --data; empty: search the usual places
  int64_t context = 64;                  ///< T, the length of a sequence
};

/// Loads `name`.txt from the places of load_mnist(). A character is a byte; its class is its rank among the
/// distinct bytes of the whole file, whose number is `classes`. x is int64 [N, T], y int64 [N, T] the same
/// shifted by one, so y[n][t] follows x[n][t] in the text. Windows do not overlap; characters at the end that
/// fill none are left out. The last tenth of the text is the test part (floor(9 length / 10) characters
/// train), validation is empty. Throws Error naming the file and the places looked at, or when a part is
/// shorter than one window.
DataSplits load_text(const TextOptions& options);

/// Indices (int64 [count]) 0..count-1, or of `subset` n the count after n count: what balanced_subset() is
/// for labelled data. Throws Error where there are too few.
at::Tensor first_subset(int64_t samples, int64_t count, int64_t subset = 0);

}  // namespace seigh
