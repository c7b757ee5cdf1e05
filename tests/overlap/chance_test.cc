#include "seigh/overlap/chance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "seigh/core/error.h"
#include "seigh/overlap/masks.h"
#include "tests/support/haar.h"

namespace seigh {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

struct Moments {
  double mean, mean_error;          // and its standard error
  double variance, variance_error;  // and its standard error, sqrt((m4 - m2^2) / n)
};

Moments moments_of(const at::Tensor& samples) {
  const double n = static_cast<double>(samples.numel());
  const double mean = samples.mean().item<double>();
  const at::Tensor squares = (samples - mean).square();
  const double m2 = squares.mean().item<double>();
  const double m4 = squares.square().mean().item<double>();
  return {mean, std::sqrt(m2 / n), m2 * n / (n - 1), std::sqrt((m4 - m2 * m2) / n)};
}

// Both statistical tests compare with 5 standard errors: failure probability 5.7e-7 a comparison over the
// choice of seed (normal approximation), and the seeds are fixed.
TEST(Chance, MeanAndVarianceAreThoseOfHaarSubspaces) {
  const int64_t n = 20000, d = 6;
  for (const int64_t k : {1, 2, 4}) {
    // Overlap with the mask {0..k-1}; Haar measure makes every fixed subspace alike.
    const at::Tensor rows = test::haar_bases(100 + k, n, d, k).narrow(1, 0, k);
    const Moments m = moments_of(rows.square().sum(at::IntArrayRef{1, 2}) / static_cast<double>(k));
    EXPECT_NEAR(m.mean, chance_overlap(k, d), 5 * m.mean_error) << k;
    EXPECT_NEAR(m.variance, chance_variance(k, d), 5 * m.variance_error) << k;
    // The test's own power: it tells the formula from its neighbours with D for D - 1 and D + 1 for D + 2.
    EXPECT_LT(5 * m.variance_error, 0.12 * chance_variance(k, d)) << k;
  }
}

TEST(Chance, HasItsClosedForms) {
  EXPECT_DOUBLE_EQ(chance_overlap(3, 12), 0.25);
  EXPECT_DOUBLE_EQ(chance_variance(1, 2), 1.0 / 8.0);   // cos^2 of a uniform angle
  EXPECT_DOUBLE_EQ(chance_variance(1, 3), 4.0 / 45.0);  // square of a uniform number in [-1, 1]: 1/5 - 1/9
  EXPECT_EQ(chance_variance(7, 7), 0.0);
  EXPECT_EQ(chance_variance(1, 1), 0.0);
}

TEST(RandomMaskVariance, IsTheVarianceOverAllMasks) {
  const at::Tensor leverage = test::haar_basis(110, 7, 3).square().sum(1);
  const double* l = leverage.data_ptr<double>();
  double sum = 0, sum2 = 0;
  int masks = 0;
  for (int a = 0; a < 7; ++a) {
    for (int b = a + 1; b < 7; ++b) {
      for (int c = b + 1; c < 7; ++c, ++masks) {
        const double ov = (l[a] + l[b] + l[c]) / 3;
        sum += ov;
        sum2 += ov * ov;
      }
    }
  }
  ASSERT_EQ(masks, 35);
  const double mean = sum / masks;
  EXPECT_NEAR(mean, chance_overlap(3, 7), 7 * kEps);  // 7 scores, sums below 3
  EXPECT_NEAR(random_mask_variance(leverage, 3), sum2 / masks - mean * mean,
              35 * kEps);  // 35 masks, sums of squares
}

TEST(RandomMaskVariance, IsThatOfTheRandomOrders) {
  const int64_t d = 10, k = 3, n = 20000;
  const at::Tensor leverage = test::haar_basis(111, d, k).square().sum(1);
  std::vector<double> overlaps;
  for (int64_t draw = 0; draw < n; ++draw) {
    overlaps.push_back(leverage.index_select(0, random_order(d, k, 5, draw)).sum().item<double>() / k);
  }
  const Moments m = moments_of(at::tensor(at::ArrayRef<double>(overlaps), at::kDouble));
  EXPECT_NEAR(m.mean, chance_overlap(k, d), 5 * m.mean_error);
  EXPECT_NEAR(m.variance, random_mask_variance(leverage, k), 5 * m.variance_error);
  // Power: sampling with replacement has a variance larger by (D - 1) / (D - k) = 9 / 7.
  EXPECT_LT(5 * m.variance_error, 0.2 * m.variance);
}

TEST(Chance, RejectsImpossibleSubspaces) {
  EXPECT_THROW(chance_overlap(0, 5), Error);
  EXPECT_THROW(chance_variance(6, 5), Error);
  EXPECT_THROW(random_mask_variance(at::tensor({0.5, 0.5}), 3), Error);
  EXPECT_THROW(random_mask_variance(at::tensor({1.0}), 1), Error);
  EXPECT_THROW(random_mask_variance(at::tensor({0.5, std::nan("")}), 1), Error);
  try {
    chance_overlap(6, 5);
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "a subspace of 5 dimensions cannot have k = 6");
  }
}

}  // namespace
}  // namespace seigh
