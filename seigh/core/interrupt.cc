#include "seigh/core/interrupt.h"

#include <atomic>
#include <csignal>

namespace seigh {
namespace {

std::atomic<bool> requested{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int signal) {
  if (requested.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

Interrupted::Interrupted() : std::runtime_error("interrupted") {}

void install_interrupt_handlers() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

void check_interrupt() {
  if (requested.load(std::memory_order_relaxed)) throw Interrupted();
}

}  // namespace seigh
