#pragma once

#include <functional>
#include <string>

#include "apps/seigh/commands.h"
#include "seigh/run/stages.h"

namespace seigh::app {

/// What a command does with the network of a run: computes by it, on its device, or nothing.
enum class Network { computed, unused };

/// A command that does one stage on an existing run folder.
void add_stage(CLI::App& app, Action& action, const std::string& name, const std::string& description,
               Network network, const std::function<void(Run&)>& stage);

/// --data FOLDER.
void add_data(CLI::App* command, std::string& folder);

/// The run in a folder, with its network where that is in Python and trusted; `shared` as of
/// RunFolder::open().
Run open_run(const Tools& tools, const std::string& folder, const std::string& data, Network network,
             bool shared = false);

/// print_certified() over all decompositions of the run that are there.
void print_certified(const Run& run, bool strict);

}  // namespace seigh::app
