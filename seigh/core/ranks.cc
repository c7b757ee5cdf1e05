#include "seigh/core/ranks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cstddef>

#include "seigh/core/error.h"

namespace seigh {
namespace {

// Numbers that are summed at a time, and up to which all go to all ranks at once.
constexpr int64_t kPiece = int64_t{1} << 24, kFew = 1 << 14;

at::Tensor as_vector(const at::Tensor& tensor) {
  require(tensor.is_non_overlapping_and_dense(), "ranks can only exchange dense tensors");
  return tensor.as_strided({tensor.numel()}, {1});
}

}  // namespace

void Ranks::broadcast(void*, int64_t, int) {}
void Ranks::wait() {}
void Ranks::exchange_vectors(const std::vector<at::Tensor>&, const std::vector<at::Tensor>&) {}

Share Ranks::share(int64_t n, int r) const {
  const int64_t each = n / size(), more = n % size();
  return {r * each + std::min<int64_t>(r, more), each + (r < more ? 1 : 0)};
}

void Ranks::exchange(const std::vector<at::Tensor>& give, const std::vector<at::Tensor>& get) {
  const auto others = static_cast<size_t>(size()), me = static_cast<size_t>(rank());
  require(give.size() == others && get.size() == others, "an exchange of ", size(), " ranks got ",
          give.size(), " and ", get.size(), " tensors");
  std::vector<at::Tensor> to, from, back(others);
  for (size_t r = 0; r < others; ++r) {
    const at::Tensor a = as_vector(give[r]), b = as_vector(get[r]);
    if (r == me && !b.is_same(a) && b.const_data_ptr() != a.const_data_ptr()) b.copy_(a);
    // One tensor for all is taken to the host once.
    const bool again = r > 0 && give[r].is_same(give[r - 1]);
    to.push_back(takes(a.device()) ? a : again ? to.back() : a.cpu());
    from.push_back(takes(b.device()) ? b : at::empty(b.sizes(), b.options().device(at::kCPU)));
    if (!takes(b.device())) back[r] = b;
  }
  if (!alone()) exchange_vectors(to, from);
  for (size_t r = 0; r < others; ++r)
    if (r != me && back[r].defined()) back[r].copy_(from[r]);
}

at::Tensor Ranks::sum_of(const std::vector<at::Tensor>& give) {
  const at::Tensor& mine = give[static_cast<size_t>(rank())];
  std::vector<at::Tensor> get;
  for (int r = 0; r < size(); ++r) get.push_back(r == rank() ? mine : at::empty_like(mine));
  exchange(give, get);
  const at::Tensor sum = get[0].clone();
  for (size_t r = 1; r < get.size(); ++r) sum.add_(get[r]);
  return sum;
}

void Ranks::sum(const at::Tensor& tensor) {
  if (alone()) return;
  const at::Tensor all = as_vector(tensor);
  for (int64_t begin = 0; begin < all.numel(); begin += kPiece) {
    const at::Tensor piece = all.slice(0, begin, std::min(begin + kPiece, all.numel()));
    if (piece.numel() <= kFew) {
      piece.copy_(sum_of(std::vector<at::Tensor>(static_cast<size_t>(size()), piece)));
      continue;
    }
    // Each rank adds up its share and sends it to all.
    std::vector<at::Tensor> shares;
    for (int r = 0; r < size(); ++r) {
      const Share s = share(piece.numel(), r);
      shares.push_back(piece.slice(0, s.begin, s.end()));
    }
    exchange(std::vector<at::Tensor>(static_cast<size_t>(size()), sum_of(shares)), shares);
  }
}

void Ranks::agree_on(const at::Tensor& tensor) {
  if (alone()) return;
  const at::Tensor here = as_vector(tensor).cpu();
  broadcast(here.data_ptr(), static_cast<int64_t>(here.nbytes()));
  if (!tensor.is_cpu()) as_vector(tensor).copy_(here);
}

int64_t Ranks::least(int64_t value) {
  const at::Tensor one = at::full({1}, value, at::kLong), all = at::empty({size()}, at::kLong);
  std::vector<at::Tensor> get;
  for (int r = 0; r < size(); ++r) get.push_back(all.slice(0, r, r + 1));
  exchange(std::vector<at::Tensor>(get.size(), one), get);
  return all.min().item<int64_t>();
}

}  // namespace seigh
