#pragma once

#include <functional>
#include <string>

#include "apps/seigh/commands.h"
#include "seigh/run/stages.h"

namespace seigh::app {

/// A command that does one stage on an existing run folder.
void add_stage(CLI::App& app, Action& action, const std::string& name, const std::string& description,
               const std::function<void(Run&)>& stage);

}  // namespace seigh::app
