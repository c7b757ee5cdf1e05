// What a run decides before it does anything: which method, which decompositions in which order, what ranks
// share out, what memory goes to whom. Data, and the same on all ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/eigen/eigh.h"
#include "seigh/recipe/recipe.h"
#include "seigh/results/run_folder.h"

namespace seigh {

/// One matrix decomposed in one way.
struct Decomposition {
  int64_t step;
  std::string split;
  Method method;  ///< never automatic
  /// Beside another method's, to measure that one's error.
  bool exact_beside = false;
};

struct RunPlan {
  int64_t parameters = 0;  ///< that the matrices are over
  Method method = Method::krylov;
  std::vector<Decomposition> decompositions;  ///< in the order they are made
  /// Whether each rank has its part of the samples rather than of the columns: with many samples, which each
  /// rank then need not go through, and where products depend on each other, so that all ranks work on the
  /// same block. Sampled targets are numbered from the first sample on, so mc_fisher must see them all.
  bool divides_samples = false;

  /// What the recipe's method takes for one of the matrices, given the memory there is now.
  EighPlan solver(const SolverOptions& options, at::ScalarType dtype, const Context& context) const;
};

/// `parameters`: that the recipe's matrices are over. Where its method is auto, that of the files that are in
/// the folder already; of a recipe without a folder yet (nullptr), none are. Throws Error on options that do
/// not fit.
RunPlan plan_run(const Recipe& recipe, const RunFolder* folder, int64_t parameters, const Context& context);

/// What a recipe asks for by `method`, in the order in which it is made.
std::vector<Decomposition> decompositions(const Recipe& recipe, Method method);

/// The method that a recipe names or, where it is auto, that of a decomposition it asks for and `is_made`;
/// none where there is none yet.
std::optional<Method> method_there(const Recipe& recipe,
                                   const std::function<bool(const Decomposition&)>& is_made);

/// A part of the training between two checkpoints that are there.
struct Stretch {
  std::optional<int64_t> from;       ///< the checkpoint it goes on from; none: the initial parameters
  std::vector<int64_t> checkpoints;  ///< to be made on the way, ascending
};
/// The parts that make the `missing` checkpoints; those `there` (both ascending) are never made anew, so that
/// they stay what decompositions have been made of.
std::vector<Stretch> training_stretches(const std::vector<int64_t>& missing,
                                        const std::vector<int64_t>& there);

/// Does the file exist, as the root sees it? Ranks must not differ in what is left to be done.
bool is_there(const fs::path& path, const Context& context);

}  // namespace seigh
