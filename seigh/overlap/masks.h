// Ordered masks: the first k entries of an order are the mask of k parameters, for every k at once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace seigh {

/// Indices of the `count` parameters largest in magnitude, by falling |theta|, ties by ascending index: int64
/// [count], CPU. parameters: [D], any real floating dtype. O(D + count log count) time, 16 D bytes. Error on
/// NaN or infinity (with its index), on another shape or dtype, and unless 0 <= count <= D.
at::Tensor magnitude_order(const at::Tensor& parameters, int64_t count);

/// `count` of the `dimension` parameters, drawn uniformly without replacement, in random order: int64
/// [count], CPU. Depends on (seed, draw) and dimension alone; a smaller count gives the same order cut short.
/// O(count). Uniform up to a relative bias of dimension / 2^53. Error unless 0 <= count <= dimension, draw >=
/// 0.
at::Tensor random_order(int64_t dimension, int64_t count, uint64_t seed, int64_t draw);

/// The random order whose first k entries hold, for every k, as many parameters of each layer as the first k
/// of `order`: position p draws uniformly from those parameters of the layer of order[p] that are not yet
/// drawn. int64 [count], CPU.
///
/// order: int64 [count], distinct indices, magnitude_order() say. layer_sizes: parameters of each layer, in
/// the order of the flat parameter vector. Error if an index is outside the layers, or repeated so often that
/// a layer runs out.
at::Tensor random_order_by_layer(const at::Tensor& order, const std::vector<int64_t>& layer_sizes,
                                 uint64_t seed, int64_t draw);

}  // namespace seigh
