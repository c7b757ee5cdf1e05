// The data of the report page, gathered from a run folder.
#pragma once

#include <string>
#include <vector>

#include "seigh/nn/model.h"
#include "seigh/results/pruning_file.h"
#include "seigh/results/run_folder.h"

namespace seigh {

/// JSON as web/README.md describes it, from whatever the run has finished so far; `method` is that of its
/// eigensolver, `pruned` what is shown of pruning.
std::string report_data(const RunFolder& folder, const Model& model, int64_t parameters, Method method,
                        const std::vector<std::string>& headline, const std::vector<PruningRow>& pruned);

}  // namespace seigh
