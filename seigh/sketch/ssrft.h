// Scrambled subsampled randomized Fourier transform [TYUC19, Sec. 3.2] as a test matrix.
//
//   Omega^T = R F Pi eps F Pi' eps'      (s x D)
//
// R keeps s of N coordinates, F is the orthonormal DCT-II (of complex numbers, the unitary FFT), Pi and Pi'
// are random permutations, eps and eps' random signs. A vector of length D is padded with zeros to N, the
// next length the FFT is fast for, which leaves the map an isometry on R^D before R. Storage 2 N indices and
// 2 N signs; a product with one column costs two FFTs of length N. TYUC19: Tropp, Yurtsever, Udell, Cevher,
// "Streaming low-rank matrix approximation", arXiv 1902.08651.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/sketch/test_matrix.h"

namespace seigh {

/// Smallest even n >= `minimum` whose only prime factors are 2, 3 and 5.
int64_t fast_fft_length(int64_t minimum);
/// Orthonormal DCT-II of the rows of x [b, n], n even; float32 or float64.
at::Tensor dct(const at::Tensor& x);
/// Inverse of dct (orthonormal DCT-III), along rows.
at::Tensor inverse_dct(const at::Tensor& x);

/// A D x s test matrix, fixed by (seed, stream), never stored as a matrix.
class Ssrft final : public TestMatrix {
 public:
  /// Throws Error unless 1 <= columns <= rows. `device`: where it is at work.
  Ssrft(int64_t rows, int64_t columns, uint64_t seed, Stream stream, at::ScalarType dtype,
        c10::Device device = at::kCPU);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  /// Columns [begin, begin + count): block [D, count].
  at::Tensor block(int64_t begin, int64_t count) const override;
  /// Omega^T X for a block X [D, b]: [s, b].
  at::Tensor transposed_product(const at::Tensor& x) const override;

 private:
  int64_t rows_, columns_, length_;
  at::ScalarType dtype_;
  at::Tensor first_signs_, first_order_, second_signs_,
      second_order_;  // eps', Pi', eps, Pi; order as gather indices
  at::Tensor kept_;   // R: int64 [s]
};

}  // namespace seigh
