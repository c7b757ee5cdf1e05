// The program: its signals, its ranks, its end.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "apps/seigh/command.h"
#ifdef SEIGH_MPI
#include "seigh/mpi/mpi.h"
#endif

namespace {

// Ctrl-C as a flag that work looks at between its pieces; a second signal ends the process at once.
std::atomic<bool> asked_to_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int signal) {
  if (asked_to_stop.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

int main(int argc, char** argv) {
#ifdef SEIGH_MPI
  const std::shared_ptr<seigh::Ranks> ranks = seigh::start_mpi();
#else
  const auto ranks = std::make_shared<seigh::Ranks>();
#endif
  // One rank speaks for all.
  if (!ranks->root() && std::freopen("/dev/null", "w", stdout) == nullptr) return 1;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  const int code =
      seigh::app::run_command(argc, argv,
                              {.ranks = ranks,
                               .cancelled = [] { return asked_to_stop.load(std::memory_order_relaxed); },
                               .make_foreign = {}});
  // Without the handlers that libraries left for the end: libhdf5's never finishes, and prints, after a
  // damaged file.
  std::fflush(nullptr);
#ifdef SEIGH_MPI
  seigh::stop_mpi(code);
#endif
  std::_Exit(code);
}
