// Uniformly (Haar) random subspaces.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_qr.h>

#include <cstdint>
#include <tuple>

#include "seigh/core/random.h"

namespace seigh::test {

/// Orthonormal bases of n independent Haar-random k-dimensional subspaces of R^D: float64 [n, D, k]. The Q
/// factor of a Gaussian matrix spans what the matrix spans, and a Gaussian matrix's span is invariant under
/// rotations.
inline at::Tensor haar_bases(uint64_t seed, int64_t n, int64_t dimension, int64_t k) {
  const at::Tensor gaussian = random_gaussian(seed, Stream::test, dimension * k, 0, n, at::kDouble);
  return std::get<0>(at::linalg_qr(gaussian.t().reshape({n, dimension, k})));
}

/// One such basis: [D, k].
inline at::Tensor haar_basis(uint64_t seed, int64_t dimension, int64_t k) {
  return haar_bases(seed, 1, dimension, k)[0].contiguous();
}

}  // namespace seigh::test
