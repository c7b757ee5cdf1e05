// Products of tall blocks with small matrices, by panels of rows, always accumulated in float64.
#pragma once

#include <ATen/core/Tensor.h>

namespace seigh {

/// X^T Y in float64 [a, b] for blocks X [D, a], Y [D, b] of float32 or float64. Cost 2 D a b flops.
/// The Gram matrix of a float32 block loses nothing that the block itself holds.
at::Tensor transposed_product(const at::Tensor& x, const at::Tensor& y);

/// X M for a block X [D, a] and a small matrix M [a, b] of float64: block [D, b] of X's dtype, computed in
/// float64.
at::Tensor times_small(const at::Tensor& x, const at::Tensor& m);

/// (X M)^T (X M) in float64 [b, b] without forming X M: 2 D b (a + b) flops.
at::Tensor gram_of_product(const at::Tensor& x, const at::Tensor& m);

}  // namespace seigh
