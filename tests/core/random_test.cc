#include "seigh/core/random.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "seigh/core/context.h"

namespace seigh {
namespace {

TEST(Random, GaussianDependsOnItsCounterAlone) {
  const at::Tensor whole = random_gaussian(7, Stream::test, 101, 0, 9, at::kDouble);
  const at::Tensor part = random_gaussian(7, Stream::test, 101, 4, 3, at::kDouble);
  EXPECT_TRUE(at::equal(part, whole.slice(1, 4, 7)));
  EXPECT_FALSE(at::equal(whole, random_gaussian(8, Stream::test, 101, 0, 9, at::kDouble)));
  EXPECT_FALSE(at::equal(whole, random_gaussian(7, Stream::psi, 101, 0, 9, at::kDouble)));
}

TEST(Random, TheSameBytesOnOneAndTwoThreads) {
  at::set_num_threads(1);
  const at::Tensor one = random_gaussian(3, Stream::test, 5000, 0, 17, at::kFloat);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(one, random_gaussian(3, Stream::test, 5000, 0, 17, at::kFloat)));
}

// n = 200000 numbers. Each statistic below is within 5 standard errors: failure probability under 1e-6 each,
// seed fixed.
TEST(Random, GaussianMomentsAndIndependenceOfColumns) {
  const int64_t n = 100'000;
  const at::Tensor g = random_gaussian(11, Stream::test, n, 0, 2, at::kDouble);
  const double se = 1 / std::sqrt(2.0 * n);
  EXPECT_NEAR(g.mean().item<double>(), 0, 5 * se);
  EXPECT_NEAR(g.square().mean().item<double>(), 1, 5 * std::sqrt(2.0) * se);
  EXPECT_NEAR(g.pow(4).mean().item<double>(), 3, 5 * std::sqrt(96.0) * se);
  EXPECT_NEAR((g.select(1, 0) * g.select(1, 1)).mean().item<double>(), 0, 5 / std::sqrt(1.0 * n));
  // Box-Muller pairs (rows 2j, 2j+1) are uncorrelated too.
  EXPECT_NEAR((g.slice(0, 0, n, 2) * g.slice(0, 1, n, 2)).mean().item<double>(), 0, 5 / std::sqrt(1.0 * n));
}

// Parts of variance 1/2, independent of each other: E|z|^2 = 1, E z^2 = 0. Five standard errors.
TEST(Random, ComplexGaussian) {
  const int64_t n = 100'000;
  const at::Tensor z = random_gaussian(11, Stream::test, n, 0, 2, at::kComplexDouble);
  const double se = 1 / std::sqrt(2.0 * n);
  const at::Tensor parts = at::view_as_real(z);
  EXPECT_NEAR(parts.mean().item<double>(), 0, 5 * se);
  EXPECT_NEAR(parts.select(-1, 0).square().mean().item<double>(), 0.5, 5 * se);
  EXPECT_NEAR(parts.select(-1, 1).square().mean().item<double>(), 0.5, 5 * se);
  EXPECT_NEAR((parts.select(-1, 0) * parts.select(-1, 1)).mean().item<double>(), 0, 5 * se);
  EXPECT_TRUE(at::equal(random_gaussian(11, Stream::test, n, 1, 1, at::kComplexDouble), z.slice(1, 1, 2)));
  EXPECT_EQ(random_gaussian(11, Stream::test, 3, 0, 2, at::kComplexFloat).scalar_type(), at::kComplexFloat);
}

TEST(Random, UniformIsUniformAndAddressable) {
  const at::Tensor u = random_uniform(5, Stream::test, 100'000);
  EXPECT_GE(u.min().item<double>(), 0);
  EXPECT_LT(u.max().item<double>(), 1);
  EXPECT_NEAR(u.mean().item<double>(), 0.5, 5 * std::sqrt(1 / 12.0 / 100'000));
  EXPECT_TRUE(at::equal(random_uniform(5, Stream::test, 10, 0, 500), u.slice(0, 500, 510)));
}

TEST(Random, PermutationIsAPermutation) {
  const at::Tensor p = random_permutation(5, Stream::test, 1000);
  EXPECT_TRUE(at::equal(std::get<0>(p.sort()), at::arange(1000)));
  EXPECT_FALSE(at::equal(p, at::arange(1000)));
  EXPECT_EQ(random_permutation(5, Stream::test, 0).numel(), 0);
}

TEST(Random, SignsAreBalanced) {
  const at::Tensor s = random_signs(5, Stream::test, 100'000);
  EXPECT_TRUE(at::equal(s.abs(), at::ones_like(s)));
  EXPECT_NEAR(s.mean().item<double>(), 0, 5 / std::sqrt(100'000.0));
}

}  // namespace
}  // namespace seigh
