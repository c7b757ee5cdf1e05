// The synthetic study of the metrics, for the commands that take a recipe or its folder.
#pragma once

#include <string>
#include <vector>

#include "apps/seigh/commands.h"
#include "seigh/core/filesystem.h"

namespace seigh::app {

struct SyntheticCommand {
  std::string recipe, out;
  std::vector<std::string> overrides;
  bool resume = false, dry_run = false;
};
/// seigh run of a recipe with [synthetic].
void run_synthetic_command(const Tools& tools, const SyntheticCommand& command);
/// seigh report of its folder.
void report_synthetic_command(const fs::path& folder);
/// seigh show of its folder.
void show_synthetic(const fs::path& folder);

}  // namespace seigh::app
