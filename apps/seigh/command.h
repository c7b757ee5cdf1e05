// The command line, as a function: of the program, and of Python's seigh.
#pragma once

#include <functional>
#include <memory>

#include "seigh/core/ranks.h"
#include "seigh/run/foreign.h"

namespace seigh::app {

struct CommandOptions {
  std::shared_ptr<Ranks> ranks = std::make_shared<Ranks>();
  std::function<bool()> cancelled;  ///< as of ContextOptions
  MakeForeign make_foreign;         ///< of recipes with model.python, where the program can
};

/// Does what the words say and prints to stdout and stderr. Returns the exit code: 0 done, 2 bad input (one
/// line says what to do), 3 not all certified with --strict, 130 interrupted, 1 anything else.
int run_command(int argc, char** argv, const CommandOptions& options);

}  // namespace seigh::app
