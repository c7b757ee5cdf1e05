// What a computation may use, and whom it tells how far it is: made by a program (or by Python), passed down,
// never looked up. Whoever is given none makes one: the default serves.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "seigh/core/memory.h"
#include "seigh/core/progress.h"
#include "seigh/core/ranks.h"

namespace seigh {

struct ContextOptions {
  c10::Device device = c10::Device(c10::DeviceType::CPU);
  /// Threads of libtorch, BLAS and seigh's own loops; 0: as many as libtorch uses in the calling thread.
  int threads = 0;
  /// Ceiling in bytes of what this process may hold; 0: three quarters of what is available are used as
  /// needed.
  int64_t memory = 0;
  /// Ceiling in bytes of what tensors on another device than the CPU may hold there; 0: what the device has.
  int64_t device_memory = 0;
  /// None: this process alone.
  std::shared_ptr<Ranks> ranks = {};
  /// None: nobody watches.
  std::shared_ptr<Progress> progress = {};
  /// Asked between pieces of work, from the threads that do it; where it says true, the work ends with
  /// Cancelled.
  std::function<bool()> cancelled = {};
};

/// A cheap handle: copies share what they stand for. May be used from several threads at once, but for ranks
/// and progress, which have one user at a time.
class Context {
 public:
  /// Throws Error on a number of threads outside 0..4096, and on a ceiling below what the process holds
  /// already.
  Context(const ContextOptions& options = {});  // NOLINT: options are a context

  /// Where networks and their data are computed; solvers follow the operators they are given.
  const c10::Device& device() const { return device_; }
  /// The same with another device: memory, ranks and progress are shared with this one.
  Context on(const c10::Device& device) const;
  /// The same with a ceiling of a device's memory.
  Context with_device_memory(int64_t bytes) const;
  /// The same, in whose scopes libtorch takes deterministic algorithms alone (deterministic.h).
  Context with_determinism(bool wanted) const;
  /// The same for this process alone, for what the root does while the other ranks do not.
  Context alone() const;
  int threads() const;
  Memory& memory() const;
  int64_t device_memory() const { return device_memory_; }  ///< the ceiling there; 0: none
  Ranks& ranks() const { return *ranks_; }
  Progress& progress() const;
  /// Throws Cancelled when the caller has asked to stop.
  void check_cancelled() const;

  /// For as long as it lives, work of this thread is this context's: tensors are made in its pool and
  /// counted, libtorch and BLAS use its threads, gradients can be taken whatever mode (no-grad, inference,
  /// autocast) the caller is in. Nothing else in the process notices. Every public function of seigh that
  /// computes begins with one; they may be nested.
  class Scope {
   public:
    explicit Scope(const Context& context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    friend class Context;
    Scope(const Context& context, int threads);
    struct Guards;
    std::unique_ptr<Guards> guards_;
  };

  /// Calls body(0), ..., body(n - 1) at the same time, each on a thread of its own and in a Scope in which
  /// libtorch and BLAS use one thread. Where the process gives fewer threads, some wait for others: no body
  /// may wait for one of a higher number. An exception thrown by one call is rethrown after all have ended.
  void run_workers(int n, const std::function<void(int)>& body) const;

 private:
  struct State;
  c10::Device device_;
  int64_t device_memory_;
  bool deterministic_ = false;
  std::shared_ptr<Ranks> ranks_;
  std::shared_ptr<State> state_;
};

/// Processors that this process may use, or its part of them where `processes` share the machine.
int available_cores(int processes = 1);

}  // namespace seigh
