// Pairs found with products of few digits by several ranks.
#include "seigh/eigen/refine.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "seigh/eigen/eigh.h"
#include "seigh/tall/divided.h"
#include "tests/mpi/everybody.h"
#include "tests/trust/audit.h"

namespace seigh {
namespace {

using test::everybody;
using test::RoundedOperator;
using test::world;

test::Truth truth_of(const std::string& spectrum, int64_t d) {
  const at::Tensor basis = test::haar_basis(3, d, d);
  const at::Tensor made = at::matmul(basis * test::audited_spectrum(spectrum, d, 1), basis.t());
  test::Truth truth;
  truth.matrix = (0.5 * (made + made.t())).to(at::kFloat).to(at::kDouble);
  world().agree_on(truth.matrix);
  std::tie(truth.values, truth.vectors) = at::linalg_eigh(truth.matrix);
  return truth;
}

void expect_kept(const test::Audit& audit, const std::string& what) {
  for (const auto& [name, count] : audit.counts) EXPECT_EQ(count.broken, 0) << name << ", " << what;
}

TEST(RanksRefine, KeepWhatIsPromised) {
  for (const int64_t d : {1, 2, 5, 40, 120}) {
    for (const std::string spectrum : {"exponential", "zero"}) {
      const test::Truth truth = truth_of(spectrum, d);
      for (const Method method :
           {Method::krylov, Method::seigh, Method::nystrom, Method::hmt, Method::dense}) {
        for (const Selection selection : selections()) {
          SolverOptions o{.method = method, .k = std::min<int64_t>(d, 5), .selection = selection};
          o.products = std::min<int64_t>(d, method == Method::dense ? 0 : 8 * o.k);
          if ((method == Method::seigh || method == Method::nystrom || method == Method::hmt) && 4 * o.k > d)
            continue;
          RoundedOperator op(truth.matrix, at::kFloat);
          const EigenResult r = eigh(op, o, *everybody);
          test::Audit audit;
          test::check_solve(audit, truth, r, o, /*own_products=*/true);
          expect_kept(audit,
                      to_string(method) + ", " + spectrum + std::to_string(d) + ", " + to_string(selection));
          EXPECT_TRUE(r.certificates.trust.defined() || r.rank == 0);
        }
      }
    }
  }
}

// As one process does, to the rounding of the products: the vectors are found with others.
TEST(RanksRefine, GivesTheEigenvaluesOfTheMatrixItself) {
  const test::Truth truth = truth_of("exponential", 200);
  const SolverOptions o{.method = Method::krylov, .k = 10, .products = 60};
  for (const bool samples : {false, true}) {
    RoundedOperator op(truth.matrix, at::kFloat), part(truth.matrix * (1.0 + world().rank()), at::kFloat);
    DividedSamples sum(part, 1.0 / 6, *everybody);  // 1 + 2 + 3
    LinearOperator& shared = samples ? static_cast<LinearOperator&>(sum) : op;
    const EigenResult r = eigh(shared, o, *everybody);
    test::Audit audit;
    test::check_solve(audit, truth, r, o, true);
    expect_kept(audit, samples ? "samples" : "columns");
    test::expect_same(r.eigenvalues, truth.values.flip(0).slice(0, 0, 10), 5e-4);
    EXPECT_TRUE(r.eigenvectors.divided());
    EXPECT_GT(r.certificates.certified(), 0);
  }
  RoundedOperator op(truth.matrix, at::kFloat);
  DividedColumns columns(op, *everybody);
  for (const int64_t most : {1, 4}) {  // groups, where there is little memory
    const EigenResult r = refined(columns, eigh(op, o, *everybody), o, *everybody, most);
    test::Audit audit;
    test::check_solve(audit, truth, r, o, true);
    expect_kept(audit, "groups of " + std::to_string(most));
  }
}

// One rank's part may be multiplied otherwise than the others', by differences, say.
TEST(RanksRefine, RoundsWhereAnyRankDoes) {
  const test::Truth truth = truth_of("exponential", 60);
  const SolverOptions o{.method = Method::krylov, .k = 5, .products = 30};
  RoundedOperator rough(truth.matrix, at::kFloat);
  test::AuditedOperator plain(truth.matrix, at::kFloat, test::AuditedOperator::Products::plain, 0);
  for (const int odd : {0, 1, 2}) {
    LinearOperator& mine = world().rank() == odd ? static_cast<LinearOperator&>(plain) : rough;
    DividedSamples samples(mine, 1.0 / 3, *everybody);
    EXPECT_TRUE(samples.rounds());
    for (LinearOperator* const op : {static_cast<LinearOperator*>(&samples), &mine}) {
      const EigenResult r = eigh(*op, o, *everybody);
      test::Audit audit;
      test::check_solve(audit, truth, r, o, true);
      expect_kept(audit, "ranks that differ");
      EXPECT_EQ(world().agree(r.products), r.products);
    }
  }
}

// By shards of a store, which each rank measures by itself.
TEST(RanksRefine, TakesSketchesFromStores) {
  const test::Truth truth = truth_of("exponential", 120);
  SolverOptions o{.method = Method::seigh, .k = 8, .products = 60};
  o.state = test::common_folder("refined");
  RoundedOperator op(truth.matrix, at::kFloat);
  const EigenResult r = eigh(op, o, *everybody);
  test::Audit audit;
  test::check_solve(audit, truth, r, o, true);
  expect_kept(audit, "a store");
  SolverOptions in_memory = o;
  in_memory.state.clear();
  RoundedOperator alone(truth.matrix, at::kFloat);
  test::expect_same(r.eigenvalues, eigh(alone, in_memory).eigenvalues, 1e-4);
}

}  // namespace
}  // namespace seigh
