#include "seigh/core/random.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/view_as_complex.h>
#include <Random123/philox.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/parallel.h"

namespace seigh {
namespace {

using Philox = r123::Philox4x32;

// Counter words: 64 bits of row, 32 of column, 32 of stream. Key: the seed.
Philox::ctr_type draw(uint64_t seed, Stream stream, uint64_t row, uint32_t column) {
  Philox::ctr_type counter{
      {static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32), column, static_cast<uint32_t>(stream)}};
  Philox::key_type key{{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  return Philox{}(counter, key);
}

uint64_t bits64(const Philox::ctr_type& word, int half) {
  return static_cast<uint64_t>(word[2 * half]) << 32 | word[2 * half + 1];
}

double to_unit(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

// Rows 2j and 2j+1 of a column are the two outputs of one Box-Muller transform of the draw at row j.
template <typename T>
void fill_gaussian(T* out, uint64_t seed, Stream stream, int64_t rows, int64_t column) {
  for (int64_t j = 0; 2 * j < rows; ++j) {
    const auto word = draw(seed, stream, static_cast<uint64_t>(j), static_cast<uint32_t>(column));
    const double radius = std::sqrt(-2.0 * std::log(1.0 - to_unit(bits64(word, 0))));
    const double angle = 2.0 * std::numbers::pi * to_unit(bits64(word, 1));
    out[2 * j] = static_cast<T>(radius * std::cos(angle));
    if (2 * j + 1 < rows) out[2 * j + 1] = static_cast<T>(radius * std::sin(angle));
  }
}

}  // namespace

at::Tensor random_uniform(uint64_t seed, Stream stream, int64_t rows, int64_t column, int64_t row_begin) {
  at::Tensor result = at::empty({rows}, at::kDouble);
  double* out = result.data_ptr<double>();
  for (int64_t r = 0; r < rows; ++r) {
    out[r] = to_unit(
        bits64(draw(seed, stream, static_cast<uint64_t>(row_begin + r), static_cast<uint32_t>(column)), 0));
  }
  return result;
}

at::Tensor random_gaussian(uint64_t seed, Stream stream, int64_t rows, int64_t column_begin, int64_t columns,
                           at::ScalarType dtype) {
  require(is_vector_dtype(dtype), "random_gaussian: there are no normal numbers of dtype ", dtype);
  if (at::isComplexType(dtype)) {
    // The parts of a number follow each other.
    const at::Tensor parts =
        random_gaussian(seed, stream, 2 * rows, column_begin, columns, c10::toRealValueType(dtype));
    return at::view_as_complex(parts.t().reshape({columns, rows, 2})).mul_(std::numbers::sqrt2 / 2).t();
  }
  at::Tensor result = at::empty_strided({rows, columns}, {1, std::max<int64_t>(rows, 1)}, dtype);
  parallel_for(columns, [&](int64_t c) {
    if (dtype == at::kFloat) {
      fill_gaussian(result.data_ptr<float>() + c * rows, seed, stream, rows, column_begin + c);
    } else {
      fill_gaussian(result.data_ptr<double>() + c * rows, seed, stream, rows, column_begin + c);
    }
  });
  return result;
}

at::Tensor random_signs(uint64_t seed, Stream stream, int64_t n, int64_t column) {
  at::Tensor result = at::empty({n}, at::kDouble);
  double* out = result.data_ptr<double>();
  for (int64_t r = 0; r < n; ++r) {
    const auto word = draw(seed, stream, static_cast<uint64_t>(r), static_cast<uint32_t>(column));
    out[r] = (word[0] & 1u) != 0 ? 1.0 : -1.0;
  }
  return result;
}

at::Tensor random_permutation(uint64_t seed, Stream stream, int64_t n, int64_t column) {
  // Sorting by independent 64-bit keys; equal keys (probability about n^2 / 2^65) fall back to index order.
  std::vector<uint64_t> keys(static_cast<size_t>(n));
  for (int64_t r = 0; r < n; ++r) {
    keys[r] = bits64(draw(seed, stream, static_cast<uint64_t>(r), static_cast<uint32_t>(column)), 0);
  }
  at::Tensor result = at::empty({n}, at::kLong);
  int64_t* out = result.data_ptr<int64_t>();
  std::iota(out, out + n, int64_t{0});
  std::sort(out, out + n,
            [&](int64_t a, int64_t b) { return keys[a] != keys[b] ? keys[a] < keys[b] : a < b; });
  return result;
}

}  // namespace seigh
