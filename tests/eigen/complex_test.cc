// Hermitian operators: what every solver promises of symmetric ones.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/core/dtype.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/eigh.h"
#include "seigh/eigen/krylov.h"
#include "seigh/linop/matrix_operator.h"
#include "tests/support/spectra.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::hermitian_matrix;

double residual(const at::Tensor& matrix, const EigenResult& r) {
  const at::Tensor u = r.eigenvectors.all().to(at::kComplexDouble);
  return std::sqrt(squared_abs(at::matmul(matrix, u) - u * r.eigenvalues).sum(0).max().item<double>());
}

TEST(Hermitian, EveryMethodFindsTheLeadingPairs) {
  const auto m = hermitian_matrix("indefinite", 200);
  for (const at::ScalarType dtype : {at::kComplexFloat, at::kComplexDouble}) {
    for (const Method method : {Method::krylov, Method::seigh, Method::nystrom, Method::hmt, Method::dense}) {
      MatrixOperator op(m.matrix.to(dtype));
      const EigenResult r =
          eigh(op, {.method = method, .k = 30, .products = method == Method::dense ? 0 : 120, .seed = 3});
      // Sketches of 120 columns err by about the eigenvalues they leave out, 0.9^60.
      const bool exact = method == Method::krylov || method == Method::dense;
      const double tolerance = exact ? 100 * epsilon(dtype) : 0.02;
      EXPECT_LT((r.eigenvalues - m.eigenvalues.slice(0, 0, 30)).slice(0, 0, 8).abs().max().item<double>(),
                tolerance)
          << to_string(method) << dtype;
      const at::Tensor u = r.eigenvectors.all();
      EXPECT_TRUE(u.is_complex());
      EXPECT_LT(test::orthonormality_error(u), dtype == at::kComplexFloat ? 1e-5 : 1e-10)
          << to_string(method);
      // |u_i^H v_i| = 1 up to the error over the gap, .1 at the front of this spectrum.
      const at::Tensor cosines =
          (u.to(at::kComplexDouble).conj() * m.eigenvectors.slice(1, 0, 30)).sum(0).abs().slice(0, 0, 3);
      EXPECT_GT(cosines.min().item<double>(), exact ? 1 - 1e-4 : 0.95) << to_string(method);
      if (method != Method::dense) {
        // 30 complex probes: beyond a factor of 2 with probability below (e^.75 .25)^30 = 5e-9.
        const double error = exact_error(m.matrix, r.eigenvalues, r.eigenvectors);
        EXPECT_LT(r.error->error(), 2 * error) << to_string(method);
        EXPECT_GT(r.error->error(), error / 2) << to_string(method);
        EXPECT_EQ(r.error->beta, 2);
      }
    }
  }
}

// Residual bounds each fail with probability 1e-3 (sketches) or never but for rounding (krylov, dense, hmt).
TEST(Hermitian, ResidualBoundsHold) {
  const auto m = hermitian_matrix("polynomial", 150);
  for (const Method method : {Method::krylov, Method::seigh, Method::nystrom, Method::hmt, Method::dense}) {
    MatrixOperator op(m.matrix);
    const EigenResult r =
        eigh(op, {.method = method, .k = 20, .products = method == Method::dense ? 0 : 60, .seed = 5});
    const at::Tensor u = r.eigenvectors.all();
    const at::Tensor truth = squared_abs(at::matmul(m.matrix, u) - u * r.eigenvalues).sum(0).sqrt();
    EXPECT_TRUE((truth <= r.residuals + 1e-12).all().item<bool>()) << to_string(method);
    // And are of use: within a factor of 3 on average (20 of 30 probes' chi-square quantile is 1.9).
    if (method != Method::krylov && method != Method::dense) {
      EXPECT_LT((r.residuals / truth).mean().item<double>(), 3) << to_string(method);
    }
  }
}

TEST(Hermitian, KrylovRestartsInMemoryAndOnDisk) {
  const auto m = hermitian_matrix("clustered", 300);
  for (const bool on_disk : {false, true}) {
    const test::TempFolder folder;
    MatrixOperator op(m.matrix);
    SolverOptions options{.k = 12, .products = 300, .tolerance = 1e-9, .seed = 3, .probes = 0, .basis = 50};
    options.state = folder.path() / "state";
    options.on_disk = on_disk;
    const EigenResult r = krylov(op, options);
    EXPECT_EQ(r.converged, 12);
    EXPECT_LT(residual(m.matrix, r), 1e-8);
    EXPECT_LT(r.orthogonality_loss, 1e-10);
  }
}

TEST(Hermitian, StoppedKrylovGoesOn) {
  const auto m = hermitian_matrix("polynomial", 200);
  const test::TempFolder folder;
  SolverOptions options{.k = 10, .products = 40, .seed = 3, .probes = 0, .checks = 0};
  options.state = folder.path() / "state";
  MatrixOperator first(m.matrix), second(m.matrix), whole(m.matrix);
  krylov(first, options);
  options.products = 80;
  const EigenResult r = krylov(second, options);
  EXPECT_EQ(second.products(), 40);
  options.state.clear();
  const EigenResult expected = krylov(whole, options);
  EXPECT_LT((r.eigenvalues - expected.eigenvalues).abs().max().item<double>(), 1e-10);
  EXPECT_LT(residual(m.matrix, r), 1.01 * residual(m.matrix, expected) + 1e-10);
}

TEST(Hermitian, AdaptiveKrylovMeetsItsError) {
  const auto m = hermitian_matrix("exponential", 200);
  MatrixOperator op(m.matrix);
  const EigenResult r = eigh(op, {.method = Method::krylov, .k = 60, .error = 0.1, .seed = 3, .probes = 10});
  EXPECT_LT(r.rank, 40);
  EXPECT_LT(exact_error(m.matrix, r.eigenvalues, r.eigenvectors),
            0.2 * std::sqrt(squared_abs(m.matrix).sum().item<double>()));
}

TEST(Hermitian, KrylovStartsFromVectors) {
  const auto m = hermitian_matrix("indefinite", 150);
  MatrixOperator cold(m.matrix), warm(m.matrix);
  SolverOptions options{.k = 8, .products = 150, .tolerance = 1e-8, .seed = 3, .probes = 0};
  options.start = krylov(cold, options).eigenvectors;
  options.seed = 4;
  const EigenResult r = krylov(warm, options);
  EXPECT_EQ(r.converged, 8);
  EXPECT_LT(residual(m.matrix, r), 1e-7);
}

}  // namespace
}  // namespace seigh
