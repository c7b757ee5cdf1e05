#include "seigh/core/deterministic.h"

#include <ATen/Context.h>

#include <algorithm>
#include <cmath>
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

void add_up(const at::Tensor& x, int64_t dim) {
  if (x.is_cpu()) {
    x.cumsum_(dim);
    return;
  }
  // In runs of `step` all at once, and then one run after the other.
  const int64_t n = x.size(dim);
  const auto step = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(n))));
  for (int64_t i = 1; i < step; ++i) {
    const at::Tensor to = x.slice(dim, i, n, step);
    to.add_(x.slice(dim, i - 1, n, step).narrow(dim, 0, to.size(dim)));
  }
  for (int64_t begin = step; begin < n; begin += step)
    x.slice(dim, begin, std::min(begin + step, n)).add_(x.narrow(dim, begin - 1, 1));
}

}  // namespace seigh
