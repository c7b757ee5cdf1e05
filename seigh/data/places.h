// Where data sets are looked for.
#pragma once

#include <string>
#include <vector>

#include "seigh/core/filesystem.h"

namespace seigh {

/// Folders that may hold the data set `name`, best first: `data_folder` if given, else $SEIGH_DATA and the
/// cache folder, in each first its subfolder `name`, then itself; and last, unless data_folder is given,
/// /usr/share/datasets/`name`, where Debian's packages put theirs.
std::vector<fs::path> data_places(const fs::path& data_folder, const std::string& name);
/// $XDG_CACHE_HOME/seigh or ~/.cache/seigh; empty when neither variable is set.
fs::path cache_folder();
/// "a, b, c", for error messages.
std::string listed(const std::vector<fs::path>& places);

}  // namespace seigh
