#include "seigh/overlap/masks.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <unordered_map>

#include "seigh/core/error.h"
#include "seigh/core/random.h"

namespace seigh {
namespace {

// A Fisher-Yates shuffle of 0..n-1 that is only run as far as asked, and stores only what it has moved.
class PartialShuffle {
 public:
  explicit PartialShuffle(int64_t n) : n_(n) {}
  bool exhausted() const { return used_ == n_; }
  /// The next entry; uniform: a random number in [0, 1).
  int64_t next(double uniform) {
    // Position `used` swaps with one of used..n-1.
    const int64_t chosen = used_ + static_cast<int64_t>(uniform * static_cast<double>(n_ - used_));
    const int64_t value = entry(chosen);
    moved_[chosen] = entry(used_);
    moved_.erase(used_++);
    return value;
  }

 private:
  int64_t entry(int64_t position) const {
    const auto it = moved_.find(position);
    return it == moved_.end() ? position : it->second;
  }
  int64_t n_;
  int64_t used_ = 0;
  std::unordered_map<int64_t, int64_t> moved_;
};

void require_draw(int64_t draw) {
  require(draw >= 0 && draw <= std::numeric_limits<uint32_t>::max(), "the number of a random mask is ", draw,
          "; it must be in [0, 2^32)");
}

}  // namespace

at::Tensor magnitude_order(const at::Tensor& parameters, int64_t count) {
  require(parameters.dim() == 1 && at::isFloatingType(parameters.scalar_type()),
          "parameters must be one float vector, got ", parameters.scalar_type(), " ", parameters.sizes());
  const int64_t d = parameters.numel();
  require(count >= 0 && count <= d, "cannot take ", count, " of ", d, " parameters");
  const at::Tensor values = parameters.to(at::kCPU, at::kDouble).contiguous();
  const double* theta = values.data_ptr<double>();
  std::vector<double> magnitudes(static_cast<size_t>(d));
  for (int64_t i = 0; i < d; ++i) {
    require(std::isfinite(theta[i]), "parameter ", i, " is ", theta[i], "; magnitudes cannot be ordered");
    magnitudes[i] = std::abs(theta[i]);
  }
  at::Tensor result = at::empty({count}, at::kLong);
  if (count == 0) return result;

  // All above the count-th largest magnitude, then as many equal to it, lowest index first, as places are
  // left.
  std::nth_element(magnitudes.begin(), magnitudes.begin() + (count - 1), magnitudes.end(), std::greater<>());
  const double threshold = magnitudes[count - 1];
  int64_t* order = result.data_ptr<int64_t>();
  int64_t n = 0;
  for (int64_t i = 0; i < d; ++i) {
    if (std::abs(theta[i]) > threshold) order[n++] = i;
  }
  std::sort(order, order + n, [&](int64_t a, int64_t b) {
    const double x = std::abs(theta[a]), y = std::abs(theta[b]);
    return x != y ? x > y : a < b;
  });
  for (int64_t i = 0; n < count; ++i) {
    if (std::abs(theta[i]) == threshold) order[n++] = i;
  }
  return result;
}

at::Tensor random_order(int64_t dimension, int64_t count, uint64_t seed, int64_t draw) {
  require(count >= 0 && count <= dimension, "cannot take ", count, " of ", dimension, " parameters");
  require_draw(draw);
  const at::Tensor uniform = random_uniform(seed, Stream::random_mask, count, draw);
  const double* u = uniform.data_ptr<double>();
  at::Tensor result = at::empty({count}, at::kLong);
  int64_t* order = result.data_ptr<int64_t>();
  PartialShuffle shuffle(dimension);
  for (int64_t p = 0; p < count; ++p) order[p] = shuffle.next(u[p]);
  return result;
}

at::Tensor random_order_by_layer(const at::Tensor& order, const std::vector<int64_t>& layer_sizes,
                                 uint64_t seed, int64_t draw) {
  require(order.dim() == 1 && order.scalar_type() == at::kLong,
          "an order of parameters is an int64 vector, got ", order.scalar_type(), " ", order.sizes());
  require_draw(draw);
  std::vector<int64_t> begins;
  std::vector<PartialShuffle> shuffles;
  int64_t dimension = 0;
  for (const int64_t size : layer_sizes) {
    require(size >= 0, "layer ", begins.size(), " has ", size, " parameters");
    begins.push_back(dimension);
    shuffles.emplace_back(size);
    dimension += size;
  }
  const int64_t count = order.numel();
  const at::Tensor indices = order.to(at::kCPU).contiguous();
  const int64_t* index = indices.data_ptr<int64_t>();
  const at::Tensor uniform = random_uniform(seed, Stream::random_mask_by_layer, count, draw);
  const double* u = uniform.data_ptr<double>();
  at::Tensor result = at::empty({count}, at::kLong);
  int64_t* drawn = result.data_ptr<int64_t>();
  for (int64_t p = 0; p < count; ++p) {
    require(index[p] >= 0 && index[p] < dimension, "parameter ", index[p],
            " is in no layer: the layers hold ", dimension, " parameters");
    // The last layer that begins at or before the parameter; empty layers begin where the next one does.
    const auto layer = std::upper_bound(begins.begin(), begins.end(), index[p]) - begins.begin() - 1;
    require(!shuffles[layer].exhausted(), "the order names more parameters of layer ", layer, " than its ",
            layer_sizes[layer]);
    drawn[p] = begins[layer] + shuffles[layer].next(u[p]);
  }
  return result;
}

}  // namespace seigh
