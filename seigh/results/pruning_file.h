// What is left of a network without the parameters that a score puts last: RUN/pruning.csv
// (docs/file_format.md).
//
//   # seigh pruning 1
//   # <a key of the recipe that decided it = its value>          record(), recipe.h; a line each
//   step,score,sparsity,control,draw,prunable,kept,accuracy,loss,tuned_accuracy,tuned_loss
//   1000,magnitude,0.9,0,0,2300,230,0.91,0.31,nan,nan
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"

namespace seigh {

/// One mask at one checkpoint.
struct PruningRow {
  int64_t step = 0;
  std::string score;     ///< "none" of the whole network
  double sparsity = 0;   ///< share of what may be pruned that is
  bool control = false;  ///< a random mask with the score's counts in each tensor
  int64_t draw = 0;      ///< which one of several random masks
  int64_t prunable = 0, kept = 0;
  double accuracy = 0, loss = 0;  ///< over all test data
  /// After fine-tuning; NaN without it, and where it diverged.
  double tuned_accuracy = std::numeric_limits<double>::quiet_NaN();
  double tuned_loss = std::numeric_limits<double>::quiet_NaN();

  /// Is it of the same mask?
  bool same_mask(const PruningRow& other) const;
};

struct PruningFile {
  std::string recipe;  ///< record()
  std::vector<PruningRow> rows;
};

/// Written completely or not at all.
void write_pruning_file(const fs::path& path, const PruningFile& file);
/// Throws Error naming the file and the line where it is damaged, and the way to mend it.
PruningFile read_pruning_file(const fs::path& path);

/// Test accuracy (loss where there is none) by score and sparsity, step by step; of several draws their mean.
std::vector<std::string> pruning_table(const std::vector<PruningRow>& rows);

}  // namespace seigh
