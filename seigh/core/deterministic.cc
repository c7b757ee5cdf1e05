#include "seigh/core/deterministic.h"

#include <ATen/Context.h>

#include <cstdlib>
#include <mutex>

namespace seigh {
namespace {

std::mutex mutex;
int users = 0;
bool before = false, before_only_warns = false;

void count(int by) {
  const std::lock_guard lock(mutex);
  at::Context& context = at::globalContext();
  if (users == 0) {
    before = context.deterministicAlgorithms();
    before_only_warns = context.deterministicAlgorithmsWarnOnly();
    context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  users += by;
  if (users == 0) context.setDeterministicAlgorithms(before, before_only_warns);
}

}  // namespace

Deterministic::Deterministic(bool wanted, c10::Device device) : active_(wanted) {
  if (!active_) return;
  if (device.is_cuda()) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  count(1);
}
Deterministic::~Deterministic() {
  if (active_) count(-1);
}

}  // namespace seigh
