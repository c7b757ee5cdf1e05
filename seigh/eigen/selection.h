// Which k of the eigenvalues are wanted, and in which order they are numbered.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace seigh {

/// Leading first: magnitude by falling |lambda|; positive from the largest down; negative from the lowest up;
/// both: the ceil(k / 2) largest and the floor(k / 2) lowest, together by falling |lambda|.
enum class Selection { magnitude, positive, negative, both };

const std::vector<Selection>& selections();
std::string to_string(Selection selection);
/// Throws Error on anything but a name to_string gives.
Selection parse_selection(const std::string& name);

/// Order of `values` (float64 [n]) in which the first k are the selected ones, int64 [n]; the others follow
/// in the order of the selection, for `both` by falling |lambda|.
at::Tensor selection_order(const at::Tensor& values, int64_t k, Selection selection);

/// The `highs` largest and the `lows` lowest of `values` (float64 [n], highs + lows <= n), together by
/// falling |lambda|, then the others in that order: int64 [n].
at::Tensor ends_order(const at::Tensor& values, int64_t highs, int64_t lows);

/// Where eigenvalues that were not selected may lie, given the `selected` (float64 [k], k >= 1) and those of
/// the `others` (float64 [m]) that are known: the closed interval [low, high].
struct Interval {
  double low, high;
  double distance(double x) const { return x < low ? low - x : x > high ? x - high : 0; }
};
Interval unselected(const at::Tensor& selected, const at::Tensor& others, Selection selection);

}  // namespace seigh
