// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011), by the Random123 library.
//
// A number depends on (seed, stream, row, column) alone, never on threads, block sizes or the order of calls,
// so any part of any random object can be made again anywhere. All tensors returned are on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seigh {

/// What a number is for. Two streams of one seed are independent. The numerical values are part of the
/// reproducibility contract: never renumber.
enum class Stream : uint32_t {
  initialization = 1,
  batch_order = 2,
  omega = 3,
  psi = 4,
  error_probe = 5,
  random_mask = 6,
  random_mask_by_layer = 7,
  krylov = 8,
  complement = 9,
  sampled_targets = 20,
  check = 21,
  trace = 30,
  diagonal = 31,
  density = 32,
  two_way_mask = 33,
  random_mask_by_output_unit = 34,
  random_mask_by_input_unit = 35,
  random_score = 36,
  label_noise = 37,
  unit_permutation = 38,
  synthetic = 60,
  test = 100,
};

/// Uniform numbers in [0, 1) with 53 random bits: float64 [rows], element r at counter (row_begin + r,
/// column).
at::Tensor random_uniform(uint64_t seed, Stream stream, int64_t rows, int64_t column = 0,
                          int64_t row_begin = 0);

/// Independent standard normal numbers (Box-Muller): block [rows, columns] with strides {1, rows}, element
/// (r, c) at counter (r, column_begin + c). Complex ones have independent parts of variance 1/2.
at::Tensor random_gaussian(uint64_t seed, Stream stream, int64_t rows, int64_t column_begin, int64_t columns,
                           at::ScalarType dtype);

/// Independent random signs: float64 [n] of -1 and +1.
at::Tensor random_signs(uint64_t seed, Stream stream, int64_t n, int64_t column = 0);

/// A uniformly random permutation of 0..n-1: int64 [n].
at::Tensor random_permutation(uint64_t seed, Stream stream, int64_t n, int64_t column = 0);

}  // namespace seigh
