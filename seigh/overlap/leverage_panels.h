// Leverages l_i(k) = sum_{j < k} U_ij^2 on a device, by panels of rows: what passes over U add up there.
//
// A panel is a rectangle of one tensor: whole rows of its units, a part of one row, or a part of one cell. So
// what is added up over its units is a sum over dimensions of [k, rows, columns, taps], which a device makes
// in the same order each time, without atomic additions.
//
// Cost: the panel in float64, twice, and 2 sqrt(k) launches for the running sums.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/swaps.h"

namespace seigh {

/// Successive parameters that are rows x columns x taps of one tensor, from `first` on.
struct Rectangle {
  int64_t begin;  ///< of the flat vector
  Place first;
  int64_t rows, columns, taps;
  int64_t count() const { return rows * columns * taps; }
};

/// All parameters, one after the other, in rectangles of at most so many.
std::vector<Rectangle> rectangles(const TensorPlaces& places, int64_t most);

/// Calls work(rows), rows being how many of U fit a panel on the context's device: at most `piece_bytes` of
/// them in float64, and what it has room for beside `bytes` that work() keeps there. False, and whatever
/// work() has done is to be done anew on the host, where the device is the CPU, ranks share the work, or
/// there is no such room or it runs out.
bool try_on_device(const Eigenspace& space, int64_t piece_bytes, int64_t bytes, const Context& context,
                   const std::function<void(int64_t rows)>& work);

/// One pass over those rows of U, on the context's device: take(panel, squares, leverage), both float64
/// [columns, panel.count()], contiguous and take()'s to change, U_ij^2 and l_i(j + 1) for the first `columns`
/// j. Errors as of for_rows(). Throws Cancelled. Progress: `task` in rows.
void for_leverages(const Eigenspace& space, const std::vector<Rectangle>& panels, int64_t columns,
                   const std::string& task, const Context& context,
                   const std::function<void(const Rectangle& panel, const at::Tensor& squares,
                                            const at::Tensor& leverage)>& take);

}  // namespace seigh
