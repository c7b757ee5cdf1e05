// Products of tall blocks in memory with each other and with small matrices, by panels of rows. Of complex
// blocks X^T is the conjugate transpose, and complex128 takes the place of float64.
//
// Blocks lie on the host or on a device, those of one product on the same, where it is computed; small
// matrices, given or got, are on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "seigh/core/full_precision.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

/// Calls body(begin, n, rows [begin, begin + n)) for this process's share of X, panel after panel, in float32
/// proper on a device. Throws Cancelled.
template <typename Body>
void for_panels(const TallMatrix& x, const Body& body) {
  const FullPrecision full(x.device());
  const Share share = x.share();
  for (int64_t begin = share.begin; begin < share.end(); begin += x.panel_rows()) {
    x.context().check_cancelled();
    const int64_t n = std::min(x.panel_rows(), share.end() - begin);
    body(begin, n, x.row_range(begin, n));
  }
}

/// X^T Y in float64 [a, b] for blocks X [D, a], Y [D, b] of one dtype, computed in float64. Cost 2 D
/// a b flops. The Gram matrix of a float32 block loses nothing that the block itself holds.
at::Tensor transposed_product(const at::Tensor& x, const at::Tensor& y);

/// X M for a block X [D, a] and a small matrix M [a, b] of float64: block [D, b] of X's dtype, computed in
/// float64.
at::Tensor times_small(const at::Tensor& x, const at::Tensor& m);

/// X^T Y in float64 [a, b] like transposed_product, but multiplied in the blocks' own precision within panels
/// of a few thousand rows, whose results are summed in float64: errors of a few eps |x| |y|, twice the speed
/// for float32 (on a card that multiplies float64 as fast, too: what counts is the block read, and a copy of
/// it in float64 takes five times as much).
at::Tensor projections(const at::Tensor& x, const at::Tensor& y);
/// sum += X^T Y, the same; `sum` lies where the blocks do.
void add_projections(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& y);

/// Y -= X M in place, in the blocks' own precision; M [a, b] of float64.
void subtract_product(const at::Tensor& y, const at::Tensor& x, const at::Tensor& m);

/// The first columns of the block X <- X M in place for M [a, b] of float64, b <= a: they are computed in
/// float64. Returns them, a view of X.
at::Tensor times_small_in_place(const at::Tensor& x, const at::Tensor& m);

}  // namespace seigh
