// Which masks a recipe prunes by, and what each of them leaves.
//
// The order of a score is that of overlap's masks: the k first are kept, ties by index (masks.h); a control
// keeps as many of each tensor at random (random_order_within()). So the masks of one order hold each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/nn/subset.h"
#include "seigh/overlap/scores.h"
#include "seigh/overlap/units.h"
#include "seigh/recipe/recipe.h"
#include "seigh/results/pruning_file.h"
#include "seigh/results/run_folder.h"

namespace seigh {

/// All that the recipe asks for, results left open: of each of prune.steps the whole network, then score by
/// score its masks and their controls by rising sparsity. Random scores have draws in place of controls.
std::vector<PruningRow> pruning_rows(const Recipe& recipe);
/// Those of them that `rows` has no results of.
std::vector<PruningRow> missing_rows(const Recipe& recipe, const std::vector<PruningRow>& rows);
/// The results in the folder; none where there is no file yet.
PruningFile pruning_there(const RunFolder& folder);
/// Those of them that pruning_rows() asks for, in that order.
std::vector<PruningRow> pruning_results(const RunFolder& folder);
/// Of the split whose gradient and matrix scores are made of: train, or else the first.
std::string pruning_split(const Recipe& recipe);

/// What may be pruned: what overlap.parameters names; without it weights where there are norms among the
/// matrix' parameters, else all of those. Throws Error where that is nothing.
std::vector<UnitLayout> prunable(const Recipe& recipe, const ParameterSubset& subset);
/// How many of `prunable` parameters stay: the nearest whole number to (1 - sparsity) of them.
int64_t kept_of(int64_t prunable, double sparsity);
/// The order of one of pruning_rows(), int64 [count]: the first k are the mask of k. `inputs` as scores()
/// takes them; their seed and draw are set here.
at::Tensor pruning_order(const PruningRow& row, int64_t count, ScoreInputs inputs,
                         const std::vector<UnitLayout>& layouts, uint64_t seed, const Context& context);
/// bool [D]: 1 where a parameter may be pruned and is not among the `kept` first of the order.
at::Tensor pruned_by(const at::Tensor& order, int64_t kept, const std::vector<UnitLayout>& layouts);

}  // namespace seigh
