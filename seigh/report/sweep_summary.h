// What the runs of a sweep come to: one row for every run, step and split; means over seeds, comparisons by
// seed (seigh/overlap/statistics.h).
//
// Where a sweep names a loss (sweep.at_loss), each run also gets a row where its training loss first falls to
// it: between the two recorded steps about that place, linear in the loss, of the logarithm of overlap and
// its factors. The loss is that of a checkpoint's first 1000 training samples (Checkpoint::train_loss), not
// of a mini-batch.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "seigh/eigen/options.h"
#include "seigh/recipe/sweep.h"
#include "seigh/results/run_folder.h"

namespace seigh {

struct SummaryRow {
  std::string variant, folder;
  int64_t seed = 0, subset = 0;
  bool at_loss = false;  ///< interpolated
  double step = 0;       ///< whole, but where interpolated
  std::string split;
  double loss = std::numeric_limits<double>::quiet_NaN(), test_accuracy = loss;
  int64_t k = 0;
  double overlap = loss, chance = loss;                 ///< of the largest mask
  double layer = loss, units = loss, parameter = loss;  ///< its factors (OverlapFactors)
  double z = loss, p = loss;
  /// Of the overlap, by the solver: bounds or, of a sketch, three standard deviations to both sides.
  double overlap_low = loss, overlap_high = loss;
  int64_t certified = -1;  ///< pairs; -1: not known
};

/// Those of the curves by `method` that are in the folder of `run`, by split and step; with `at_loss` rows
/// last, where its loss is reached. Throws Error on damaged files.
std::vector<SummaryRow> summary_rows(const SweepRun& run, const RunFolder& folder, Method method,
                                     std::optional<double> at_loss);
/// With a header; what is not known is empty.
std::string summary_csv(const std::vector<SummaryRow>& rows);
/// For people: by split a table of the variants at their last step, and where the loss falls to at_loss.
std::vector<std::string> summary_table(const Sweep& sweep, const std::vector<SummaryRow>& rows);

}  // namespace seigh
