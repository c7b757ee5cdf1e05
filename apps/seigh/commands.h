// One function per command: it declares its options and what to do when it is called.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "seigh/core/context.h"
#include "seigh/run/foreign.h"

namespace seigh::app {

/// What commands work with.
struct Tools {
  const Context& context;
  MakeForeign make_foreign;  ///< of networks in Python, where the program can
  bool trust_code = false;   ///< also those that a run folder names, not the user
  std::string device = {};   ///< --device, which is there; empty: the recipe's
};

/// What computes on the device that the user or else the recipe names. Throws Error where it is not there.
Context on_device(const Tools& tools, const Recipe& recipe);
/// Throws Error on --device, of a command that `computes` no network's.
void require_no_device(const Tools& tools, const std::string& computes);

/// Thrown at the end of a command with --strict: everything is done and kept, but not everything is
/// certified.
struct NotCertified {
  std::string message;
};
/// Prints "m of k certified" and, on stderr, what to do where m < k; throws NotCertified then if `strict`.
void print_certified(int64_t certified, int64_t of, bool strict, const std::string& details = "");

/// Adds the command to `app`; when the user calls it, `action` is set to what it does.
using Action = std::function<void(const Tools&)>;
void add_run(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_eigh(CLI::App& app, Action& action);
void add_trace(CLI::App& app, Action& action);
void add_diagonal(CLI::App& app, Action& action);
void add_density(CLI::App& app, Action& action);
void add_measure(CLI::App& app, Action& action);
void add_recover(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_overlap(CLI::App& app, Action& action);
void add_prune(CLI::App& app, Action& action);
void add_dynamics(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_show(CLI::App& app, Action& action);
/// Added last: it knows the others.
void add_help(CLI::App& app, Action& action);

}  // namespace seigh::app
