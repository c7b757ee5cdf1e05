#include "seigh/overlap/swaps.h"

#include <algorithm>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/random.h"

namespace seigh {

TensorPlaces::TensorPlaces(const std::vector<UnitLayout>& layouts) : layouts_(layouts) {
  for (const UnitLayout& layout : layouts) {
    require(layout.rows >= 0 && layout.columns >= 0 && layout.taps >= 0, "a tensor of ", layout.rows, " x ",
            layout.columns, " cells of ", layout.taps, " parameters cannot be");
    begins_.push_back(count_);
    count_ += layout.numel();
  }
}

Place TensorPlaces::place(int64_t index) const {
  // The last tensor that begins at or before it; empty ones begin where the next does.
  const auto next = std::upper_bound(begins_.begin(), begins_.end(), index);
  const size_t tensor = static_cast<size_t>(next - begins_.begin()) - 1;
  const UnitLayout& layout = layouts_[tensor];
  const int64_t within = index - begins_[tensor], cell = within / layout.taps;
  return {tensor, cell / layout.columns, cell % layout.columns, within % layout.taps};
}

UnitNumbers::UnitNumbers(const std::vector<int64_t>& sizes) {
  for (const int64_t size : sizes) numbers_.emplace_back(static_cast<size_t>(size), kNone);
}

UnitNumbers UnitNumbers::of_rows(const std::vector<UnitLayout>& layouts) {
  std::vector<int64_t> sizes;
  for (const UnitLayout& layout : layouts) sizes.push_back(layout.rows);
  return UnitNumbers(sizes);
}

UnitNumbers UnitNumbers::of_columns(const std::vector<UnitLayout>& layouts) {
  std::vector<int64_t> sizes;
  for (const UnitLayout& layout : layouts) sizes.push_back(layout.columns);
  return UnitNumbers(sizes);
}

int32_t UnitNumbers::take(size_t tensor, int64_t unit, int64_t next) {
  int32_t& number = numbers_[tensor][static_cast<size_t>(unit)];
  if (number == kNone) number = static_cast<int32_t>(next);
  return number;
}

MetCells::MetCells(const std::vector<UnitLayout>& layouts, const std::vector<Place>& mask)
    : rows_(UnitNumbers::of_rows(layouts)),
      columns_(UnitNumbers::of_columns(layouts)),
      heights_(layouts.size()),
      widths_(layouts.size()) {
  for (const Place& place : mask) {
    int64_t &height = heights_[place.tensor], &width = widths_[place.tensor];
    if (rows_.take(place.tensor, place.row, height) == height) ++height;
    if (columns_.take(place.tensor, place.column, width) == width) ++width;
  }
  for (size_t t = 0; t < layouts.size(); ++t) {
    begins_.push_back(count_);
    taps_.push_back(layouts[t].taps);
    count_ += heights_[t] * widths_[t] * taps_[t];
  }
}

bool MetCells::localize(Place& place) const {
  place.row = rows_.of(place.tensor, place.row);
  place.column = columns_.of(place.tensor, place.column);
  return place.row != UnitNumbers::kNone && place.column != UnitNumbers::kNone;
}

Swaps::Swaps(const MetCells& cells, std::vector<Place> mask, uint64_t seed, int64_t column)
    : cells_(cells),
      places_(std::move(mask)),
      taken_(static_cast<size_t>(cells.count())),
      left_(static_cast<size_t>(cells.count())),
      begins_(cells.tensors()),
      counts_(cells.tensors()),
      seed_(seed),
      column_(column) {
  std::stable_sort(places_.begin(), places_.end(),
                   [](const Place& a, const Place& b) { return a.tensor < b.tensor; });
  for (size_t i = 0; i < places_.size(); ++i) {
    if (counts_[places_[i].tensor]++ == 0) begins_[places_[i].tensor] = static_cast<int64_t>(i);
    taken_[cell(places_[i])] = true;
  }
}

int64_t Swaps::step(int64_t n) {
  int64_t made = 0;
  for (; n > 0; --n) made += propose() ? 1 : 0;
  return made;
}

// A random number of 0, ..., n - 1.
int64_t Swaps::below(int64_t n) {
  constexpr int64_t kBlock = 4096;
  if (drawn_ % kBlock == 0) numbers_ = random_uniform(seed_, Stream::two_way_mask, kBlock, column_, drawn_);
  const double uniform = numbers_.const_data_ptr<double>()[drawn_++ % kBlock];
  return static_cast<int64_t>(uniform * static_cast<double>(n));
}

// Any entry and any of its tensor, itself included; they exchange columns, and their taps are drawn anew.
bool Swaps::propose() {
  Place& first = places_[static_cast<size_t>(below(static_cast<int64_t>(places_.size())))];
  const size_t tensor = first.tensor;
  Place& second = places_[static_cast<size_t>(begins_[tensor] + below(counts_[tensor]))];
  const int64_t taps = cells_.taps(tensor);
  const auto tap = [&] { return taps == 1 ? 0 : below(taps); };
  const Place a{tensor, first.row, second.column, tap()};
  const size_t to_a = cell(a), from_a = cell(first);
  if (&first == &second) {
    if (taken_[to_a]) return false;
    taken_[from_a] = false;
    left_[from_a] = taken_[to_a] = true;
    first = a;
    return true;
  }
  const Place b{tensor, second.row, first.column, tap()};
  const size_t to_b = cell(b), from_b = cell(second);
  // Each new place must be free, or become so.
  const auto free = [&](size_t to) { return !taken_[to] || to == from_a || to == from_b; };
  if (to_a == to_b || !free(to_a) || !free(to_b)) return false;
  if (std::minmax(to_a, to_b) == std::minmax(from_a, from_b)) return false;
  taken_[from_a] = taken_[from_b] = false;
  taken_[to_a] = taken_[to_b] = true;
  for (const size_t from : {from_a, from_b}) {
    if (!taken_[from]) left_[from] = true;
  }
  first = a;
  second = b;
  return true;
}

}  // namespace seigh
