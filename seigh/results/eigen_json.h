// One decomposition as JSON, for other programs.
#pragma once

#include <string>

#include "seigh/eigen/result.h"
#include "seigh/results/eigen_file.h"

namespace seigh {

/// An object with "method", "selection", "parameters", "k", "rank", "products", "seconds", "dtype",
/// "certified", "error" and "frobenius" (estimates, null where there are none) and "pairs", one object for
/// each: "eigenvalue", "residual", "trust" ("pair", "cluster", "value" or "noise"), "angle" in radians (null
/// where nothing is known), "enclosure" [low, high] and "place" [first, last]. What is not finite is null.
std::string eigen_json(const EigenFileInfo& info, const EigenResult& result);

}  // namespace seigh
