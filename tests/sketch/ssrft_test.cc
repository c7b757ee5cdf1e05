#include "seigh/sketch/ssrft.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <numbers>

#include "seigh/core/context.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/sketch/measure.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

// The orthonormal DCT-II matrix from its definition: c_k cos(pi (2j + 1) k / 2n), c_0 = sqrt(1/n), c_k =
// sqrt(2/n).
at::Tensor dct_matrix(int64_t n) {
  const at::Tensor j = at::arange(n, at::kDouble), k = j.unsqueeze(1);
  at::Tensor c = (std::numbers::pi * (2 * j + 1) * k / (2.0 * n)).cos() * std::sqrt(2.0 / n);
  c[0].mul_(std::sqrt(0.5));
  return c;
}

TEST(Dct, MatchesItsDefinition) {
  for (const int64_t n : {2, 4, 6, 10, 30, 128}) {
    const at::Tensor x = random_gaussian(1, Stream::test, n, 0, 3, at::kDouble).t();
    const double tolerance = 1e-15 + 2.2e-16 * n;  // the plain sum of n terms is what loses most
    EXPECT_LT(test::relative_difference(dct(x), at::matmul(x, dct_matrix(n).t())), tolerance) << n;
    EXPECT_LT(test::relative_difference(inverse_dct(x), at::matmul(x, dct_matrix(n))), tolerance) << n;
  }
}

TEST(FastFftLength, IsEvenSmoothAndSmallest) {
  EXPECT_EQ(fast_fft_length(1), 2);
  EXPECT_EQ(fast_fft_length(7), 8);
  EXPECT_EQ(fast_fft_length(128), 128);
  EXPECT_EQ(fast_fft_length(7030), 7200);
  EXPECT_EQ(fast_fft_length(11), 12);
}

TEST(Ssrft, TransposedProductIsTheTransposeOfTheBlock) {
  const int64_t d = 53, s = 20;  // 53 is prime
  const Ssrft omega(d, s, 9, Stream::omega, at::kDouble);
  const at::Tensor columns = omega.block(0, s);
  const at::Tensor x = random_gaussian(2, Stream::test, d, 0, 4, at::kDouble);
  EXPECT_EQ(columns.sizes(), at::IntArrayRef({d, s}));
  EXPECT_LT(test::relative_difference(omega.transposed_product(x), at::matmul(columns.t(), x)), 1e-14);
}

TEST(Ssrft, IsAnIsometryBeforeRestriction) {
  const int64_t d = 54;  // a fast length: no padding, so all D columns are orthonormal
  const Ssrft omega(d, d, 9, Stream::omega, at::kDouble);
  EXPECT_LT(test::orthonormality_error(omega.block(0, d)), 1e-14);
}

// The unitary FFT takes the DCT's place.
TEST(Ssrft, OfComplexNumbers) {
  const int64_t d = 53, s = 20;
  const Ssrft omega(d, s, 9, Stream::omega, at::kComplexDouble);
  const at::Tensor columns = omega.block(0, s);
  const at::Tensor x = random_gaussian(2, Stream::test, d, 0, 4, at::kComplexDouble);
  EXPECT_LT(test::relative_difference(omega.transposed_product(x), at::matmul(columns.mH(), x)), 1e-14);
  EXPECT_GT(at::imag(columns).norm().item<double>(), 0.5 * at::real(columns).norm().item<double>());
  const Ssrft whole(54, 54, 9, Stream::omega, at::kComplexDouble);
  EXPECT_LT(test::orthonormality_error(whole.block(0, 54)), 1e-14);
}

TEST(Ssrft, ColumnsDoNotDependOnTheBlockTheyAreMadeIn) {
  const Ssrft omega(1000, 40, 9, Stream::omega, at::kFloat);
  const at::Tensor whole = omega.block(0, 40);
  EXPECT_LT(test::relative_difference(omega.block(13, 5), whole.slice(1, 13, 18)), 1e-6);
  at::set_num_threads(1);
  const at::Tensor one = omega.block(0, 40);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(one, whole));
}

TEST(Ssrft, StreamsAndSeedsDiffer) {
  const at::Tensor a = Ssrft(64, 8, 1, Stream::omega, at::kDouble).block(0, 8);
  EXPECT_GT((a - Ssrft(64, 8, 1, Stream::psi, at::kDouble).block(0, 8)).abs().max().item<double>(), 0.01);
  EXPECT_GT((a - Ssrft(64, 8, 2, Stream::omega, at::kDouble).block(0, 8)).abs().max().item<double>(), 0.01);
}

// E ||S x||^2 = s/N ||x||^2 over seeds. 400 seeds, relative standard error about sqrt(2/s/400) = 0.013; five
// of them.
TEST(Ssrft, PreservesNormsOnAverage) {
  const int64_t d = 100, s = 30;
  const at::Tensor x = at::zeros({d, 1}, at::kDouble);
  x[3] = 1;  // the worst case for a plain subsample
  double sum = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    sum += Ssrft(d, s, seed, Stream::omega, at::kDouble).transposed_product(x).square().sum().item<double>();
  }
  EXPECT_NEAR(sum / 400 / (s / 100.0), 1, 0.065);
}

}  // namespace
}  // namespace seigh
