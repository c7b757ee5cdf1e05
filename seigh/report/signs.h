// Signs that an overlap means less than it seems to, each in one line with its figure.
#pragma once

#include <string>
#include <vector>

#include "seigh/results/eigen_file.h"
#include "seigh/results/overlap_file.h"

namespace seigh {

/// Of the first mask at its largest k: pairs that are not certified; a spectrum that goes on at k without a
/// gap (below a thousandth) or is flat (less than a factor 2 over at least ten values), as where training has
/// stalled; scores that are tied at the mask's end or hardly differ (its last less than 1.1 times the
/// median); an overlap that its nulls reach by chance, the one by layer and the two-way one.
std::vector<std::string> failure_signs(const EigenFile& eigen, const OverlapStudy& study);

}  // namespace seigh
