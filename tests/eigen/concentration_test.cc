#include "seigh/eigen/concentration.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/eigen/eigh.h"
#include "seigh/linop/matrix_operator.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

EigenResult of(const at::Tensor& matrix, Method method, int64_t k, int64_t products, uint64_t seed) {
  MatrixOperator op(matrix);
  SolverOptions options;
  options.method = method;
  options.k = k;
  options.products = products;
  options.seed = seed;
  return eigh(op, options);
}

TEST(Concentration, ExactOfDense) {
  const auto [matrix, values, u] = test::spectral_matrix("indefinite", 60);
  const Concentration c = concentration(of(matrix, Method::dense, 10, 0, 1), 60);
  ASSERT_TRUE(c.defined());
  const at::Tensor share = values.square().cumsum(0) / values.square().sum(),
                   nuclear = values.abs().cumsum(0) / values.abs().sum();
  EXPECT_LT((c.share - share.slice(0, 0, 10)).abs().max().item<double>(), 1e-12);
  EXPECT_LT((c.nuclear - nuclear.slice(0, 0, 10)).abs().max().item<double>(), 1e-12);
  EXPECT_TRUE(at::equal(c.low, c.share) && at::equal(c.high, c.share));
}

TEST(Concentration, IntervalHoldsTheTruth) {
  // Each side may miss with .025, and the bounds are far from tight: of 20 seeds none should.
  const auto [matrix, values, u] = test::spectral_matrix("indefinite", 60);
  const double norm = values.square().sum().item<double>();
  for (const Method method : {Method::krylov, Method::seigh}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const EigenResult result = of(matrix, method, 8, 40, seed);
      const Concentration c = concentration(result, 60);
      ASSERT_TRUE(c.defined());
      EXPECT_FALSE(c.nuclear.defined());
      EXPECT_TRUE((c.low <= c.share).all().item<bool>() && (c.share <= c.high).all().item<bool>());
      // The numerator is the solver's own.
      const at::Tensor truth = result.eigenvalues.square().cumsum(0) / norm;
      EXPECT_TRUE((c.low <= truth).all().item<bool>()) << to_string(method) << " " << seed;
      EXPECT_TRUE((truth.clamp_max(1) <= c.high + 1e-12).all().item<bool>())
          << to_string(method) << " " << seed;
    }
  }
}

TEST(Concentration, UnknownWithoutProbes) {
  EigenResult result = of(test::spectral_matrix("indefinite", 60).matrix, Method::krylov, 8, 40, 1);
  result.error.reset();
  EXPECT_FALSE(concentration(result, 60).defined());
}

}  // namespace
}  // namespace seigh
