// The result of a run in words.
#pragma once

#include <string>
#include <vector>

#include "seigh/eigen/options.h"
#include "seigh/results/run_folder.h"

namespace seigh {

/// A heading and one line per step, of the overlap curves that are there by `method` and by the exact one
/// beside it; empty without any. Throws Error when they are damaged.
std::vector<std::string> headline(const RunFolder& folder, Method method);

}  // namespace seigh
