// The result of a run in words.
#pragma once

#include <string>
#include <vector>

#include "seigh/eigen/options.h"
#include "seigh/results/run_folder.h"

namespace seigh {

/// A heading and one line for each step and split, of the overlap curves that are there by `method` and by
/// the exact one beside it: the overlap of the largest mask as a product (seigh/overlap/nulls.h). Empty
/// without any. Throws Error when they are damaged.
std::vector<std::string> headline(const RunFolder& folder, Method method);

/// How many of the pairs that were asked for are certified, over the decompositions that are there.
struct CertifiedPairs {
  int64_t certified = 0, wanted = 0;
  int64_t decompositions = 0;
  std::string least;  ///< the decomposition with the smallest share, "12 of 40 at step 100, train"
};
/// Throws Error when files are damaged.
CertifiedPairs certified_pairs(const RunFolder& folder, Method method);

}  // namespace seigh
