#include "seigh/eigen/krylov.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/seigh.h"
#include "seigh/linop/matrix_operator.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::orthonormality_error;
using test::spectral_matrix;

double best_rank_k_error(const at::Tensor& values, int64_t k) {
  return values.slice(0, k).norm().item<double>();
}

at::Tensor true_residuals(const at::Tensor& matrix, const EigenResult& r) {
  const at::Tensor u = r.eigenvectors.all().to(at::kDouble);
  return (at::matmul(matrix, u) - u * r.eigenvalues).norm(2, 0);
}

TEST(Krylov, IsAsGoodAsTheBestAtTheProductsOfASketch) {
  for (const std::string name : {"exponential", "polynomial", "indefinite", "plus_minus", "clustered"}) {
    const auto m = spectral_matrix(name, 400);
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      MatrixOperator op(m.matrix.to(dtype));
      const EigenResult r = krylov(op, {.k = 40, .products = 80, .seed = 3, .probes = 0, .checks = 0});
      EXPECT_EQ(r.products, op.products());
      EXPECT_LE(r.products, 80) << name;
      const double best = best_rank_k_error(m.eigenvalues, 40);
      EXPECT_LT(exact_error(m.matrix, r.eigenvalues, r.eigenvectors),
                1.2 * best + (dtype == at::kFloat ? 1e-5 : 1e-10) * m.matrix.norm().item<double>())
          << name;
      EXPECT_LT(orthonormality_error(r.eigenvectors.all()), dtype == at::kDouble ? 1e-10 : 1e-5) << name;
      EXPECT_LT(r.orthogonality_loss, dtype == at::kDouble ? 1e-11 : 1e-4) << name;
    }
  }
}

TEST(Krylov, ResidualsAreBoundsAndSharpOnes) {
  const auto m = spectral_matrix("polynomial", 400);
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const at::Tensor rounded = m.matrix.to(dtype);
    MatrixOperator op(rounded);
    for (const int64_t basis : {int64_t{0}, int64_t{100}}) {
      const EigenResult r = krylov(
          op,
          {.k = 30, .products = basis > 0 ? 150 : 60, .seed = 3, .probes = 0, .checks = 0, .basis = basis});
      const at::Tensor truth = true_residuals(rounded.to(at::kDouble), r);
      EXPECT_TRUE((truth <= r.residuals).all().item<bool>()) << dtype << basis;
      // Where it is not rounding that they allow for.
      const at::Tensor large = truth > 1e-3;
      EXPECT_TRUE((r.residuals.masked_select(large) <= 1.01 * truth.masked_select(large)).all().item<bool>());
    }
  }
}

TEST(Krylov, ReachesAToleranceThroughRestarts) {
  for (const std::string name : {"polynomial", "indefinite"}) {
    const auto m = spectral_matrix(name, 500);
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      MatrixOperator op(m.matrix.to(dtype));
      const double tolerance = dtype == at::kDouble ? 1e-10 : 1e-5;
      const EigenResult r = krylov(op, {.k = 20,
                                        .products = 500,
                                        .tolerance = tolerance,
                                        .seed = 3,
                                        .probes = 0,
                                        .checks = 0,
                                        .basis = 60});
      EXPECT_EQ(r.converged, 20) << name;
      EXPECT_LT(r.products, 500) << name;
      EXPECT_LT(true_residuals(m.matrix, r).max().item<double>(), 1.5 * tolerance) << name;
      EXPECT_LT((r.eigenvalues - m.eigenvalues.slice(0, 0, 20)).abs().max().item<double>(), 1.5 * tolerance);
      EXPECT_LT(orthonormality_error(r.eigenvectors.all()), dtype == at::kDouble ? 1e-10 : 1e-5) << name;
    }
  }
}

TEST(Krylov, StopsEarlyOnceThePairsHaveConverged) {
  const auto m = spectral_matrix("exponential", 400);
  MatrixOperator op(m.matrix);
  const EigenResult r = krylov(op, {.k = 10, .products = 400, .seed = 3, .probes = 0});
  EXPECT_LT(r.products, 200);
  EXPECT_EQ(r.converged, 10);
  EXPECT_LT((r.eigenvalues - m.eigenvalues.slice(0, 0, 10)).abs().max().item<double>(), 1e-13);
}

TEST(Krylov, ExhaustsAnOperatorOfLowRank) {
  const auto m = spectral_matrix("low_rank_10", 300);
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    MatrixOperator op(m.matrix.to(dtype));
    const EigenResult r = krylov(op, {.k = 15, .products = 200, .seed = 3, .probes = 5});
    if (dtype == at::kDouble) {
      EXPECT_EQ(r.rank, 10);
      EXPECT_LT(r.products, 120);
    }
    const double tolerance = dtype == at::kDouble ? 1e-12 : 1e-4;
    EXPECT_LT((r.eigenvalues.slice(0, 0, 10) - m.eigenvalues.slice(0, 0, 10)).abs().max().item<double>(),
              tolerance);
    EXPECT_LT(r.error->error(), tolerance);
  }
  MatrixOperator zero(at::zeros({50, 50}, at::kDouble));
  const EigenResult nothing = krylov(zero, {.k = 4, .seed = 1});
  EXPECT_EQ(nothing.rank, 0);
  EXPECT_EQ(nothing.error->error(), 0);
}

// Eigenvalues of far higher multiplicity than the block.
TEST(Krylov, FindsEveryCopyOfARepeatedEigenvalue) {
  const at::Tensor values = at::where(at::arange(300) < 60, 3.0, at::where(at::arange(300) < 100, -1.0, 0.0));
  DiagonalOperator op(values.to(at::kDouble));
  const EigenResult r = krylov(op, {.k = 80, .products = 300, .seed = 3, .probes = 0, .block = 8});
  EXPECT_EQ(r.rank, 80);
  EXPECT_LT((r.eigenvalues - values.slice(0, 0, 80)).abs().max().item<double>(), 1e-12);
  // Which vector is which, in a space of equals, is not certain; of those of -1, 20 of 40 were wanted.
  const Certificates& c = r.certificates;
  EXPECT_TRUE(c.trust.eq(static_cast<int64_t>(Trust::cluster)).all().item<bool>());
  EXPECT_TRUE(c.first.slice(0, 0, 60).eq(1).all().item<bool>() &&
              c.last.slice(0, 0, 60).eq(60).all().item<bool>());
  EXPECT_TRUE(c.first.slice(0, 60).eq(61).all().item<bool>() &&
              c.last.slice(0, 60).eq(100).all().item<bool>());
  EXPECT_LT(c.angle.max().item<double>(), 1e-9);
}

TEST(Krylov, TheEdgeOfAClusterIsMarked) {
  const auto m = spectral_matrix("clustered", 300);  // 5 of 3, 7 of 1, the rest below 1e-4
  MatrixOperator op(m.matrix);
  const EigenResult r = krylov(op, {.k = 8, .products = 60, .seed = 3, .probes = 0});
  EXPECT_LT((r.eigenvalues - m.eigenvalues.slice(0, 0, 8)).abs().max().item<double>(), 1e-12);
  const Certificates& c = r.certificates;
  EXPECT_TRUE(c.trust.eq(static_cast<int64_t>(Trust::cluster)).all().item<bool>());
  EXPECT_TRUE(at::equal(c.last, at::tensor({5, 5, 5, 5, 5, 12, 12, 12}, at::kLong)));
  const at::Tensor errors = c.subspace;
  EXPECT_LT(errors[4].item<double>(), 1e-10);  // all five of 3 together are certain
  EXPECT_GT(errors[3].item<double>(), 0.99);   // four of five are not
  EXPECT_GT(errors[7].item<double>(), 0.5);    // nor is the cut through the seven of 1
}

TEST(Krylov, PairsOfOppositeSignAreToldApart) {
  const auto m = spectral_matrix("plus_minus", 300);
  MatrixOperator op(m.matrix);
  const EigenResult r = krylov(op, {.k = 20, .products = 150, .seed = 3, .probes = 0});
  EXPECT_LT((r.eigenvalues.abs() - m.eigenvalues.slice(0, 0, 20).abs()).abs().max().item<double>(), 1e-12);
  EXPECT_EQ((r.eigenvalues > 0).sum().item<int64_t>(), 10);
  EXPECT_EQ(r.certificates.certified(), 20);
}

TEST(Krylov, SelectsWhatIsAskedFor) {
  const auto m = spectral_matrix("indefinite", 300);
  MatrixOperator op(m.matrix);
  const at::Tensor falling = std::get<0>(m.eigenvalues.sort(0, true));
  const auto find = [&](Selection selection) {
    return krylov(
        op, {.k = 10, .products = 300, .tolerance = 1e-9, .selection = selection, .seed = 3, .probes = 0});
  };
  EXPECT_LT((find(Selection::positive).eigenvalues - falling.slice(0, 0, 10)).abs().max().item<double>(),
            1e-9);
  EXPECT_LT(
      (find(Selection::negative).eigenvalues - falling.flip(0).slice(0, 0, 10)).abs().max().item<double>(),
      1e-9);
  const EigenResult both = find(Selection::both);
  const at::Tensor ends = std::get<0>(both.eigenvalues.sort(0, true));
  EXPECT_LT((ends - at::cat({falling.slice(0, 0, 5), falling.slice(0, 295)})).abs().max().item<double>(),
            1e-9);
  EXPECT_TRUE(
      (both.eigenvalues.abs().slice(0, 1) <= both.eigenvalues.abs().slice(0, 0, -1)).all().item<bool>());
}

TEST(Krylov, TakesAsManyPairsAsTheErrorAsks) {
  const auto m = spectral_matrix("polynomial", 400);
  MatrixOperator op(m.matrix);
  const EigenResult r = krylov(op, {.k = 100, .error = 0.2, .seed = 3, .probes = 60});
  const double truth = exact_error(m.matrix, r.eigenvalues, r.eigenvectors) / m.matrix.norm().item<double>();
  EXPECT_LT(r.error->relative_error(), 0.2 * 1.0001);
  EXPECT_NEAR(truth, 0.2, 0.05);  // 60 probes: the estimate is within a fifth but for 1 % of seeds
  EXPECT_LT(r.rank, 40);          // the best rank for 0.2 is 14
  EXPECT_LT(r.products, 200);
}

TEST(Krylov, StartsFromASimilarOperator) {
  const auto m = spectral_matrix("polynomial", 400);
  const at::Tensor noise =
      1e-3 * (at::matmul(m.eigenvectors.slice(1, 0, 50), m.eigenvectors.slice(1, 50, 100).t()));
  MatrixOperator before(m.matrix), now(m.matrix + 0.5 * (noise + noise.t()));
  const SolverOptions options{
      .k = 20, .products = 400, .tolerance = 1e-3, .seed = 3, .probes = 0, .checks = 0};
  SolverOptions warm = options;
  warm.start = krylov(before, options).eigenvectors;
  const EigenResult cold = krylov(now, options), r = krylov(now, warm);
  EXPECT_EQ(r.converged, 20);
  EXPECT_LT(r.products, cold.products);
  EXPECT_LT((r.eigenvalues - cold.eigenvalues).abs().max().item<double>(), 1e-3);
}

// An operator that is interrupted after so many products.
class Mortal final : public LinearOperator {
 public:
  Mortal(const at::Tensor& matrix, int64_t life)
      : LinearOperator(matrix.size(0), matrix.scalar_type(), "mortal"), matrix_(matrix), life_(life) {}

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override {
    life_ -= block.size(1);
    require(life_ >= 0, "killed");
    return at::matmul(matrix_, block);
  }

 private:
  at::Tensor matrix_;
  int64_t life_;
};

TEST(Krylov, GoesOnFromWhereItWasKilled) {
  const auto m = spectral_matrix("polynomial", 300);
  for (const int64_t basis : {int64_t{0}, int64_t{64}}) {
    for (const bool on_disk : {false, true}) {
      const test::TempFolder folder;
      SolverOptions options{
          .k = 20, .products = 200, .tolerance = 1e-12, .seed = 3, .probes = 4, .checks = 0, .basis = basis};
      Mortal whole(m.matrix, 1000);
      const EigenResult undisturbed = krylov(whole, options);
      options.state = folder.path() / "state";
      options.save_seconds = 0;
      options.on_disk = on_disk;
      for (const int64_t life : {30, 20, 50, 1000}) {
        Mortal op(m.matrix, life);
        if (life < 1000) {
          EXPECT_SEIGH_ERROR(krylov(op, options), "killed");
          continue;
        }
        const EigenResult r = krylov(op, options);
        EXPECT_TRUE(at::equal(r.eigenvalues, undisturbed.eigenvalues)) << basis << on_disk;
        EXPECT_TRUE(at::equal(r.eigenvectors.all(), undisturbed.eigenvectors.all())) << basis << on_disk;
        EXPECT_EQ(r.eigenvectors.in_memory(), !on_disk);
        EXPECT_TRUE(at::equal(r.eigenvectors.compact().all(), undisturbed.eigenvectors.all()));
        EXPECT_NEAR(r.error->error(), undisturbed.error->error(), 1e-12);
        EXPECT_EQ(r.products, undisturbed.products);
        EXPECT_LT(op.products(), undisturbed.products - 60);  // not all of them again
        Mortal again(m.matrix, 1000);
        EXPECT_TRUE(at::equal(krylov(again, options).eigenvalues, undisturbed.eigenvalues));
        EXPECT_EQ(again.products(), 4);  // the probes
        // The files that the result lies in may be removed.
        fs::remove_all(options.state);
        EXPECT_LT(orthonormality_error(r.eigenvectors.all()), 1e-10);
      }
    }
  }
}

// At whatever product it is killed, also where the basis has become invariant and is being restarted.
TEST(Krylov, FindsEveryCopyAfterAKillAnywhere) {
  const at::Tensor values = at::where(at::arange(200) < 30, 3.0, at::where(at::arange(200) < 50, -1.0, 0.0));
  const at::Tensor matrix = at::diag(values.to(at::kDouble));
  SolverOptions options{.k = 40, .products = 200, .seed = 3, .probes = 0, .block = 8, .basis = 72};
  for (const double save_seconds : {0.0, 1e6}) {
    for (int64_t life = 8; life <= 120; life += 8) {
      const test::TempFolder folder;
      options.state = folder.path() / "state";
      options.on_disk = true;
      options.save_seconds = save_seconds;
      Mortal first(matrix, life), second(matrix, 1000);
      try {
        krylov(first, options);
      } catch (const Error&) {
      }
      const EigenResult r = krylov(second, options);
      ASSERT_EQ(r.rank, 40) << life;
      EXPECT_LT((r.eigenvalues - values.slice(0, 0, 40)).abs().max().item<double>(), 1e-12) << life;
    }
  }
}

TEST(Krylov, AStateBelongsToOneComputation) {
  const auto m = spectral_matrix("polynomial", 300);
  const test::TempFolder folder;
  SolverOptions options{
      .k = 20, .products = 40, .seed = 3, .probes = 0, .checks = 0, .state = folder.path() / "state"};
  MatrixOperator op(m.matrix);
  krylov(op, options);
  options.seed = 4;
  EXPECT_SEIGH_ERROR(krylov(op, options), "belongs to another computation");
}

// Begun in memory, continued on disk, ended in memory.
TEST(Krylov, ABasisMovesBetweenMemoryAndDisk) {
  const auto m = spectral_matrix("polynomial", 300);
  const test::TempFolder folder;
  SolverOptions options{.k = 20, .products = 120, .tolerance = 1e-12, .seed = 3, .probes = 0, .checks = 0};
  Mortal whole(m.matrix, 1000);
  const EigenResult undisturbed = krylov(whole, options);
  options.state = folder.path() / "state";
  options.save_seconds = 0;
  for (const int64_t life : {40, 32, 1000}) {
    Mortal op(m.matrix, life);
    options.on_disk = life == 32;
    if (life < 1000) {
      EXPECT_SEIGH_ERROR(krylov(op, options), "killed");
    } else {
      EXPECT_TRUE(at::equal(krylov(op, options).eigenvalues, undisturbed.eigenvalues));
      EXPECT_EQ(op.products(), undisturbed.products - 72);
    }
  }
}

TEST(Krylov, RefusesImpossibleOptions) {
  MatrixOperator op(at::eye(10, at::kDouble));
  EXPECT_SEIGH_ERROR(krylov(op, {.k = 11}), "between 1 and");
  EXPECT_SEIGH_ERROR(krylov(op, {.k = 5, .products = 4}), "at least k");
  EXPECT_SEIGH_ERROR(krylov(op, {.k = 5, .tolerance = -1}), "tolerance");
  EXPECT_SEIGH_ERROR(krylov(op, {.k = 5, .error = 0.1, .selection = Selection::positive}),
                     "largest magnitude");
  MatrixOperator large(at::eye(400, at::kDouble));
  EXPECT_SEIGH_ERROR(krylov(large, {.k = 50, .basis = 60}), "the basis may have 60");
  EXPECT_SEIGH_ERROR(krylov(op, {.k = 5, .on_disk = true}), "needs a folder");
  EXPECT_SEIGH_ERROR(krylov(op, {.k = 5, .start = Eigenvectors(at::zeros({9, 2}, at::kDouble))}),
                     "10 rows, not 9");
}

}  // namespace
}  // namespace seigh
