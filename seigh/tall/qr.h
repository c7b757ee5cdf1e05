// The QR decomposition of a tall block by Householder reflections, panel by panel (Demmel, Grigori, Hoemmen,
// Langou, "Communication-optimal parallel and sequential QR and LU factorizations", SIAM J. Sci. Comput. 34,
// 2012): each panel of rows is decomposed by itself, then the stack of their triangular factors. In float64
// whatever the block is of, in the block's own memory; columns that depend on each other are no obstacle, as
// they are to a Gram matrix. Cost 6 D n^2 flops.
#pragma once

#include <ATen/core/Tensor.h>

#include "seigh/core/context.h"

namespace seigh {

/// X = Q R for a block X [D, n], D >= n, on the host or on a device: Q, orthonormal to the precision of its
/// dtype, takes the place of X. Returns the upper triangular R [n, n] of wide(), on the CPU.
at::Tensor qr_in_place(const at::Tensor& x, const Context& context = Context());

}  // namespace seigh
