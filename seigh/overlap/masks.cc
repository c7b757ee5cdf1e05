#include "seigh/overlap/masks.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <unordered_map>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/overlap/swaps.h"

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

Stream stream_of(Grouping grouping) {
  switch (grouping) {
    case Grouping::uniform:
      return Stream::random_mask;
    case Grouping::layer:
      return Stream::random_mask_by_layer;
    case Grouping::output_unit:
      return Stream::random_mask_by_output_unit;
    case Grouping::input_unit:
      break;
  }
  return Stream::random_mask_by_input_unit;
}

void require_draw(int64_t draw) {
  require(draw >= 0 && draw <= std::numeric_limits<uint32_t>::max(), "the number of a random mask is ", draw,
          "; it must be in [0, 2^32)");
}

}  // namespace

at::Tensor magnitude_order(const at::Tensor& parameters, int64_t count, const std::vector<char>& eligible) {
  require(parameters.dim() == 1 && at::isFloatingType(parameters.scalar_type()),
          "parameters must be one float vector, got ", parameters.scalar_type(), " ", parameters.sizes());
  const int64_t d = parameters.numel();
  require(eligible.empty() || static_cast<int64_t>(eligible.size()) == d, "there are ", eligible.size(),
          " marks for ", d, " parameters");
  const int64_t most = eligible.empty() ? d : std::count(eligible.begin(), eligible.end(), 1);
  require(count >= 0 && count <= most, "cannot take ", count, " of ", most, " parameters");
  const at::Tensor values = parameters.to(at::kCPU, at::kDouble).contiguous();
  const double* theta = values.data_ptr<double>();
  std::vector<double> magnitudes(static_cast<size_t>(d));
  const auto may = [&](int64_t i) { return eligible.empty() || eligible[i] != 0; };
  for (int64_t i = 0; i < d; ++i) {
    require(std::isfinite(theta[i]), "parameter ", i, " is ", theta[i], "; magnitudes cannot be ordered");
    magnitudes[i] = may(i) ? std::abs(theta[i]) : -1;
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
    if (may(i) && std::abs(theta[i]) > threshold) order[n++] = i;
  }
  std::sort(order, order + n, [&](int64_t a, int64_t b) {
    const double x = std::abs(theta[a]), y = std::abs(theta[b]);
    return x != y ? x > y : a < b;
  });
  for (int64_t i = 0; n < count; ++i) {
    if (may(i) && std::abs(theta[i]) == threshold) order[n++] = i;
  }
  return result;
}

int64_t tied_at(const at::Tensor& parameters, const at::Tensor& order, const std::vector<char>& eligible) {
  if (order.numel() == 0) return 0;
  const at::Tensor values = parameters.to(at::kCPU, at::kDouble).contiguous();
  const double* theta = values.data_ptr<double>();
  const double cut = std::abs(theta[order[order.numel() - 1].item<int64_t>()]);
  int64_t tied = 0;
  for (int64_t i = 0; i < values.numel(); ++i)
    tied += (eligible.empty() || eligible[i] != 0) && std::abs(theta[i]) == cut ? 1 : 0;
  return tied;
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

at::Tensor random_order_within(Grouping grouping, const at::Tensor& order,
                               const std::vector<UnitLayout>& layouts, uint64_t seed, int64_t draw) {
  require(order.dim() == 1 && order.scalar_type() == at::kLong,
          "an order of parameters is an int64 vector, got ", order.scalar_type(), " ", order.sizes());
  require_draw(draw);
  const TensorPlaces places(layouts);
  std::vector<int64_t> begins;
  for (size_t t = 0; t < layouts.size(); ++t) begins.push_back(places.end(t) - layouts[t].numel());
  std::vector<int64_t> eligible;  // only where all of them are one group
  if (grouping == Grouping::uniform) {
    const std::vector<char> marks = eligible_parameters(layouts);
    for (size_t i = 0; i < marks.size(); ++i)
      if (marks[i] != 0) eligible.push_back(static_cast<int64_t>(i));
  }
  std::map<std::pair<size_t, int64_t>, PartialShuffle> groups;  // by tensor and unit
  const int64_t count = order.numel();
  const at::Tensor indices = order.to(at::kCPU).contiguous();
  const int64_t* index = indices.data_ptr<int64_t>();
  const at::Tensor uniform = random_uniform(seed, stream_of(grouping), count, draw);
  const double* u = uniform.data_ptr<double>();
  at::Tensor result = at::empty({count}, at::kLong);
  int64_t* drawn = result.data_ptr<int64_t>();
  for (int64_t p = 0; p < count; ++p) {
    require(index[p] >= 0 && index[p] < places.count(), "parameter ", index[p],
            " is in no tensor: the tensors hold ", places.count(), " parameters");
    const Place place = places.place(index[p]);
    const UnitLayout& layout = layouts[place.tensor];
    require(layout.eligible, "the order names parameter ", index[p], ", which masks may not hold");
    const auto next = [&](size_t tensor, int64_t unit, int64_t size) {
      PartialShuffle& shuffle = groups.try_emplace({tensor, unit}, size).first->second;
      require(!shuffle.exhausted(), "the order names more parameters of ", grouping_name(grouping), " ",
              std::max<int64_t>(unit, 0), " of tensor ", tensor, " than its ", size);
      return shuffle.next(u[p]);
    };
    const int64_t begin = begins[place.tensor];
    if (grouping == Grouping::uniform) {
      drawn[p] = eligible[next(0, -1, static_cast<int64_t>(eligible.size()))];
    } else if (grouping == Grouping::layer || !layout.defined) {
      drawn[p] = begin + next(place.tensor, -1, layout.numel());
    } else if ((grouping == Grouping::output_unit) == layout.rows_are_outputs) {
      const int64_t width = layout.columns * layout.taps;
      drawn[p] = begin + place.row * width + next(place.tensor, place.row, width);
    } else {
      const int64_t q = next(place.tensor, place.column, layout.rows * layout.taps);
      drawn[p] = begin + (q / layout.taps * layout.columns + place.column) * layout.taps + q % layout.taps;
    }
  }
  return result;
}

}  // namespace seigh
