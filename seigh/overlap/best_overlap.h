// The best any mask can do: an upper bound for every overlap curve.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/eigenspace.h"

namespace seigh {

/// ov(k) of the mask of k parameters that overlaps most with the k-dimensional eigenspace, for k = 1..K:
/// float64 [K], CPU. The mask is the k parameters of largest leverage l_i(k) = sum_{j < k} U_ij^2, chosen
/// anew for every k, so
///   ov(k) = (sum of the k largest l_i(k)) / k.
/// `eligible` [D]: 1 where a mask may hold the parameter, 0 where not (beyond as many k as there are of those
/// the sum has fewer terms); empty: all of them.
///
/// One pass over the rows of U, `piece_bytes` of them (as float64) at a time; O(D K) flops besides what the
/// rows cost, and for each thread about 8 K^2 bytes. The result does not depend on threads or pieces, bit for
/// bit, as long as the rows do not; on the context's device (leverage_panels.h) it does, to rounding. Error
/// if row_range() gives another shape or dtype than it promises, or unless every column has norm 1 to 1 per
/// cent, which NaN has not. Throws Cancelled. Progress: "leverage scores" in rows.
at::Tensor best_overlap(const Eigenspace& space, int64_t piece_bytes = int64_t{256} << 20,
                        const Context& context = Context(), const std::vector<char>& eligible = {});

}  // namespace seigh
