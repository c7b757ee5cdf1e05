// Ordered masks: the first k entries of an order are the mask of k parameters, for every k at once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "seigh/overlap/units.h"

namespace seigh {

/// Indices of the `count` parameters largest in magnitude, by falling |theta|, ties by ascending index: int64
/// [count], CPU. parameters: [D], any real floating dtype. O(D + count log count) time, 16 D bytes. Error on
/// NaN or infinity (with its index), on another shape or dtype, and unless 0 <= count <= D. `eligible` [D]: 1
/// where the order may name a parameter, 0 where not; empty: all of them, otherwise count is at most the
/// ones.
at::Tensor magnitude_order(const at::Tensor& parameters, int64_t count,
                           const std::vector<char>& eligible = {});

/// How many parameters could stand at the last place of magnitude_order(): those of the same magnitude as the
/// count-th, which index decided between. 1 where there is no tie, 0 of count 0.
int64_t tied_at(const at::Tensor& parameters, const at::Tensor& order,
                const std::vector<char>& eligible = {});

/// `count` of the `dimension` parameters, drawn uniformly without replacement, in random order: int64
/// [count], CPU. Depends on (seed, draw) and dimension alone; a smaller count gives the same order cut short.
/// O(count). Uniform up to a relative bias of dimension / 2^53. Error unless 0 <= count <= dimension, draw >=
/// 0.
at::Tensor random_order(int64_t dimension, int64_t count, uint64_t seed, int64_t draw);

/// The random order whose first k entries hold, for every k, as many parameters of each group as the first k
/// of `order`: position p draws uniformly from those parameters of the group of order[p] that are not yet
/// drawn. int64 [count], CPU. A tensor without units is one group of its own; uniform: all parameters that
/// masks may hold are one.
///
/// order: int64 [count], distinct indices, magnitude_order() say. Depends on (seed, draw), the grouping and
/// the order alone. Error if an index is outside the tensors, may not be held, or is repeated so often that a
/// group runs out.
at::Tensor random_order_within(Grouping grouping, const at::Tensor& order,
                               const std::vector<UnitLayout>& layouts, uint64_t seed, int64_t draw);

}  // namespace seigh
