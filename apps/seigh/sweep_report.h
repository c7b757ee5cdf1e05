// What is written about a sweep as a whole, by the command and by Python.
#pragma once

#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/recipe/sweep.h"

namespace seigh::app {

/// Writes it into the sweep's folder: summary.csv, the joint page. Returns the table, line by line. For the
/// root alone. Throws Error on damaged results.
std::vector<std::string> write_sweep_report(const fs::path& folder, const Sweep& sweep);

}  // namespace seigh::app
