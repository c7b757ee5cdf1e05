#include "seigh/eigen/seigh.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/eigen/dense.h"
#include "seigh/linop/matrix_operator.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

using test::named_spectrum;
using test::orthonormality_error;
using test::spectral_matrix;

double best_rank_k_error(const at::Tensor& values, int64_t k) {
  return values.slice(0, k).norm().item<double>();
}

TEST(Seigh, RecoversExactlyLowRank) {
  const auto m = spectral_matrix("low_rank_10", 300);
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    MatrixOperator op(m.matrix.to(dtype));
    const EigenResult r = seigh(op, {.k = 15, .products = 40, .seed = 3, .probes = 10});
    // Float64: 1e-5 is the promise; the ten true pairs are far better. Float32: eps 6e-8 times the
    // conditioning of the core problem (about 1e3 at s = 40).
    const double tolerance = dtype == at::kDouble ? 1e-5 : 1e-3;
    const at::Tensor leading = r.eigenvalues.slice(0, 0, 10);
    EXPECT_LT(((leading - m.eigenvalues.slice(0, 0, 10)).abs() / leading.abs()).max().item<double>(),
              tolerance);
    EXPECT_LT(exact_error(m.matrix, r.eigenvalues, r.eigenvectors) / m.matrix.norm().item<double>(),
              tolerance);
    EXPECT_LT(orthonormality_error(r.eigenvectors.all()), dtype == at::kDouble ? 1e-10 : 1e-5);
    EXPECT_EQ(r.products, 50);
    if (dtype == at::kDouble) {
      EXPECT_EQ(r.rank, 10);  // the other five columns of Y are rounding
    }
  }
}

TEST(Seigh, IsNearOptimalOnDecayingSpectra) {
  for (const std::string name : {"exponential", "indefinite", "plus_minus", "clustered"}) {
    const auto m = spectral_matrix(name, 300);
    MatrixOperator op(m.matrix);
    const EigenResult r = seigh(op, {.k = 40, .products = 120, .seed = 3});
    const double error = exact_error(m.matrix, r.eigenvalues, r.eigenvectors);
    // [TYUC19, Thm 5.1] bounds the expected error by small factors of the best error at a lower rank; rank 25
    // here.
    EXPECT_LT(error, 3 * best_rank_k_error(m.eigenvalues, 25)) << name;
    EXPECT_LT(orthonormality_error(r.eigenvectors.all()), 1e-10) << name;
    // Leading eigenvalues, signs included: |lambda^ - lambda| <= ||H - H^||_2 <= error (Weyl), in matching
    // order of sign.
    const at::Tensor got = std::get<0>(r.eigenvalues.sort()), want = std::get<0>(m.eigenvalues.sort());
    EXPECT_LT((got.slice(0, -5) - want.slice(0, -5)).abs().max().item<double>(), error) << name;
    EXPECT_LT((got.slice(0, 0, 3) - want.slice(0, 0, 3)).abs().max().item<double>(), error) << name;
  }
}

TEST(Seigh, ErrorEstimateHitsTheTruth) {
  const auto m = spectral_matrix("polynomial", 300);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 30, .products = 60, .seed = 5, .probes = 200});
  const double truth = exact_error(m.matrix, r.eigenvalues, r.eigenvectors);
  // 200 probes: by the bound itself, the squared estimate leaves [0.6, 1.5] with probability below 1e-4.
  EXPECT_GT(std::pow(r.error->error() / truth, 2), 0.6);
  EXPECT_LT(std::pow(r.error->error() / truth, 2), 1.5);
  EXPECT_GT(r.error->squared_frobenius / m.matrix.square().sum().item<double>(), 0.5);
  EXPECT_LT(r.error->squared_frobenius / m.matrix.square().sum().item<double>(), 1.6);
}

TEST(Seigh, TheSameSeedGivesTheSameAnswerAndAnotherSeedAnother) {
  const auto m = spectral_matrix("polynomial", 120);
  MatrixOperator op(m.matrix);
  const at::Tensor a = seigh(op, {.k = 20, .seed = 5}).eigenvalues;
  EXPECT_TRUE(at::equal(a, seigh(op, {.k = 20, .seed = 5}).eigenvalues));
  EXPECT_FALSE(at::equal(a, seigh(op, {.k = 20, .seed = 6}).eigenvalues));
}

TEST(Seigh, TheZeroOperatorHasNoEigenpairs) {
  MatrixOperator op(at::zeros({20, 20}, at::kDouble));
  const EigenResult r = seigh(op, {.k = 4, .seed = 1});
  EXPECT_EQ(r.rank, 0);
  EXPECT_EQ(r.eigenvalues.numel(), 0);
  EXPECT_EQ(r.error->error(), 0);
}

TEST(Seigh, FullSizeSketchIsExact) {
  const auto m = spectral_matrix("indefinite", 24);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 24, .products = 24, .seed = 2});
  EXPECT_LT(exact_error(m.matrix, r.eigenvalues, r.eigenvectors), 1e-6);
}

TEST(Seigh, RowsAndColumnsOfUAgree) {
  const auto m = spectral_matrix("exponential", 50);
  MatrixOperator op(m.matrix);
  const EigenResult r = seigh(op, {.k = 10, .seed = 2});
  const at::Tensor u = r.eigenvectors.all();
  const at::Tensor index = at::tensor({4, 0, 49}, at::kLong);
  EXPECT_LT(test::relative_difference(r.eigenvectors.rows(index), u.index_select(0, index)), 1e-13);
  EXPECT_TRUE(at::allclose(r.eigenvectors.columns(3, 2), u.slice(1, 3, 5), 0, 1e-14));
  EXPECT_LT(test::relative_difference(r.eigenvectors.transposed_times(m.matrix), at::matmul(u.t(), m.matrix)),
            1e-12);
}

TEST(Seigh, RefusesImpossibleOptions) {
  MatrixOperator op(at::eye(10, at::kDouble));
  EXPECT_SEIGH_ERROR(seigh(op, {.k = 6, .products = 11}), "s must not exceed");
  EXPECT_EQ(seigh(op, {.k = 6}).products, 10 + 30);  // 2 k, as far as there are so many
  EXPECT_SEIGH_ERROR(seigh(op, {.k = 3, .products = 2}), "s must be at least k");
  EXPECT_SEIGH_ERROR(seigh(op, {.k = 3, .probes = -1}), "probes");
}

TEST(Dense, IsExact) {
  const auto m = spectral_matrix("indefinite", 80);
  MatrixOperator op(m.matrix);
  const auto [r, matrix] = dense(op, 30);
  EXPECT_LT((r.eigenvalues - m.eigenvalues.slice(0, 0, 30)).abs().max().item<double>(), 1e-13);
  EXPECT_LT(orthonormality_error(r.eigenvectors.all()), 1e-13);
  EXPECT_NEAR(exact_error(matrix, r.eigenvalues, r.eigenvectors), best_rank_k_error(m.eigenvalues, 30), 1e-7);
  EXPECT_EQ(r.spectrum.numel(), 80);
  EXPECT_EQ(r.products, 80);
  EXPECT_LT(test::relative_difference(matrix, m.matrix), 1e-14);
}

TEST(Dense, RefusesKOutOfRange) {
  MatrixOperator op(at::eye(4, at::kDouble));
  EXPECT_SEIGH_ERROR(dense(op, 5), "between 1 and");
  EXPECT_SEIGH_ERROR(dense(op, 0), "between 1 and");
}

}  // namespace
}  // namespace seigh
