// What a recipe wants to know of masks and the eigenspaces of one decomposition.
#pragma once

#include <ATen/core/Tensor.h>

#include <set>
#include <string>

#include "seigh/core/context.h"
#include "seigh/eigen/result.h"
#include "seigh/nn/subset.h"
#include "seigh/overlap/curves.h"
#include "seigh/recipe/recipe.h"
#include "seigh/results/model_file.h"
#include "seigh/results/overlap_file.h"

namespace seigh {

/// Which of "gradient", "fisher" and "diagonal" the recipe's scores need of the model; "initial" for the
/// parameters of step 0.
std::set<std::string> needed_of_model(const Recipe& recipe);

/// What a study is made of, over the parameters of the matrix.
struct StudyInputs {
  const ParameterSubset& subset;
  at::Tensor parameters;  ///< [D]
  at::Tensor initial;     ///< of step 0, where there are scores that need them
  ModelFile model;        ///< the same
};

/// Every mask of the recipe against the eigenspaces of `result`, with nulls, bands and anatomy; masks come
/// from scores, for the parameters overlap.parameters names and, where there are norms, for weights alone,
/// and from files. Collective where the eigenvectors are. Throws Error on a file that does not fit the
/// parameters.
OverlapStudy study_overlap(const Recipe& recipe, const StudyInputs& inputs, const EigenResult& result,
                           const OverlapOptions& options, const Context& context);

}  // namespace seigh
