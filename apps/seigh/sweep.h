// Folders of runs: what run, show and report do with a recipe, or a folder, that has a [sweep].
#pragma once

#include <string>
#include <vector>

#include "apps/seigh/commands.h"
#include "seigh/core/filesystem.h"

namespace seigh::app {

struct SweepCommand {
  std::string recipe, out, data;
  std::vector<std::string> overrides;
  bool resume = false, dry_run = false, strict = false;
};

/// seigh run of a recipe with a [sweep]. Throws Error at the end where runs failed.
void run_sweep_command(const Tools& tools, const SweepCommand& command);
/// seigh show of its folder: the table, and every run with its state.
void show_sweep(const fs::path& folder);
/// seigh report of its folder: writes the joint report anew, and prints the table.
void report_sweep(const fs::path& folder, const Context& context);

}  // namespace seigh::app
