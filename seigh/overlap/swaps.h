// Masks that move among those with the same counts in every row and every column of every tensor.
//
// A Markov chain of swaps: two entries (a, b), (c, d) of a tensor become (a, d), (c, b) if both are free. It
// connects all such masks (Ryser, Canad. J. Math. 9, 1957) and, since a change and its reverse are proposed
// equally often, visits them equally often (Besag and Clifford, Biometrika 76, 1989). Where cells hold
// several parameters (taps), new taps are drawn as well; a shortest alternating cycle of the difference of
// two masks' counts in cells has no chord, so that connection is proved as for single ones. A tensor without
// units is one cell. A proposal costs some tenths of a microsecond.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "seigh/overlap/units.h"

namespace seigh {

/// A parameter: of which tensor, in which row and column, which tap.
struct Place {
  size_t tensor;
  int64_t row, column, tap;
};

/// The tensors one after the other.
class TensorPlaces {
 public:
  /// `layouts` must outlive it. Error on a negative size.
  explicit TensorPlaces(const std::vector<UnitLayout>& layouts);
  int64_t count() const { return count_; }
  size_t tensors() const { return layouts_.size(); }
  const UnitLayout& layout(size_t tensor) const { return layouts_[tensor]; }
  int64_t end(size_t tensor) const { return begins_[tensor] + layouts_[tensor].numel(); }
  /// Where a parameter of the flat vector is, 0 <= index < count().
  Place place(int64_t index) const;

 private:
  const std::vector<UnitLayout>& layouts_;
  std::vector<int64_t> begins_;
  int64_t count_ = 0;
};

/// Numbers for the rows, or the columns, of every tensor, given when they are first asked for.
class UnitNumbers {
 public:
  static constexpr int32_t kNone = -1;
  /// sizes: rows, or columns, of every tensor.
  explicit UnitNumbers(const std::vector<int64_t>& sizes);
  static UnitNumbers of_rows(const std::vector<UnitLayout>& layouts);
  static UnitNumbers of_columns(const std::vector<UnitLayout>& layouts);
  int32_t of(size_t tensor, int64_t unit) const { return numbers_[tensor][static_cast<size_t>(unit)]; }
  /// Its number, `next` from now on where it had none.
  int32_t take(size_t tensor, int64_t unit, int64_t next);

 private:
  std::vector<std::vector<int32_t>> numbers_;
};

/// The parameters in rows and columns that a mask meets, numbered: no other can be in a mask with its counts.
class MetCells {
 public:
  MetCells(const std::vector<UnitLayout>& layouts, const std::vector<Place>& mask);
  int64_t count() const { return count_; }
  int64_t taps(size_t tensor) const { return taps_[tensor]; }
  size_t tensors() const { return taps_.size(); }
  /// Numbers a place's row and column as they are here; false if the mask does not meet both.
  bool localize(Place& place) const;
  /// The numbers of a row and of a column; UnitNumbers::kNone where the mask does not meet it.
  int32_t row(size_t tensor, int64_t row) const { return rows_.of(tensor, row); }
  int32_t column(size_t tensor, int64_t column) const { return columns_.of(tensor, column); }
  /// The number of a place so numbered.
  int64_t number(const Place& p) const {
    return begins_[p.tensor] + (p.row * widths_[p.tensor] + p.column) * taps_[p.tensor] + p.tap;
  }

 private:
  UnitNumbers rows_, columns_;
  std::vector<int64_t> heights_, widths_, taps_, begins_;
  int64_t count_ = 0;
};

/// The chain. Its random numbers depend on (seed, column) alone.
class Swaps {
 public:
  /// mask: localized, not empty. `cells` must outlive the chain.
  Swaps(const MetCells& cells, std::vector<Place> mask, uint64_t seed, int64_t column);
  /// Proposes n changes; how many were made.
  int64_t step(int64_t n);
  /// The mask as it is now, in no order that means anything.
  const std::vector<Place>& mask() const { return places_; }
  /// Whether a parameter has ever been in the mask and left it.
  bool has_left(const Place& place) const { return left_[cell(place)]; }

 private:
  size_t cell(const Place& place) const { return static_cast<size_t>(cells_.number(place)); }
  int64_t below(int64_t n);
  bool propose();

  const MetCells& cells_;
  std::vector<Place> places_;  // by tensor
  std::vector<bool> taken_, left_;
  std::vector<int64_t> begins_, counts_;  // of each tensor in places_
  uint64_t seed_;
  int64_t column_, drawn_ = 0;  // random numbers
  at::Tensor numbers_;
};

}  // namespace seigh
