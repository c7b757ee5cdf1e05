// What a recipe wants to know of masks and the eigenspaces of one decomposition.
#pragma once

#include <ATen/core/Tensor.h>

#include <set>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/eigen/result.h"
#include "seigh/nn/model.h"
#include "seigh/nn/subset.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/joint_null.h"
#include "seigh/overlap/scores.h"
#include "seigh/overlap/units.h"
#include "seigh/recipe/recipe.h"
#include "seigh/results/overlap_file.h"

namespace seigh {

/// score_needs() of any of the scores of these names; the same without "space", what the model must tell.
std::set<std::string> needed_of_scores(const std::vector<std::string>& names);
std::set<std::string> needed_of_model(const std::vector<std::string>& names);

/// Parameters that masks may hold.
struct Population {
  std::string name;  ///< "all", "chosen" (overlap.parameters) or "weights"
  std::vector<UnitLayout> layouts;
};
/// Those that overlap.parameters names, or all; then, where there are norms, weights alone.
std::vector<Population> populations(const Recipe& recipe, const ParameterSubset& subset);

/// A network's hidden units in the flat vector of the subset; parameters outside of it do not matter.
std::vector<UnitGroup> unit_groups(const std::vector<HiddenUnits>& units, const ParameterSubset& subset);

/// Every mask of the recipe against the eigenspaces of `result`, with nulls, bands and anatomy; masks come
/// from scores, for the parameters overlap.parameters names and, where there are norms, for weights alone,
/// and from files. units: empty where they are not known. Collective where the eigenvectors are. Throws Error
/// on a file that does not fit the parameters.
OverlapStudy study_overlap(const Recipe& recipe, const ParameterSubset& subset,
                           const std::vector<UnitGroup>& units, ScoreInputs inputs, const EigenResult& result,
                           const OverlapOptions& options, const Context& context);

}  // namespace seigh
