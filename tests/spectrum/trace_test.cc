#include "seigh/spectrum/trace.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "seigh/linop/matrix_operator.h"
#include "seigh/spectrum/diagonal.h"
#include "seigh/tall/qr.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

using test::hermitian_matrix;
using test::spectral_matrix;

const char* const kSpectra[] = {"low_rank_10", "exponential", "polynomial",
                                "indefinite",  "clustered",   "plus_minus"};

at::Tensor true_diagonal(const at::Tensor& a) {
  return at::real(a.diagonal()).to(at::kDouble);
}
double true_trace(const at::Tensor& a) {
  return true_diagonal(a).sum().item<double>();
}

// Errors beyond 2 and 5 times their estimate.
struct Coverage {
  int64_t trials = 0, beyond_2 = 0, beyond_5 = 0;
  double squared = 0, estimated = 0;
  void add(const at::Tensor& error, const at::Tensor& estimate) {
    trials += error.numel();
    beyond_2 += (error > 2 * estimate).sum().item<int64_t>();
    beyond_5 += (error > 5 * estimate).sum().item<int64_t>();
    squared += error.square().sum().item<double>();
    estimated += estimate.square().sum().item<double>();
  }
  // Estimated over true root mean square.
  double ratio() const { return std::sqrt(estimated / squared); }
};

Coverage trace_coverage(const at::Tensor& a, int64_t products, int trials) {
  MatrixOperator op(a);
  Coverage coverage;
  for (int seed = 0; seed < trials; ++seed) {
    const TraceResult result = trace(op, {.products = products, .seed = static_cast<uint64_t>(seed)});
    EXPECT_FALSE(result.exact);
    coverage.add(at::full({1}, std::abs(result.trace - true_trace(a)), at::kDouble),
                 at::full({1}, result.error, at::kDouble));
  }
  return coverage;
}

TEST(Trace, ErrorEstimatesAreHonest) {
  // 200 trials each. Were the estimates normal, 4.6 % would be beyond 2 and none beyond 5; by Student's t of
  // 3 degrees of freedom, scaled as standard_error() does, 4 % and .4 %. Twice to three times as many are
  // allowed: the counts are sums of independent trials, so with p = .046 more than 25 of 200 has probability
  // 1e-5.
  for (const char* spectrum : kSpectra) {
    const at::Tensor a = spectral_matrix(spectrum, 150).matrix;
    for (const int64_t products : {8, 16, 60}) {
      const Coverage c = trace_coverage(a, products, 200);
      EXPECT_LE(c.beyond_2, 25) << spectrum << " " << products;
      EXPECT_LE(c.beyond_5, 4) << spectrum << " " << products;
      // Of few estimates a standard error is now and then far too large; of many it must say something.
      if (products == 60 && std::string(spectrum) != "low_rank_10") {
        EXPECT_LT(c.ratio(), 3) << spectrum;
      }
      RecordProperty(spectrum + std::to_string(products), std::to_string(c.ratio()));
    }
  }
}

TEST(Trace, BeatsPlainSampling) {
  // Plain sampling with 60 Gaussian vectors has the standard deviation sqrt(2 / 60) |A|_F.
  for (const char* spectrum : {"exponential", "clustered", "polynomial"}) {
    const auto s = spectral_matrix(spectrum, 300);
    MatrixOperator op(s.matrix);
    double squared = 0;
    for (uint64_t seed = 0; seed < 20; ++seed)
      squared += std::pow(trace(op, {.products = 60, .seed = seed}).trace - true_trace(s.matrix), 2);
    EXPECT_LT(std::sqrt(squared / 20), 0.5 * std::sqrt(2.0 / 60) * s.eigenvalues.norm().item<double>())
        << spectrum;
  }
}

TEST(Trace, MeanOfManyIsTheTrace) {
  // 400 independent estimates: their mean is within 4 standard errors but for a probability of 6e-5.
  const at::Tensor a = spectral_matrix("indefinite", 60).matrix;
  MatrixOperator op(a);
  std::vector<double> values;
  for (uint64_t seed = 0; seed < 400; ++seed)
    values.push_back(trace(op, {.products = 10, .seed = seed}).trace);
  const at::Tensor t = at::tensor(values, at::kDouble);
  EXPECT_LT(std::abs(t.mean().item<double>() - true_trace(a)), 4 * t.std().item<double>() / 20);
}

// What trace.h says, with a QR decomposition for every vector left out, of the vectors that trace() takes.
TEST(Trace, EqualsItsDefinition) {
  for (const at::ScalarType dtype : {at::kDouble, at::kComplexDouble}) {
    const int64_t d = 40, n = 7;
    const at::Tensor a = dtype == at::kDouble ? spectral_matrix("indefinite", d).matrix
                                              : hermitian_matrix("indefinite", d).matrix;
    const at::Tensor omega = random_gaussian(3, Stream::trace, d, 0, n, dtype);
    std::vector<double> t;
    for (int64_t i = 0; i < n; ++i) {
      std::vector<int64_t> rest;
      for (int64_t j = 0; j < n; ++j)
        if (j != i) rest.push_back(j);
      const at::Tensor q = std::get<0>(at::linalg_qr(at::matmul(a, omega.index_select(1, at::tensor(rest)))));
      const at::Tensor w = omega.slice(1, i, i + 1), v = w - at::matmul(q, at::matmul(q.mH(), w));
      const auto form = [&](const at::Tensor& x) { return true_trace(at::matmul(x.mH(), at::matmul(a, x))); };
      t.push_back(form(q) + static_cast<double>(d - n + 1) * form(v) / squared_abs(v).sum().item<double>());
    }
    const at::Tensor estimates = at::tensor(t, at::kDouble);
    MatrixOperator op(a);
    const TraceResult result = trace(op, {.products = 2 * n + 1, .seed = 3});
    EXPECT_EQ(result.products, 2 * n);
    EXPECT_EQ(op.products(), 2 * n);
    EXPECT_NEAR(result.trace, estimates.mean().item<double>(), 1e-11);
    // Student's: s / sqrt(n) sqrt(nu / (nu - 2)), nu = 6.
    EXPECT_NEAR(result.error, 1.5 * estimates.std().item<double>() / std::sqrt(7.0) * std::sqrt(6.0 / 4.0),
                1e-11);
  }
}

TEST(Trace, OfIdentityIsExact) {
  // The rest of a multiple of the identity is the same in every direction.
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    DiagonalOperator op(at::full({20'000}, 3.0, dtype));
    const TraceResult result = trace(op, {.products = 20});
    EXPECT_LE(std::abs(result.trace - 60'000), 3 * result.error) << dtype;
    EXPECT_LE(result.error, 20 * epsilon(dtype) * 60'000) << dtype;
  }
}

TEST(Trace, OfLowRankIsExact) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const at::Tensor a = spectral_matrix("low_rank_10", 300).matrix.to(dtype);
    MatrixOperator op(0.5 * (a + a.t()));
    for (const int64_t products : {22, 40, 120}) {
      const TraceResult result = trace(op, {.products = products});
      EXPECT_LE(std::abs(result.trace - 55), 5 * result.error);
      EXPECT_LE(result.error, 1000 * epsilon(dtype));  // |A|_F is 20
    }
  }
}

TEST(Trace, SinglePrecision) {
  for (const char* spectrum : kSpectra) {
    const at::Tensor a = spectral_matrix(spectrum, 150).matrix.to(at::kFloat);
    const Coverage c = trace_coverage(0.5 * (a + a.t()), 60, 40);
    EXPECT_LE(c.beyond_5, 1) << spectrum;
  }
}

TEST(Trace, SmallAndDegenerate) {
  for (const int64_t size : {1, 2, 3, 7, 8}) {  // no more than the products: exact
    DiagonalOperator op(at::arange(1, size + 1, at::kDouble) - 3);
    const TraceResult result = trace(op, {.products = 8});
    EXPECT_TRUE(result.exact);
    EXPECT_EQ(result.products, size);
    EXPECT_NEAR(result.trace, static_cast<double>(size * (size + 1) / 2 - 3 * size), 1e-13);
    EXPECT_LE(result.error, 1e-13);
  }
  DiagonalOperator zero(at::zeros({50}, at::kDouble));
  for (const int64_t products : {8, 49, 50, 1000}) {
    const TraceResult result = trace(zero, {.products = products});
    EXPECT_EQ(result.trace, 0);
    EXPECT_EQ(result.error, 0);
    const DiagonalResult entries = diagonal(zero, {.products = products});
    EXPECT_EQ(entries.diagonal.abs().max().item<double>(), 0);
    EXPECT_EQ(entries.error.abs().max().item<double>(), 0);
    EXPECT_EQ(entries.relative_error, 0);
  }
  // One entry: half of the test vectors' columns are nothing but multiples of each other.
  at::Tensor entry = at::zeros({50}, at::kDouble);
  entry[17] = -4;
  DiagonalOperator one(entry);
  const TraceResult result = trace(one, {.products = 20});
  EXPECT_NEAR(result.trace, -4, 1e-13);
  EXPECT_LE(result.error, 1e-13);
  EXPECT_LE((diagonal(one, {.products = 20}).diagonal - entry).abs().max().item<double>(), 1e-13);
  // All products but one of the exact answer: the complement has hardly a dimension.
  DiagonalOperator nine(at::arange(9, at::kDouble));
  const TraceResult narrow = trace(nine, {.products = 8});
  EXPECT_LE(std::abs(narrow.trace - 36), 5 * narrow.error);
}

TEST(Trace, RefusesWhatSaysNothing) {
  DiagonalOperator op(at::ones({50}, at::kDouble));
  for (const int64_t products : {-1, 0, 1, 7}) {
    EXPECT_SEIGH_ERROR(trace(op, {.products = products}), "at least 8", std::to_string(products));
    EXPECT_SEIGH_ERROR(diagonal(op, {.products = products}), "at least 8", std::to_string(products));
  }
  EXPECT_EQ(op.products(), 0);
  DiagonalOperator small(at::ones({1}, at::kDouble));
  EXPECT_EQ(trace(small, {.products = 1}).trace, 1);
  EXPECT_SEIGH_ERROR(trace(small, {.products = 0}), "at least 1");
}

struct Endless final : LinearOperator {
  Endless() : LinearOperator(int64_t{1} << 40, at::kFloat, "endless") {}
  at::Tensor apply_impl(const at::Tensor&) override { fail("a product was made"); }
};

TEST(Trace, RefusesWhatDoesNotFit) {
  Endless op;
  EXPECT_SEIGH_ERROR(trace(op), "memory", "fewer products", "--memory");
  EXPECT_SEIGH_ERROR(diagonal(op), "memory", "fewer products", "--memory");
}

TEST(Trace, StopsWhenAsked) {
  int asked = 0;
  const Context context(ContextOptions{.cancelled = [&] { return ++asked > 2; }});
  DiagonalOperator op(at::ones({1000}, at::kDouble));
  EXPECT_THROW(trace(op, {.products = 600}, context), Cancelled);
  asked = 0;
  EXPECT_THROW(diagonal(op, {.products = 600}, context), Cancelled);
  EXPECT_LT(op.products(), 600);
}

TEST(Diagonal, ErrorEstimatesAreHonest) {
  // Of all entries of 20 trials; entries of one trial depend on each other, so no probability is stated: the
  // limits are twice what was seen.
  for (const char* spectrum : kSpectra) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kComplexDouble}) {
      at::Tensor a =
          (dtype == at::kComplexDouble ? hermitian_matrix(spectrum, 150) : spectral_matrix(spectrum, 150))
              .matrix.to(dtype);
      a = 0.5 * (a + a.mH());
      MatrixOperator op(a);
      for (const int64_t products : {8, 60}) {
        Coverage c;
        for (uint64_t seed = 0; seed < 20; ++seed) {
          const DiagonalResult result = diagonal(op, {.products = products, .seed = seed});
          EXPECT_EQ(result.products, products);
          const at::Tensor error = (result.diagonal - true_diagonal(a)).abs();
          c.add(error, result.error);
          const double relative = error.norm().item<double>() / true_diagonal(a).norm().item<double>();
          EXPECT_LE(relative, 3 * result.relative_error) << spectrum << " " << dtype << " " << products;
        }
        EXPECT_LE(c.beyond_2, c.trials * 6 / 100) << spectrum << " " << dtype << " " << products;
        EXPECT_LE(c.beyond_5, c.trials * 6 / 1000) << spectrum << " " << dtype << " " << products;
      }
    }
  }
}

TEST(Diagonal, ExactWhereProductsSuffice) {
  const at::Tensor a = hermitian_matrix("indefinite", 30).matrix;
  MatrixOperator op(a);
  const DiagonalResult result = diagonal(op, {.products = 30});
  EXPECT_TRUE(result.exact);
  EXPECT_LE((result.diagonal - true_diagonal(a)).abs().max().item<double>(), 1e-15);
  EXPECT_LE(result.relative_error, 1e-14);
  // Of low rank as well, to rounding.
  const at::Tensor b = spectral_matrix("low_rank_10", 300).matrix;
  MatrixOperator low(b);
  const DiagonalResult entries = diagonal(low, {.products = 40});
  EXPECT_FALSE(entries.exact);
  EXPECT_LE((entries.diagonal - true_diagonal(b)).abs().max().item<double>(), 1e-13);
  EXPECT_LE(entries.relative_error, 1e-12);
}

TEST(Diagonal, NumbersDependOnTheSeedAlone) {
  const at::Tensor a = spectral_matrix("polynomial", 200).matrix;
  MatrixOperator op(a);
  struct Narrow final : LinearOperator {
    explicit Narrow(LinearOperator& of) : LinearOperator(of.size(), of.dtype(), "narrow"), of_(of) {}
    int64_t preferred_block() const override { return 3; }
    at::Tensor apply_impl(const at::Tensor& block) override { return of_.apply(block); }
    LinearOperator& of_;
  } narrow(op);
  EXPECT_LE((diagonal(op).diagonal - diagonal(narrow).diagonal).abs().max().item<double>(), 1e-13);
  EXPECT_NEAR(trace(op).trace, trace(narrow).trace, 1e-12);
  EXPECT_NE(trace(op, {.seed = 1}).trace, trace(op, {.seed = 2}).trace);
}

TEST(TallQr, ManyPanels) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kComplexDouble}) {
    for (const int64_t rows : {5, 4096, 4100, 20'001}) {
      at::Tensor x = random_gaussian(1, Stream::test, rows, 0, 5, dtype);
      if (rows > 5) x.select(1, 3).copy_(x.select(1, 1));  // dependent columns
      const at::Tensor before = x.clone(), r = qr_in_place(x);
      // In float64 sums over a panel's rows round, in other libraries' order more than in others'.
      const double rounding = (20 + std::sqrt(static_cast<double>(rows))) * epsilon(dtype);
      EXPECT_LE(test::orthonormality_error(x), rounding);
      const at::Tensor q = x.to(wide(dtype));
      EXPECT_LE(test::relative_difference(at::matmul(q, r), before.to(wide(dtype))), rounding);
      EXPECT_EQ(squared_abs(r.tril(-1)).sum().item<double>(), 0);
    }
  }
  EXPECT_SEIGH_ERROR(qr_in_place(at::zeros({3, 5}, at::kDouble)), "not tall");
}

}  // namespace
}  // namespace seigh
