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

TEST(Certificates, QuantilesOfChiSquare) {
  // Two degrees of freedom: 1 - exp(-x / 2). Others from tables (Abramowitz and Stegun, 26.8).
  EXPECT_NEAR(chi_square_quantile(2, 1e-3), -2 * std::log(1 - 1e-3), 1e-12);
  EXPECT_NEAR(chi_square_quantile(30, 0.001), 11.588, 1e-3);
  EXPECT_NEAR(chi_square_quantile(10, 0.99), 23.2093, 1e-4);
  EXPECT_SEIGH_ERROR(chi_square_quantile(0, 0.5), "degrees of freedom");
}

// diag(5, 4.9, -3, 1): what is said of pairs follows from intervals alone.
TEST(Certificates, PairsByHand) {
  const at::Tensor values = at::tensor({5.0, 4.9, -3.0, 1.0}, at::kDouble);
  const auto of = [&](double residual, int64_t k, Selection selection = Selection::magnitude) {
    return certify_pairs(values, at::full({4}, residual, at::kDouble), k, selection, k,
                         rounding_bounds(values, 0.001), 4);
  };
  EXPECT_TRUE(at::equal(of(0.01, 4).trust, at::tensor({3, 3, 3, 3}, at::kByte)));
  EXPECT_NEAR(of(0.01, 4).angle[0].item<double>(), std::asin(0.01 / 0.099), 1e-12);
  // r above half the gap: 5 and 4.9 only together.
  const Certificates together = of(0.06, 4);
  EXPECT_TRUE(at::equal(together.trust, at::tensor({2, 2, 3, 3}, at::kByte)));
  EXPECT_TRUE(at::equal(together.first, at::tensor({1, 1, 3, 4}, at::kLong)));
  EXPECT_TRUE(at::equal(together.last, at::tensor({2, 2, 3, 4}, at::kLong)));
  EXPECT_EQ(together.certified(), 4);
  EXPECT_NEAR(together.high[1].item<double>(), 4.901, 1e-12);
  // The second of them does not belong to the first k = 1 for sure.
  EXPECT_EQ(of(0.06, 1).trust[0].item<int64_t>(), 2);
  // A residual larger than the value, but no other eigenvalue within twice as much.
  EXPECT_EQ(of(1.5, 4).trust[3].item<int64_t>(), 3);
  EXPECT_NEAR(of(1.5, 4).angle[3].item<double>(), std::asin(1.5 / 3.899), 1e-12);
  EXPECT_EQ(of(2.5, 4).trust[3].item<int64_t>(), 1);
}

TEST(Certificates, WhatWasNotFoundCounts) {
  // One value found of many: exact in itself, but another may be anywhere up to the norm of the rest.
  const at::Tensor value = at::tensor({1.0}, at::kDouble), residual = at::tensor({1e-9}, at::kDouble);
  const auto trust = [&](double eta) {
    return certify_pairs(value, residual, 1, Selection::magnitude, 1,
                         perturbation_bounds(value, residual, eta, 1000), 1000)
        .trust[0]
        .item<int64_t>();
  };
  EXPECT_EQ(trust(1.1), 1);
  EXPECT_EQ(trust(0.99), 3);
  const at::Tensor t = at::tensor({1.0}, at::kDouble).reshape({1, 1}), s = at::zeros({1, 1}, at::kDouble);
  for (const double eta : {0.99, 1.1}) {
    const Certificates c = certify_pairs(value, residual, 1, Selection::positive, 1,
                                         interlacing_bounds(t, s, eta, 2, 1000, 0), 1000);
    EXPECT_EQ(c.trust[0].item<int64_t>(), eta < 1 ? 3 : 1);
    EXPECT_NEAR(c.high[0].item<double>(), std::max(1.0, eta), 2e-9);
  }
}

// +-lambda that may swap rank: neither is certainly the first, and the bound on their spans says so.
TEST(Certificates, OppositeSignsMaySwapRank) {
  const at::Tensor values = at::tensor({2.0, -1.9999, 1.0}, at::kDouble);
  const at::Tensor residuals = at::full({3}, 1e-3, at::kDouble);
  const Certificates c =
      certify_pairs(values, residuals, 2, Selection::magnitude, 2, rounding_bounds(values, 1e-3), 3);
  EXPECT_TRUE(at::equal(c.first, at::tensor({1, 1}, at::kLong)));
  EXPECT_TRUE(at::equal(c.last, at::tensor({2, 2}, at::kLong)));
  EXPECT_EQ(c.subspace[0].item<double>(), 1);
  EXPECT_LT(c.subspace[1].item<double>(), 2e-3);
  const Certificates first =
      certify_pairs(values, residuals, 1, Selection::magnitude, 1, rounding_bounds(values, 1e-3), 3);
  EXPECT_EQ(first.trust[0].item<int64_t>(), 2);  // a true pair, of the first two
}

TEST(Certificates, SubspaceErrorsBoundTheTruth) {
  const auto m = test::spectral_matrix("indefinite", 200);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 40, .products = 80, .seed = 7, .probes = 60});
  const at::Tensor u = r.eigenvectors.all(), bounds = r.certificates.subspace;
  for (int64_t j = 1; j <= 40; ++j) {
    const at::Tensor leading = u.slice(1, 0, j), truth = m.eigenvectors.slice(1, 0, j);
    const double sine = (leading - at::matmul(truth, at::matmul(truth.t(), leading))).norm().item<double>() /
                        std::sqrt(static_cast<double>(j));
    EXPECT_LE(sine, bounds[j - 1].item<double>()) << j;
  }
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
  const at::Tensor ratio = (r.residuals / truth).square() * chi_square_quantile(20, kProbeFailure) / 20;
  EXPECT_GT(ratio.min().item<double>(), 0.1);
  EXPECT_LT(ratio.max().item<double>(), 4);
  EXPECT_NEAR(ratio.mean().item<double>(), 1, 0.5);
  EXPECT_TRUE((truth <= r.residuals).all().item<bool>());
  // The claim behind "certified": a true eigenvalue within the residual bound.
  const at::Tensor distance = std::get<0>((r.eigenvalues.unsqueeze(1) - m.eigenvalues).abs().min(1));
  EXPECT_TRUE((distance <= r.residuals).all().item<bool>());
  EXPECT_EQ(r.certificates.trust[0].item<int64_t>(), 3);
  EXPECT_LT(r.certificates.trust[39].item<int64_t>(), 2);  // the tail of a sketch this small is noise
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
