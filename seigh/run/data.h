// The data of a run, with all that its recipe asks of them checked before anything long.
#pragma once

#include <string>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"
#include "seigh/recipe/recipe.h"

namespace seigh {

/// Throws Error when data are missing or damaged, when a network of the user's own does not work on them, and
/// when there are too few for a mini-batch or for the curvature. Data are on the CPU; what is tried is tried
/// on context.device().
DataSplits checked_data(const Recipe& recipe, const Model& model, const Loss& loss,
                        const fs::path& data_folder, const Context& context);
/// What training and accuracies take, on context.device() where it has room: a quarter of what is free there;
/// else where they are.
DataSplits placed(const DataSplits& data, const Context& context);
/// "train", "validation" or "test".
const Dataset& named_part(const DataSplits& data, const std::string& name);

}  // namespace seigh
