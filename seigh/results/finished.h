// Files of a run folder read back by a later stage. What is damaged there is named together with the way to
// mend it.
#pragma once

#include <cstdint>

#include "seigh/core/filesystem.h"
#include "seigh/nn/model.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/overlap_file.h"
#include "seigh/results/run_folder.h"
#include "seigh/train/checkpoint.h"

namespace seigh {

/// The checkpoint of `step`. Throws Error when it is damaged, of another step or model, or not finite.
Checkpoint finished_checkpoint(const RunFolder& folder, const Model& model, int64_t step);
/// The same as matrices, scores and masks see it: rescaled where the recipe says so.
Checkpoint rescaled_checkpoint(const RunFolder& folder, const Model& model, int64_t step);
/// A decomposition of this run. Throws Error when it is damaged or not of `parameters` parameters.
EigenFile finished_eigen(const fs::path& path, int64_t parameters = 0, Vectors vectors = Vectors::none,
                         const Context& context = Context());
/// All masks of an overlap file, their curves float64 [K] with K >= 1. Throws Error when they are damaged.
OverlapStudy finished_study(const fs::path& path);
/// Those of the first mask.
OverlapCurves finished_overlap(const fs::path& path);

}  // namespace seigh
