// Pairs found with products of few digits.
#include "seigh/eigen/refine.h"

#include <gtest/gtest.h>

#include "seigh/tall/divided.h"
#include "tests/support/expect_error.h"
#include "tests/trust/audit.h"

namespace seigh {
namespace {

using test::RoundedOperator;

at::Tensor matrix_of(int64_t d) {
  const at::Tensor basis = test::haar_basis(3, d, d);
  const at::Tensor made = at::matmul(basis * test::audited_spectrum("exponential", d, 1), basis.t());
  return (0.5 * (made + made.t())).to(at::kFloat).to(at::kDouble);
}

test::Truth truth_of(const at::Tensor& matrix) {
  test::Truth truth;
  truth.matrix = matrix;
  std::tie(truth.values, truth.vectors) = at::linalg_eigh(matrix);
  return truth;
}

// Wrong by the square of what the vectors are.
TEST(Refine, EigenvaluesAreThoseOfTheMatrixItself) {
  const at::Tensor matrix = matrix_of(200);
  const test::Truth truth = truth_of(matrix);
  for (const Method method : {Method::krylov, Method::hmt, Method::nystrom, Method::seigh}) {
    RoundedOperator op(matrix, at::kFloat);
    const EigenResult r = eigh(op, {.method = method, .k = 10, .products = 60});
    const at::Tensor exact = truth.values.flip(0).slice(0, 0, 10);
    const double off = (r.eigenvalues - exact).abs().max().item<double>();
    // The vectors are off by a few 2^-8, and their Rayleigh quotients by the square of it; those of sketches
    // are mixtures besides.
    if (method == Method::krylov) {
      EXPECT_LT(off, 5e-4);
    }
    EXPECT_GT(r.residuals.min().item<double>(), 1e-4) << "they are no better than products allow";
    EXPECT_EQ(r.products, op.products() + op.in_full_precision().products()) << r.method;
    EXPECT_EQ(op.in_full_precision().products(), 10 + 30 + (method == Method::krylov ? 35 : 0)) << r.method;
    const EighPlan plan = plan_eigh(
        200, at::kFloat, {.method = method, .k = 10, .products = 60, .rounds = true}, int64_t{1} << 30);
    EXPECT_LE(r.products, plan.products) << r.method;
    EXPECT_EQ(op.in_full_precision().products(), plan.refining) << r.method;
    EXPECT_NE(plan.text().find("of them in full precision"), std::string::npos) << plan.text();
  }
}

// Where there is no room for all at once: what is promised holds all the same.
TEST(Refine, InGroupsThatFit) {
  const test::Truth truth = truth_of(matrix_of(120));
  for (const Selection selection : selections()) {
    for (const int64_t most : {0, 1, 4, 12}) {
      RoundedOperator op(truth.matrix, at::kFloat);
      const SolverOptions o{.method = Method::krylov, .k = 12, .products = 40, .selection = selection};
      const EigenResult r = refined(op, eigh(op, o), o, Context(), most);
      test::Audit audit;
      test::check_solve(audit, truth, r, o, /*own_products=*/true);
      for (const auto& [name, count] : audit.counts)
        EXPECT_EQ(count.broken, 0) << name << ", " << to_string(selection) << ", groups of " << most;
      if (selection == Selection::magnitude) {
        EXPECT_EQ(r.rank, 12);
        EXPECT_LT((r.eigenvalues - truth.values.flip(0).slice(0, 0, 12)).abs().max().item<double>(), 1e-3);
        EXPECT_GT(r.certificates.certified(), 0);
      }
    }
  }
}

TEST(Refine, DenseTakesFullPrecisionAlone) {
  RoundedOperator op(matrix_of(30), at::kFloat);
  const EigenResult r = eigh(op, {.method = Method::dense, .k = 3});
  EXPECT_EQ(op.products(), 0);
  EXPECT_EQ(r.products, 30);
}

TEST(Refine, LeavesOthersAsTheyAre) {
  test::AuditedOperator op(matrix_of(30), at::kFloat, test::AuditedOperator::Products::plain, 1);
  EXPECT_FALSE(op.rounds());
  EXPECT_EQ(&op.in_full_precision(), &op);
  EigenResult r;
  r.products = 7;
  EXPECT_EQ(refined(op, r, {.k = 1}, Context()).products, 7);
  EXPECT_EQ(op.products(), 0);
}

// What ranks share out rounds as their parts do.
TEST(Refine, SharedOutOperatorsHaveAFullPrecisionOfTheirOwn) {
  const at::Tensor matrix = matrix_of(5), v = at::eye(5, at::kFloat);
  RoundedOperator op(matrix, at::kFloat);
  DividedColumns columns(op, Context());
  DividedSamples samples(op, 0.5, Context());
  EXPECT_TRUE(columns.rounds() && samples.rounds());
  EXPECT_FALSE(columns.in_full_precision().rounds() || samples.in_full_precision().rounds());
  EXPECT_TRUE(at::equal(columns.apply(v), op.apply(v)));
  const at::Tensor exact = op.in_full_precision().apply(v);
  EXPECT_FALSE(at::equal(columns.apply(v), exact));
  EXPECT_TRUE(at::equal(columns.in_full_precision().apply(v), exact));
  EXPECT_TRUE(at::equal(samples.in_full_precision().apply(v), exact * 0.5));
}

}  // namespace
}  // namespace seigh
