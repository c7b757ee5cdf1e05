#include "seigh/core/context.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include "seigh/core/deterministic.h"
#include "seigh/core/error.h"
#include "seigh/core/pool.h"

// Of MKL, which libtorch's wheels contain and Debian's libtorch does not: the number of threads of the
// calling thread's calls, 0 for OpenMP's; returns the one before.
extern "C" int MKL_Set_Num_Threads_Local(int) __attribute__((weak));

namespace seigh {
namespace {

// OpenMP's threads do not follow a fork: a team in the child would wait for ever for those it does not have.
std::atomic<bool> in_a_child{false};
[[maybe_unused]] const int watching = pthread_atfork(nullptr, nullptr, [] { in_a_child = true; });

}  // namespace

struct Context::State {
  int threads;
  std::shared_ptr<Progress> progress;
  std::function<bool()> cancelled;
  Memory memory;
};

Context::Context(const ContextOptions& o)
    : device_(o.device),
      device_memory_(o.device_memory),
      ranks_(o.ranks ? o.ranks : std::make_shared<Ranks>()) {
  require(o.threads >= 0 && o.threads <= 4096, "threads must be between 0 and 4096, not ", o.threads);
  require(o.device_memory >= 0, "the ceiling of a device's memory must not be negative: ", o.device_memory);
  const int threads = o.threads > 0 ? o.threads : at::get_num_threads();
  state_ = std::shared_ptr<State>(new State{threads, o.progress ? o.progress : std::make_shared<Progress>(),
                                            o.cancelled, Memory(o.memory, ranks_->on_this_machine())});
}

Context Context::on(const c10::Device& device) const {
  Context other = *this;
  other.device_ = device;
  return other;
}
Context Context::with_device_memory(int64_t bytes) const {
  Context other = *this;
  other.device_memory_ = bytes;
  return other;
}
Context Context::with_determinism(bool wanted) const {
  Context other = *this;
  other.deterministic_ = wanted;
  return other;
}
Context Context::alone() const {
  Context other = *this;
  other.ranks_ = std::make_shared<Ranks>();
  return other;
}
int Context::threads() const {
  return state_->threads;
}
Memory& Context::memory() const {
  return state_->memory;
}
Progress& Context::progress() const {
  return *state_->progress;
}
void Context::check_cancelled() const {
  if (state_->cancelled && state_->cancelled()) throw Cancelled();
}

// at::set_num_threads() would change what threads made later begin with; OpenMP's and MKL's own numbers are
// this thread's alone.
namespace {

// libtorch sets a new thread's number of threads when that thread first asks for it, and knows by a
// thread-local variable of an inline function whether it has; the library and each program that inlines it
// have one of their own. All must have had their turn: a number set anew within a worker would make oneDNN
// wait there, for ever, for threads that a nested region does not get.
int initialised_threads() {
  at::internal::lazy_init_num_threads();
  return at::get_num_threads();
}

}  // namespace

struct Context::Scope::Guards {
  Guards(const Context& context, int threads)
      : pool(context.memory().account()),
        no_inference(false),
        gradients(true),
        no_autocast(c10::autocast_dispatch_keyset),
        deterministic(context.deterministic_, context.device_),
        before(initialised_threads()),
        mkl_before(MKL_Set_Num_Threads_Local != nullptr ? MKL_Set_Num_Threads_Local(threads) : 0) {
    omp_set_num_threads(threads);
  }
  ~Guards() {
    omp_set_num_threads(before);
    if (MKL_Set_Num_Threads_Local != nullptr) MKL_Set_Num_Threads_Local(mkl_before);
  }
  Guards(const Guards&) = delete;
  Guards& operator=(const Guards&) = delete;

  PoolScope pool;
  c10::InferenceMode no_inference;
  at::AutoGradMode gradients;
  c10::impl::ExcludeDispatchKeyGuard no_autocast;
  Deterministic deterministic;
  int before, mkl_before;
};

Context::Scope::Scope(const Context& context) : Scope(context, context.threads()) {}
Context::Scope::Scope(const Context& context, int threads)
    : guards_(std::make_unique<Guards>(context, in_a_child ? 1 : threads)) {}
Context::Scope::~Scope() = default;

// Threads of OpenMP's own team: in them libtorch, oneDNN and BLAS run serially, and no setting of the process
// is touched.
void Context::run_workers(int n, const std::function<void(int)>& body) const {
  if (n == 1 || in_a_child) {
    const Scope scope(*this);
    for (int i = 0; i < n; ++i) body(i);
    return;
  }
  std::exception_ptr error;
  std::mutex mutex;
#pragma omp parallel for num_threads(n) schedule(static, 1)
  for (int i = 0; i < n; ++i) {
    try {
      const Scope scope(*this, 1);
      body(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

int available_cores(int processes) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int mine = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  return processes == 1 ? mine
                        : std::clamp(static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)) / processes, 1, mine);
}

}  // namespace seigh
