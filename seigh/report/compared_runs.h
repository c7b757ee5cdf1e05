// The data of a page of several runs. Those whose recipes differ in nothing but the seed and the subset of
// samples (curvature.subset) are repetitions of each other, a *group*, in two directions: seeds are other
// runs, subsets other samples of one trained network. The page shows the geometric mean of a group with
// t-intervals on logarithms, one over seeds, one over subsets within a seed, and groups beside each other.
#pragma once

#include <string>
#include <vector>

#include "seigh/recipe/recipe.h"

namespace seigh {

struct PageRun {
  std::string name;  ///< told apart by it: the folder
  Recipe recipe;
  std::string data;  ///< report_data()
};

/// "mnist-mini, 3 runs"; with all names where they are different.
std::string page_title(const std::vector<PageRun>& runs);

/// JSON as web/README.md describes it. Throws Error when two are repetitions with one seed on one subset, or
/// one has no overlap curves yet.
std::string compared_runs(const std::vector<PageRun>& runs);

}  // namespace seigh
