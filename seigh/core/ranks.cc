#include "seigh/core/ranks.h"

#include <algorithm>

#include "seigh/core/error.h"

namespace seigh {

void Ranks::sum(const at::Tensor&) {}
void Ranks::broadcast(void*, int64_t, int) {}
void Ranks::wait() {}

Share Ranks::share(int64_t n, int r) const {
  const int64_t each = n / size(), more = n % size();
  return {r * each + std::min<int64_t>(r, more), each + (r < more ? 1 : 0)};
}

void Ranks::agree_on(const at::Tensor& tensor) {
  require(tensor.is_non_overlapping_and_dense(), "ranks can only exchange dense tensors");
  broadcast(tensor.data_ptr(), static_cast<int64_t>(tensor.nbytes()));
}

}  // namespace seigh
