// Networks, weights, losses and data that the user brings as files (docs/your-network.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"
#include "seigh/recipe/recipe.h"
#include "seigh/train/checkpoint.h"

namespace seigh {

/// Does the recipe take its checkpoints from files, the module's own or model.weights, instead of training?
bool brings_weights(const Recipe& recipe);
/// The file that holds the parameters of `step`: model.weights with {step} or {step:06} replaced; empty when
/// they are the module's own.
fs::path weights_file(const Recipe& recipe, int64_t step);
/// The checkpoint of `step` from its file: every parameter by name; buffers that the file does not hold are
/// the module's own. Loss and accuracy are those of the first 1000 training and test samples, computed on
/// context.device(); tensors are on the CPU. Throws Error naming the file when a parameter is missing, has
/// another shape or is not finite.
Checkpoint brought_checkpoint(const Recipe& recipe, const Model& model, const Loss& loss,
                              const DataSplits& data, int64_t step, const Context& context);

/// The data that data.x and data.y name and, as test part, those of data.test_x and data.test_y, or else the
/// same; classes unknown. Throws Error when the parts are not alike.
DataSplits load_own_data(const Recipe& recipe);
/// Probes the network on `data`, there and in every dtype the recipe asks for; sets the classes of data of
/// the user's own. Throws Error as probe() does, and on test data with other classes.
void probe(const Recipe& recipe, const Model& model, const Loss& loss, DataSplits& data,
           const c10::Device& device);
/// The samples of `part`, the split of that name, the curvature is taken on: int64 [curvature.samples]. A
/// balanced_subset(), or the first ones of data of the user's own without enough of each class; those of
/// curvature.subset. Throws Error when there are too few.
at::Tensor curvature_samples(const Recipe& recipe, const Dataset& part, const std::string& split);
/// What the user should know of that choice among data of their own: one line, or none where it is all of
/// them.
std::vector<std::string> chosen_samples_note(const Recipe& recipe, const Dataset& part,
                                             const std::string& split);

}  // namespace seigh
