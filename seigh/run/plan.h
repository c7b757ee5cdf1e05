// What a run decides before it does anything: which method, which decompositions in which order, what ranks
// share out, what memory goes to whom. Data, and the same on all ranks.
#pragma once

#include <cstdint>
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

/// The method that the folder's recipe names or, where it is auto, that of the files that are there; none
/// where there are none yet.
std::optional<Method> method_there(const RunFolder& folder, const Context& context);

/// Does the file exist, as the root sees it? Ranks must not differ in what is left to be done.
bool is_there(const fs::path& path, const Context& context);

}  // namespace seigh
