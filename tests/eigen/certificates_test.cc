#include "seigh/eigen/certificates.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/eigen/result.h"
#include "seigh/eigen/seigh.h"
#include "seigh/linop/matrix_operator.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"

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

TEST(Certificates, MarginInvertsTheBound) {
  for (const int64_t q : {1, 10, 30, 300}) {
    EXPECT_NEAR(probability_underestimate(q, underestimate_margin(q, 1e-3)), 1e-3, 1e-9) << q;
  }
  EXPECT_LT(underestimate_margin(300, 1e-3), underestimate_margin(30, 1e-3));  // more probes, tighter
}

TEST(Certificates, PairsWithLargeResidualsAreNotCertified) {
  EigenResult r;
  r.method = "seigh";
  r.eigenvalues = at::tensor({5.0, -3.0, 1.0, 0.5}, at::kDouble);
  EXPECT_FALSE(r.certified().defined());
  r.error = ErrorEstimate{.probes = 30, .residuals = at::tensor({0.1, 2.9, 0.1, 0.4}, at::kDouble)};
  EXPECT_TRUE(at::equal(r.certified(), at::tensor({1, 0, 1, 0}, at::kLong).to(at::kBool)));
  r.method = "dense";
  EXPECT_TRUE(r.certified().all().item<bool>());
}

// 40 pairs, 20 probes: each squared estimate over the truth is chi-square with 20 degrees of freedom over 20;
// the bounds give probability below 1e-5 for a pair outside [0.1, 4], so below 1e-3 for any.
TEST(Certificates, ResidualsOfAllPairsFromTheSameProbes) {
  const auto m = test::spectral_matrix("polynomial", 300);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 40, .s = 80, .seed = 7, .probes = 20});
  const at::Tensor u = r.eigenvectors.all();
  const at::Tensor truth = (at::matmul(m.matrix, u) - u * r.eigenvalues).norm(2, 0);
  const at::Tensor ratio = (r.error->residuals / truth).square();
  EXPECT_GT(ratio.min().item<double>(), 0.1);
  EXPECT_LT(ratio.max().item<double>(), 4);
  EXPECT_NEAR(ratio.mean().item<double>(), 1, 0.5);
  EXPECT_TRUE((truth <= r.error->residual_bounds()).all().item<bool>());
  // The claim behind "certified": a true eigenvalue within the residual bound.
  const at::Tensor distance = std::get<0>((r.eigenvalues.unsqueeze(1) - m.eigenvalues).abs().min(1));
  EXPECT_TRUE((distance <= r.error->residual_bounds()).all().item<bool>());
  EXPECT_TRUE(r.certified()[0].item<bool>());
  EXPECT_FALSE(r.certified()[39].item<bool>());  // the tail of a sketch this small is noise
}

}  // namespace
}  // namespace seigh
