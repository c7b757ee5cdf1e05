// Ctrl-C as a flag that long loops look at between pieces of work.
#pragma once

#include <stdexcept>

namespace seigh {

/// Thrown by check_interrupt() once the user has asked to stop; finished files are complete by then.
class Interrupted : public std::runtime_error {
 public:
  Interrupted();
};

/// Installs handlers for SIGINT and SIGTERM that set the flag; a second signal ends the process at once.
void install_interrupt_handlers();
/// Throws Interrupted if the flag is set. Async-signal-safe to race with; costs one atomic load.
void check_interrupt();

}  // namespace seigh
