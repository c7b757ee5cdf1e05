// The dynamics of a run, from its files: maps of all pairs of steps, crystallisation, the gradient in the top
// space.
#pragma once

#include <cstdint>
#include <string>

#include "seigh/core/context.h"
#include "seigh/nn/model.h"
#include "seigh/nn/subset.h"
#include "seigh/recipe/options.h"
#include "seigh/results/dynamics_file.h"
#include "seigh/results/run_folder.h"

namespace seigh {

/// A run whose files are read.
struct DynamicsOf {
  const RunFolder& folder;
  const Model& model;
  const ParameterSubset& subset;
  Method method;
};

/// What a run's dynamics take.
struct DynamicsCost {
  int64_t steps = 0;  ///< of the largest map
  double flops = 0;
  /// Some minutes on two cores, and maps that a page can show.
  bool cheap() const { return steps <= 64 && flops <= 1e14; }
};
DynamicsCost dynamics_cost(const DynamicsOf& run, const DynamicsSources& sources);

/// Masks at the shares .005, .01, .05 and .2 of the parameters, by all checkpoints; eigenspaces of each
/// split, and of every two, at those shares that all decompositions have pairs for, and at all they have in
/// common where that is half as many again; crystallisation; gradients where they are stored. Memory: a third
/// of what there is. Throws Error where there are fewer than two steps of anything, or a file is damaged.
Dynamics dynamics_of(const DynamicsOf& run, const Context& context);

/// Each split's eigenspaces of one run held against another's, as those of the Hessian and of the
/// Gauss-Newton matrix of one network. Of the same matrix on disjoint samples (curvature.subset)
/// crystallisation too, whose ceiling is what the two reach at the reference step. Throws Error unless both
/// are over the same parameters (names and shapes), have steps in common, and the same checkpoint at each of
/// those; and have a split in common.
Dynamics dynamics_between(const DynamicsOf& run, const DynamicsOf& other, const Context& context);

}  // namespace seigh
