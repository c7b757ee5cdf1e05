#include "seigh/sketch/ssrft.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/fft_fft.h>
#include <ATen/ops/fft_ifft.h>
#include <ATen/ops/fft_irfft.h>
#include <ATen/ops/fft_rfft.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/real.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <numbers>
#include <optional>

#include "seigh/core/error.h"

namespace seigh {
namespace {

// exp(-i pi k / 2n), k = 0..n/2, times `scale`.
at::Tensor twiddles(int64_t n, double scale, const at::TensorOptions& options) {
  const at::ScalarType dtype = c10::typeMetaToScalarType(options.dtype());
  const at::Tensor angle = at::arange(n / 2 + 1, options.dtype(at::kDouble)) *
                           (-std::numbers::pi / (2.0 * static_cast<double>(n)));
  return at::complex((angle.cos() * scale).to(dtype), (angle.sin() * scale).to(dtype));
}

// F and its inverse, along rows.
at::Tensor transform(const at::Tensor& x) {
  return x.is_complex() ? at::fft_fft(x, std::nullopt, 1, "ortho") : dct(x);
}
at::Tensor inverse_transform(const at::Tensor& x) {
  return x.is_complex() ? at::fft_ifft(x, std::nullopt, 1, "ortho") : inverse_dct(x);
}

// Gathering with the inverse permutation scatters.
at::Tensor inverse_permutation(const at::Tensor& order) {
  at::Tensor inverse = at::empty_like(order);
  inverse.index_copy_(0, order, at::arange(order.numel(), order.options()));
  return inverse;
}

}  // namespace

int64_t fast_fft_length(int64_t minimum) {
  for (int64_t n = std::max<int64_t>(2, minimum + minimum % 2);; n += 2) {
    int64_t rest = n;
    for (const int64_t prime : {2, 3, 5}) {
      while (rest % prime == 0) rest /= prime;
    }
    if (rest == 1) return n;
  }
}

// Makhoul 1980: with v = (x_0, x_2, ..., x_5, x_3, x_1) and Z_k = exp(-i pi k / 2n) FFT(v)_k, the
// unnormalised DCT-II is X_k = 2 Re Z_k for k <= n/2 and X_{n-k} = -2 Im Z_k.
at::Tensor dct(const at::Tensor& x) {
  const int64_t n = x.size(1);
  const at::Tensor v = at::cat({x.slice(1, 0, n, 2), x.slice(1, 1, n, 2).flip(1)}, 1);
  // Orthonormal scaling: 2 / sqrt(2n) for all but X_0, which takes another 1/sqrt(2).
  const at::Tensor z =
      at::fft_rfft(v, std::nullopt, 1) * twiddles(n, std::sqrt(2.0 / static_cast<double>(n)), x.options());
  at::Tensor result = at::empty_like(v);
  result.slice(1, 0, n / 2 + 1).copy_(at::real(z));
  result.slice(1, n / 2 + 1, n).copy_(-at::imag(z).slice(1, 1, n / 2).flip(1));
  result.select(1, 0).mul_(std::numbers::sqrt2 / 2);
  return result;
}

at::Tensor inverse_dct(const at::Tensor& x) {
  const int64_t n = x.size(1);
  at::Tensor re = x.slice(1, 0, n / 2 + 1).contiguous();
  re.select(1, 0).mul_(std::numbers::sqrt2);
  const at::Tensor im = at::cat({at::zeros({x.size(0), 1}, x.options()), -x.slice(1, n / 2, n).flip(1)}, 1);
  const at::Tensor spectrum =
      at::complex(re, im.contiguous()) / twiddles(n, std::sqrt(2.0 / static_cast<double>(n)), x.options());
  const at::Tensor v = at::fft_irfft(spectrum, n, 1);
  at::Tensor result = at::empty_like(v);
  result.slice(1, 0, n, 2).copy_(v.slice(1, 0, n / 2));
  result.slice(1, 1, n, 2).copy_(v.slice(1, n / 2, n).flip(1));
  return result;
}

Ssrft::Ssrft(int64_t rows, int64_t columns, uint64_t seed, Stream stream, at::ScalarType dtype,
             c10::Device device)
    : rows_(rows), columns_(columns), length_(fast_fft_length(rows)), dtype_(dtype) {
  require(1 <= columns && columns <= rows, "a test matrix needs 1 <= s <= D; s = ", columns, ", D = ", rows);
  // The columns of the random stream tell the parts of the transform apart.
  const at::ScalarType real = c10::toRealValueType(dtype);
  first_signs_ = random_signs(seed, stream, length_, 0).to(device, real);
  first_order_ = random_permutation(seed, stream, length_, 1).to(device);
  second_signs_ = random_signs(seed, stream, length_, 2).to(device, real);
  second_order_ = random_permutation(seed, stream, length_, 3).to(device);
  kept_ = random_permutation(seed, stream, length_, 4).slice(0, 0, columns).clone().to(device);
}

at::Tensor Ssrft::block(int64_t begin, int64_t count) const {
  require(0 <= begin && 0 <= count && begin + count <= columns_, "test matrix columns ", begin, "..",
          begin + count, " lie outside 0..", columns_);
  const at::TensorOptions there = first_signs_.options().dtype(dtype_);
  at::Tensor unit = at::zeros({count, length_}, there);
  const at::Tensor row = at::arange(count, kept_.options());
  unit.index_put_({row, kept_.slice(0, begin, begin + count)}, at::ones({count}, there));
  at::Tensor x = inverse_transform(unit).index_select(1, inverse_permutation(second_order_)) * second_signs_;
  x = inverse_transform(x).index_select(1, inverse_permutation(first_order_)) * first_signs_;
  return x.slice(1, 0, rows_).contiguous().t();
}

at::Tensor Ssrft::transposed_product(const at::Tensor& x) const {
  require(x.dim() == 2 && x.size(0) == rows_ && x.is_complex() == at::isComplexType(dtype_),
          "test matrix: expected a block of ", rows_, " rows for ", dtype_, ", got ", x.sizes(), " of ",
          x.scalar_type());
  at::Tensor padded = at::zeros({x.size(1), length_}, first_signs_.options().dtype(dtype_));
  padded.slice(1, 0, rows_).copy_(x.t());
  at::Tensor z = transform((padded * first_signs_).index_select(1, first_order_));
  z = transform((z * second_signs_).index_select(1, second_order_));
  return z.index_select(1, kept_).t().cpu();
}

}  // namespace seigh
