#include "seigh/sketch/sparse_sign.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/real.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {
namespace {

constexpr int64_t kEntries = 8;
constexpr int64_t kPieces = 16;  // partial sums, whatever the number of threads

// The bits of one sign, to be xored into a number.
template <typename T>
T with_sign(T value, uint32_t negative) {
  return negative != 0 ? -value : value;
}

}  // namespace

SparseSign::SparseSign(int64_t rows, int64_t columns, uint64_t seed, Stream stream, at::ScalarType dtype)
    : rows_(rows),
      columns_(columns),
      entries_(std::min(kEntries, columns)),
      dtype_(dtype),
      real_(c10::toRealValueType(dtype)),
      size_(1 / std::sqrt(static_cast<double>(entries_))) {
  require(1 <= columns && columns <= rows, "a test matrix has between 1 and D = ", rows, " columns, not ",
          columns);
  require(columns < std::numeric_limits<uint32_t>::max() / 2, "a test matrix of ", columns,
          " columns is too wide");
  places_.resize(static_cast<size_t>(entries_ * rows));
  for (int64_t e = 0; e < entries_; ++e) {
    const at::Tensor uniform = random_uniform(seed, stream, rows, e);
    const double* const u = uniform.data_ptr<double>();
    const int64_t pieces = kPieces;
    parallel_for(pieces, [&](int64_t piece) {
      for (int64_t r = rows * piece / pieces; r < rows * (piece + 1) / pieces; ++r) {
        uint32_t place = static_cast<uint32_t>(u[r] * static_cast<double>(2 * columns));
        // A column that is taken: the next one that is free.
        const auto taken = [&] {
          for (int64_t f = 0; f < e; ++f) {
            if (places_[static_cast<size_t>(f * rows + r)] >> 1 == place >> 1) return true;
          }
          return false;
        };
        while (taken()) place = (place + 2) % static_cast<uint32_t>(2 * columns);
        places_[static_cast<size_t>(e * rows + r)] = place;
      }
    });
  }
}

at::Tensor SparseSign::block(int64_t begin, int64_t count) const {
  at::Tensor result = empty_block(rows_, count, real_).zero_();
  const auto fill = [&](auto* data) {
    using T = std::remove_reference_t<decltype(*data)>;
    const T size = static_cast<T>(size_);
    parallel_for(kPieces, [&](int64_t piece) {
      const int64_t first = rows_ * piece / kPieces, last = rows_ * (piece + 1) / kPieces;
      for (int64_t e = 0; e < entries_; ++e) {
        const uint32_t* const places = places_.data() + e * rows_;
        for (int64_t r = first; r < last; ++r) {
          const int64_t column = static_cast<int64_t>(places[r] >> 1) - begin;
          if (0 <= column && column < count) data[column * rows_ + r] = with_sign(size, places[r] & 1);
        }
      }
    });
  };
  real_ == at::kFloat ? fill(result.data_ptr<float>()) : fill(result.data_ptr<double>());
  return result.to(dtype_);
}

at::Tensor SparseSign::transposed_product(const at::Tensor& block) const {
  const at::Tensor x = block.cpu();
  require(x.dim() == 2 && x.size(0) == rows_ && x.scalar_type() == dtype_, "a block of ", rows_,
          " rows and dtype ", dtype_, " is needed, got ", x.sizes(), " of ", x.scalar_type());
  if (!x.is_complex()) return real_transposed_product(x);
  return at::complex(real_transposed_product(at::real(x)), real_transposed_product(at::imag(x)));
}

// Rows by tiles, all columns of the block at once: each place is looked up once, and what is added there is a
// contiguous row of `b` sums.
at::Tensor SparseSign::real_transposed_product(const at::Tensor& x) const {
  const at::Tensor block = as_block(x);
  const int64_t b = x.size(1);
  at::Tensor sums = at::zeros({kPieces, columns_, b}, at::kDouble);
  double* const out = sums.data_ptr<double>();
  const auto add = [&](const auto* data) {
    parallel_for(kPieces, [&](int64_t piece) {
      constexpr int64_t kTile = 64;
      std::vector<double> tile(static_cast<size_t>(kTile * b));
      double* const sum = out + piece * columns_ * b;
      const int64_t end = rows_ * (piece + 1) / kPieces;
      for (int64_t first = rows_ * piece / kPieces; first < end; first += kTile) {
        const int64_t n = std::min(kTile, end - first);
        for (int64_t j = 0; j < b; ++j) {
          for (int64_t r = 0; r < n; ++r) tile[static_cast<size_t>(r * b + j)] = data[j * rows_ + first + r];
        }
        for (int64_t e = 0; e < entries_; ++e) {
          const uint32_t* const places = places_.data() + e * rows_ + first;
          for (int64_t r = 0; r < n; ++r) {
            const double* const from = tile.data() + r * b;
            double* const to = sum + static_cast<int64_t>(places[r] >> 1) * b;
            const double sign = (places[r] & 1) != 0 ? -1 : 1;
            for (int64_t j = 0; j < b; ++j) to[j] += sign * from[j];
          }
        }
      }
    });
  };
  real_ == at::kFloat ? add(block.data_ptr<float>()) : add(block.data_ptr<double>());
  return sums.sum(0).mul_(size_);
}

}  // namespace seigh
