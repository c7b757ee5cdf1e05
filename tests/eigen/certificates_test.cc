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

TEST(Certificates, ResidualsAreHeldAgainstValuesAndGaps) {
  EigenResult r;
  r.method = "seigh";
  r.eigenvalues = at::tensor({5.0, -3.0, 1.0, 0.9, 0.5}, at::kDouble);
  r.spectrum = r.eigenvalues;
  EXPECT_FALSE(r.certified().defined());
  r.residuals = at::tensor({0.1, 3.1, 0.2, 0.05, 0.41}, at::kDouble);
  EXPECT_TRUE(at::equal(r.trust(), at::tensor({2, 0, 1, 2, 1}, at::kByte)));
  EXPECT_TRUE(at::equal(r.certified(), at::tensor({1, 0, 0, 1, 0}, at::kByte).to(at::kBool)));
  // A sixth eigenvalue, known though not asked for, is a neighbour too.
  r.spectrum = at::tensor({5.0, -3.0, 1.0, 0.9, 0.5, 4.95}, at::kDouble);
  EXPECT_EQ(r.trust()[0].item<int64_t>(), static_cast<int64_t>(Trust::value));
}

TEST(Certificates, SubspaceErrorsByHand) {
  const at::Tensor spectrum = at::tensor({4.0, -3.0, 2.0, 1.0}, at::kDouble);
  const at::Tensor residuals = at::tensor({0.3, 0.4, 0.1}, at::kDouble);
  const at::Tensor errors = subspace_errors(residuals, spectrum, Selection::magnitude);
  // j = 3: the rest lies in [-1, 1]; distances 3, 2, 1.
  EXPECT_NEAR(errors[2].item<double>(), std::sqrt((0.01 + 0.04 + 0.01) / 3), 1e-14);
  // j = 2: also 2 +- 0.1; distances 1.9 and 2 (to -1).
  EXPECT_NEAR(errors[1].item<double>(), std::sqrt((0.09 / 3.61 + 0.04) / 2), 1e-14);
  // j = 1: also -3 +- 0.4, at 6.6.
  EXPECT_NEAR(errors[0].item<double>(), 0.3 / 1.9, 1e-14);
  // The algebraically largest two: below 2.
  const at::Tensor largest = subspace_errors(at::tensor({0.2, 1.5}, at::kDouble),
                                             at::tensor({4.0, 3.0, 2.0}, at::kDouble), Selection::positive);
  EXPECT_NEAR(largest[1].item<double>(), std::sqrt((0.01 + 1) / 2), 1e-14);
}

TEST(Certificates, SubspaceErrorsBoundTheTruth) {
  const auto m = test::spectral_matrix("indefinite", 200);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 40, .products = 80, .seed = 7, .probes = 60});
  const at::Tensor u = r.eigenvectors.all(), bounds = r.subspace_errors();
  for (int64_t j = 1; j <= 40; ++j) {
    const at::Tensor leading = u.slice(1, 0, j), truth = m.eigenvectors.slice(1, 0, j);
    const double sine = (leading - at::matmul(truth, at::matmul(truth.t(), leading))).norm().item<double>() /
                        std::sqrt(static_cast<double>(j));
    EXPECT_LE(sine, bounds[j - 1].item<double>()) << j;
  }
  EXPECT_LT(bounds[0].item<double>(), 0.5);  // not vacuous where the pairs are good
}

TEST(Certificates, ErrorsOfEveryLeadingPart) {
  const auto m = test::spectral_matrix("polynomial", 200);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 20, .products = 40, .seed = 7});
  const Probes probes(op, 9, 3);
  const at::Tensor all = probes.squared_errors(r.eigenvalues, r.eigenvectors);
  EXPECT_EQ(all.numel(), 21);
  for (const int64_t k : {0, 1, 7, 20}) {
    const Eigenvectors some(r.eigenvectors.columns(0, k));
    const double direct = probes.error(r.eigenvalues.slice(0, 0, k), some).squared_error;
    EXPECT_NEAR(all[k].item<double>(), direct, 1e-12 * all[0].item<double>()) << k;
  }
}

// 40 pairs, 20 probes: each squared estimate over the truth is chi-square with 20 degrees of freedom over 20;
// the bounds give probability below 1e-5 for a pair outside [0.1, 4], so below 1e-3 for any.
TEST(Certificates, ResidualsOfAllPairsFromTheSameProbes) {
  const auto m = test::spectral_matrix("polynomial", 300);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 40, .products = 80, .seed = 7, .probes = 20});
  const at::Tensor u = r.eigenvectors.all();
  const at::Tensor truth = (at::matmul(m.matrix, u) - u * r.eigenvalues).norm(2, 0);
  // The bounds are the estimates over a margin.
  const at::Tensor ratio = (r.residuals / truth).square() * (1 - underestimate_margin(20, kResidualFailure));
  EXPECT_GT(ratio.min().item<double>(), 0.1);
  EXPECT_LT(ratio.max().item<double>(), 4);
  EXPECT_NEAR(ratio.mean().item<double>(), 1, 0.5);
  EXPECT_TRUE((truth <= r.residuals).all().item<bool>());
  // The claim behind "certified": a true eigenvalue within the residual bound.
  const at::Tensor distance = std::get<0>((r.eigenvalues.unsqueeze(1) - m.eigenvalues).abs().min(1));
  EXPECT_TRUE((distance <= r.residuals).all().item<bool>());
  EXPECT_TRUE(r.certified()[0].item<bool>());
  EXPECT_FALSE(r.certified()[39].item<bool>());  // the tail of a sketch this small is noise
}

// Float32 only where it does no harm.
TEST(Eigenvectors, RoughRowsAreGoodEnough) {
  const at::Tensor u = std::get<0>(at::linalg_qr(random_gaussian(1, Stream::test, 500, 0, 30, at::kDouble)));
  for (const double condition : {10.0, 1e6}) {
    // B = U R, M = R^-1 for R of that condition.
    const at::Tensor sizes = at::logspace(0, std::log10(condition), 30, 10, at::kDouble);
    const at::Tensor mix =
        std::get<0>(at::linalg_qr(random_gaussian(1, Stream::test, 30, 50, 30, at::kDouble)));
    const Eigenvectors v(as_block(at::matmul(u * sizes, mix).to(at::kFloat)),
                         at::matmul(mix.t(), at::diag(1 / sizes)));
    const at::Tensor rough = v.rough_row_range(10, 400);
    EXPECT_EQ(rough.scalar_type(), condition == 10 ? at::kFloat : at::kDouble);
    EXPECT_LT((rough.to(at::kDouble) - v.row_range(10, 400)).norm().item<double>(), 1e-5);
  }
}

}  // namespace
}  // namespace seigh
