#include "seigh/eigen/certificates.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/eigen/result.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

TEST(Certificates, ProbabilitiesMatchThePublishedCheck) {
  // q = 30, eps = 1/2, complex probes; the published digits are truncated.
  EXPECT_NEAR(probability_underestimate(30, 0.5, 2), 0.0030445, 1e-7);
  EXPECT_NEAR(probability_overestimate(30, 0.5, 2), 0.0586570, 1e-7);
  EXPECT_DOUBLE_EQ(probability_underestimate(60, 0.5, 1), probability_underestimate(30, 0.5, 2));
  EXPECT_SEIGH_ERROR(probability_underestimate(30, 1.0), "between 0 and 1");
  EXPECT_SEIGH_ERROR(probability_overestimate(30, 0), "positive");
}

TEST(Certificates, ScreeByHand) {
  const auto [lower, upper] = scree(at::tensor({2.0, -2.0, 1.0}, at::kDouble), 0.6);
  // ||H^|| = 3, tails sqrt(5), 1, 0.
  EXPECT_NEAR(lower[0].item<double>(), 5.0 / 9, 1e-15);
  EXPECT_NEAR(lower[1].item<double>(), 1.0 / 9, 1e-15);
  EXPECT_NEAR(lower[2].item<double>(), 0, 1e-15);
  EXPECT_NEAR(upper[2].item<double>(), 0.36 / 9, 1e-15);
  EXPECT_NEAR(upper[1].item<double>(), 1.6 * 1.6 / 9, 1e-15);
}

TEST(Certificates, PairsAboveTheErrorAreCounted) {
  EigenResult r;
  r.eigenvalues = at::tensor({5.0, -3.0, 1.0, 0.5}, at::kDouble);
  EXPECT_EQ(r.above_error(), 4);
  r.error = ErrorEstimate{.probes = 1, .squared_error = 4.0, .squared_frobenius = 50};
  EXPECT_EQ(r.above_error(), 2);
}

}  // namespace
}  // namespace seigh
