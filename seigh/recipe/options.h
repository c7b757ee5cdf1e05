// What the tables of a resolved recipe mean to the library.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/curvature/curvature.h"
#include "seigh/data/dataset.h"
#include "seigh/eigen/options.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"
#include "seigh/recipe/recipe.h"
#include "seigh/train/train.h"

namespace seigh {

/// Loads the data set, from `data_folder` or the usual places. Throws Error as the loaders do, and when a
/// text has another number of characters than the recipe says.
DataSplits load_data(const Recipe& recipe, const fs::path& data_folder);
/// The network for the recipe's data, which need not be there. Throws Error when they do not fit.
std::unique_ptr<Model> make_model(const Recipe& recipe);
/// Of training and of the curvature, by name or from the TorchScript file train.loss names. Throws Error on
/// an unknown loss or one that cannot be smoothed.
Loss make_loss(const Recipe& recipe);
/// The whole training, all checkpoints; `loss` is make_loss() of the recipe. Throws Error on unknown names.
TrainOptions train_options(const Recipe& recipe, const Loss& loss);
/// Of the matrices, all but dtype and reserve. Throws Error on an unknown matrix.
CurvatureOptions curvature_options(const Recipe& recipe, const Loss& loss);
/// `context` where the recipe computes: on its device, or the one that is named instead, deterministic where
/// it says so. Throws Error as usable_device() does.
Context context_for(const Recipe& recipe, const Context& context, const std::string& device = "");
/// Of the eigensolver, all but start and state.
SolverOptions solver_options(const Recipe& recipe);
/// Those whose results a run with this method may hold: itself and the exact ones beside it.
std::vector<std::string> result_methods(Method method);
/// Of the products and the vectors.
at::ScalarType eigh_dtype(const Recipe& recipe);
/// Indices of the `count` samples of `part` that curvature is taken on: the first of each class, the first
/// sequences of a text; or those of a later disjoint `subset`. Throws Error when there are too few.
at::Tensor curvature_subset(const Dataset& part, int64_t count, int64_t subset = 0);

}  // namespace seigh
