#pragma once

#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"

namespace seigh::app {

/// One page of runs that are only looked at: no lock, no data, no code of theirs. Throws Error where a folder
/// holds no run, or results of another recipe than its own, and where there is a file at `page` that is no
/// page of seigh's.
void write_joint_page(const std::vector<fs::path>& runs, const fs::path& page, const Context& context);

}  // namespace seigh::app
