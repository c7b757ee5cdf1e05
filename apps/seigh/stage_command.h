#pragma once

#include <functional>
#include <string>

#include "apps/seigh/commands.h"
#include "seigh/run/stages.h"

namespace seigh::app {

/// A command that does one stage on an existing run folder.
void add_stage(CLI::App& app, Action& action, const std::string& name, const std::string& description,
               const std::function<void(Run&)>& stage);

/// print_certified() over all decompositions of the run that are there.
void print_certified(const Run& run, bool strict);

}  // namespace seigh::app
