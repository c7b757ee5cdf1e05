// Random test matrices, made in part wherever they are needed and never stored whole.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "seigh/core/random.h"

namespace seigh {

/// Omega in R^{D x s} or C^{D x s}, fixed by (seed, stream), wherever it is multiplied with.
class TestMatrix {
 public:
  virtual ~TestMatrix() = default;
  /// Columns [begin, begin + count): block [D, count], on the device it was made for, or on the CPU.
  virtual at::Tensor block(int64_t begin, int64_t count) const = 0;
  /// Omega^T X (of complex ones the conjugate transpose) for a block X [D, b], wherever it lies: [s, b] on
  /// the CPU, the block's dtype or wider.
  virtual at::Tensor transposed_product(const at::Tensor& x) const = 0;
};

/// "ssrft" (SEIGH's own: sketch/ssrft.h) or "sparse" (sketch/sparse_sign.h), `columns` of it. Throws Error on
/// another kind, and unless 1 <= columns <= rows. On another `device` than the CPU
/// only ssrft is at work.
std::unique_ptr<TestMatrix> make_test_matrix(const std::string& kind, int64_t rows, int64_t columns,
                                             uint64_t seed, Stream stream, at::ScalarType dtype,
                                             c10::Device device = at::kCPU);

}  // namespace seigh
