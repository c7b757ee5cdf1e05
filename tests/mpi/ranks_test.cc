// What the ranks of an MPI job do together must be what one process does alone. Run by mpirun with three
// ranks: shares of different size, and more than a pair.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/curvature/make.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/eigh.h"
#include "seigh/eigen/krylov.h"
#include "seigh/eigen/seigh.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/mpi/mpi.h"
#include "seigh/nn/mlp.h"
#include "seigh/overlap/best_overlap.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/overlap_file.h"
#include "seigh/sketch/measure.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/tall_matrix.h"
#include "tests/mpi/everybody.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::common_folder;
using test::everybody;
using test::expect_same;
using test::expect_same_pairs;
using test::mine;
using test::spectral_matrix;
using test::world;

constexpr int64_t kRows = 200;

TEST(Ranks, AreThree) {
  ASSERT_EQ(world().size(), 3);
  int64_t end = 0;
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(world().share(kRows, rank).begin, end);
    end = world().share(kRows, rank).end();
  }
  EXPECT_EQ(end, kRows);
  EXPECT_EQ(world().share(2, 2).count, 0);
}

TEST(Ranks, SumBroadcastAndAgree) {
  const at::Tensor t = at::full({3, 2}, 1.0 + world().rank(), at::kDouble);
  world().sum(t);
  expect_same(t, at::full({3, 2}, 6.0, at::kDouble), 0);
  EXPECT_EQ(world().agree(world().rank() + 5), 5);
  int64_t from_two = world().rank();
  world().broadcast(&from_two, sizeof(from_two), 2);
  EXPECT_EQ(from_two, 2);
  const at::Tensor mine_only = at::full({4}, static_cast<double>(world().rank()), at::kDouble);
  world().agree_on(mine_only);
  expect_same(mine_only, at::zeros({4}, at::kDouble), 0);
}

// Of every size, from none to several pieces, and the same bits on all ranks: in the order of the ranks.
TEST(Ranks, AddInTheirOrder) {
  const double parts[] = {1e16, 1.0, -1e16};
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{20'000}, (int64_t{1} << 24) + 5}) {
    const at::Tensor t = at::full({n}, parts[world().rank()], at::kDouble);
    world().sum(t);
    expect_same(t, at::full({n}, (1e16 + 1.0) - 1e16, at::kDouble), 0);
  }
  const at::Tensor block = at::ones({3, 4}, at::kFloat).t();  // by columns
  block[2][1] = 5;
  world().sum(block);
  EXPECT_EQ(block[2][1].item<float>(), 15);
  EXPECT_EQ(block.sum().item<float>(), 3 * (11 + 5));
  EXPECT_EQ(world().least(10 - world().rank()), 8);
}

TEST(Ranks, ExchangeWhatEachHasForEach) {
  std::vector<at::Tensor> give, get;
  for (int r = 0; r < 3; ++r) {
    give.push_back(at::full({r + 2}, 10.0 * world().rank() + r, at::kFloat));
    get.push_back(at::empty({world().rank() + 2}, at::kFloat));
  }
  world().exchange(give, get);
  for (int r = 0; r < 3; ++r)
    expect_same(get[static_cast<size_t>(r)], at::full({world().rank() + 2}, 10.0 * r + world().rank()), 0);
  expect_same(world().sum_of(give), at::full({world().rank() + 2}, 30.0 + 3 * world().rank()), 0);
}

TEST(Ranks, ShareTheRowsOfATallMatrix) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const at::Tensor block = random_gaussian(1, Stream::test, kRows, 0, 7, dtype);
    const at::Tensor other = random_gaussian(1, Stream::test, kRows, 7, 4, dtype);
    const at::Tensor small = random_gaussian(1, Stream::test, 7, 20, 3, at::kDouble);
    const MemoryTallMatrix whole(block);
    const DividedTallMatrix parts(kRows, mine(block), *everybody);
    const double rounding = 1e-12 * kRows;
    expect_same(gram(parts), gram(whole), rounding);
    expect_same(gram_of_product(parts, small), gram_of_product(whole, small), 10 * rounding);
    expect_same(transposed_product(parts, other), transposed_product(whole, other), rounding);
    expect_same(times_small(parts, small), times_small(whole, small), 0);
    const at::Tensor index = at::tensor({199, 0, 67, 66, 133, 134, 0}, at::kLong);
    expect_same(parts.select_rows(index), whole.select_rows(index), 0);
    expect_same(gather_rows(kRows, mine(block), world()), block, 0);
  }
}

TEST(Ranks, ShareTheColumnsOfABlock) {
  const auto m = spectral_matrix("indefinite", kRows);
  MatrixOperator op(m.matrix);
  DividedColumns divided(op, *everybody);
  for (const int64_t columns : {int64_t{1}, int64_t{3}, int64_t{8}}) {
    const at::Tensor v = random_gaussian(2, Stream::test, kRows, 0, columns, at::kDouble);
    MatrixOperator alone(m.matrix);
    // Other blocks, other kernels: not the last bit.
    const at::Tensor expected = alone.apply(v);
    expect_same(divided.apply(v), expected, 1e-13);
    const int64_t before = divided.products();
    expect_same(divided.apply_rows(mine(v)), mine(expected), 1e-13);
    EXPECT_EQ(divided.products() - before, columns);
    expect_same(apply_rows(alone, mine(v), *everybody), mine(expected), 1e-13);
  }
  EXPECT_LT(op.products(), divided.products());
}

TEST(Ranks, ShareTheSamplesOfAMean) {
  const Mlp model({5, 4, 3}, Activation::tanh);
  const Dataset data = test::gaussian_data(20, 5, 3);
  const at::Tensor parameters = model.initial_parameters(1);
  CurvatureOptions options;
  options.dtype = at::kDouble;
  options.l2 = 0.1;
  for (const CurvatureKind kind :
       {CurvatureKind::hessian, CurvatureKind::ggn, CurvatureKind::empirical_fisher}) {
    options.kind = kind;
    const auto whole = make_curvature_operator(model, parameters, {}, data, options, "whole");
    const int64_t n = data.size();
    const Share share = world().share(n);
    const auto part = make_curvature_operator(
        model, parameters, {}, data.select(at::arange(share.begin, share.end(), at::kLong)), options, "part");
    DividedSamples divided(*part, static_cast<double>(share.count) / static_cast<double>(n), *everybody);
    const at::Tensor v = random_gaussian(2, Stream::test, whole->size(), 0, 4, at::kDouble);
    const at::Tensor expected = whole->apply(v);
    const double rounding = 1e-12 * expected.abs().max().item<double>();
    expect_same(divided.apply(v), expected, rounding);
    expect_same(divided.apply_rows(mine(v)), mine(expected), rounding);
  }
}

TEST(Ranks, KrylovIsThatOfOneProcess) {
  for (const std::string name : {"exponential", "plus_minus", "clustered", "low_rank_10"}) {
    const auto m = spectral_matrix(name, kRows);
    // Without and with restarts, in memory and on disk.
    for (const auto& [basis, on_disk] : {std::pair{0, false}, {60, false}, {0, true}, {60, true}}) {
      MatrixOperator op(m.matrix);
      SolverOptions options{
          .method = Method::krylov, .k = 10, .tolerance = 1e-10, .seed = 3, .probes = 5, .basis = basis};
      if (on_disk) options.state = common_folder("krylov_" + name + std::to_string(basis));
      options.on_disk = on_disk;
      const EigenResult r = eigh(op, options, *everybody);
      EXPECT_EQ(r.converged, r.rank) << name;
      EXPECT_EQ(r.rank, 10) << name;
      EXPECT_TRUE(r.eigenvectors.divided());
      expect_same(r.eigenvalues.abs(), m.eigenvalues.slice(0, 0, 10).abs(),
                  1e-9);  // of +-, rounding chooses the order
      const at::Tensor u = r.eigenvectors.all();
      EXPECT_LT(test::orthonormality_error(u), 1e-10) << name;
      EXPECT_LT((at::matmul(m.matrix, u) - u * r.eigenvalues).norm(2, 0).max().item<double>(), 1e-8) << name;
      EXPECT_LT(r.orthogonality_loss, 1e-10);
    }
  }
}

TEST(Ranks, DecomposeHermitianMatrices) {
  const auto m = test::hermitian_matrix("indefinite", kRows);
  for (const Method method : {Method::krylov, Method::seigh}) {
    MatrixOperator op(m.matrix);
    SolverOptions options{.method = method, .k = 20, .products = 100, .seed = 3, .probes = 5};
    options.state = common_folder("hermitian_" + to_string(method));
    options.on_disk = method == Method::krylov;
    const EigenResult r = eigh(op, options, *everybody);
    EXPECT_TRUE(r.eigenvectors.divided());
    // Of the sketch: its own error.
    expect_same(r.eigenvalues.slice(0, 0, 5), m.eigenvalues.slice(0, 0, 5),
                method == Method::krylov ? 1e-10 : 0.05);
    EXPECT_LT(test::orthonormality_error(r.eigenvectors.all()), 1e-10);
  }
}

TEST(Ranks, AdaptiveKrylovStopsTogether) {
  const auto m = spectral_matrix("exponential", kRows);
  MatrixOperator op(m.matrix.to(at::kFloat));
  const EigenResult r =
      eigh(op, {.method = Method::krylov, .k = 60, .error = 0.1, .seed = 3, .probes = 10}, *everybody);
  EXPECT_EQ(world().agree(r.rank), r.rank);
  EXPECT_LT(r.rank, 40);
  EXPECT_LT(exact_error(m.matrix, r.eigenvalues, r.eigenvectors), 0.2 * m.matrix.norm().item<double>());
}

TEST(Ranks, KrylovContinuesFromItsFiles) {
  const auto m = spectral_matrix("polynomial", kRows);
  SolverOptions options{
      .method = Method::krylov, .k = 10, .products = 40, .seed = 3, .probes = 0, .checks = 0};
  options.state = common_folder("krylov");
  MatrixOperator first(m.matrix), second(m.matrix), whole(m.matrix);
  eigh(first, options, *everybody);
  options.products = 80;
  const EigenResult r = eigh(second, options, *everybody);
  EXPECT_EQ(r.products, 80);
  options.state.clear();
  const EigenResult expected = eigh(whole, options, *everybody);
  expect_same_pairs(r, expected, 1e-9);
  EXPECT_LT(second.products(), whole.products());  // it did not begin anew
}

// The root gets the rows of the others by panels.
TEST(Ranks, WriteTheirEigenvectorsIntoOneFile) {
  const auto m = spectral_matrix("polynomial", kRows);
  MatrixOperator op(m.matrix.to(at::kFloat));
  const EigenResult r = eigh(op, {.method = Method::krylov, .k = 7, .seed = 3, .probes = 0}, *everybody);
  ASSERT_TRUE(r.eigenvectors.divided());
  EigenFileInfo info;
  info.parameters = kRows;
  info.k = 7;
  const auto path = common_folder("vectors") / "e.h5";
  write_eigen_file(path, info, r, true, *everybody);
  world().wait();
  expect_same(read_eigen_file(path, Vectors::by_panels).result.eigenvectors.all(), r.eigenvectors.all(), 0);
}

TEST(Ranks, SketchesAreThoseOfOneProcess) {
  const auto m = spectral_matrix("exponential", kRows);
  SolverOptions options{.k = 12, .products = 40, .seed = 5, .probes = 6};
  MatrixOperator alone(m.matrix), shared(m.matrix);
  const EigenResult expected = recover(measure(alone, sketch_plan(options, "m", kRows, at::kDouble)));
  options.state = common_folder("sketch");
  const EigenResult r = seigh(shared, options, *everybody);
  EXPECT_TRUE(r.eigenvectors.divided());
  expect_same_pairs(r, expected, 1e-8);
  const at::Tensor products = at::tensor({shared.products()}, at::kLong);
  world().sum(products);
  EXPECT_EQ(products.item<int64_t>(), r.products);  // none measured twice
  // The best masks, from rows that no rank holds alone.
  const at::Tensor best = best_overlap(ResultEigenspace(r.eigenvectors), int64_t{1} << 20, *everybody);
  expect_same(best, best_overlap(ResultEigenspace(expected.eigenvectors), int64_t{1} << 20), 1e-7);
}

TEST(Ranks, OtherMethodsToo) {
  const auto m = spectral_matrix("exponential", kRows);
  for (const Method method : {Method::hmt, Method::nystrom, Method::dense}) {
    const auto matrix = method == Method::nystrom ? at::matmul(m.matrix, m.matrix) : m.matrix;
    MatrixOperator op(matrix);
    const EigenResult r = eigh(
        op, {.method = method, .k = 5, .products = method == Method::dense ? 0 : 60, .seed = 3}, *everybody);
    expect_same(r.eigenvalues,
                (method == Method::nystrom ? m.eigenvalues.square() : m.eigenvalues).slice(0, 0, 5),
                method == Method::dense ? 1e-12 : 1e-2);  // a sketch's own error: 0.9^60
    expect_same(
        r.eigenvalues,
        [&] {
          at::Tensor root = r.eigenvalues.clone();
          world().agree_on(root);
          return root;
        }(),
        1e-12);
  }
}

}  // namespace

const Context* test::everybody = nullptr;
std::shared_ptr<Ranks> test::ranks;

}  // namespace seigh

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  seigh::test::ranks = seigh::start_mpi();
  const seigh::Context context({.ranks = seigh::test::ranks});
  seigh::test::everybody = &context;
  const int code = RUN_ALL_TESTS();
  std::error_code none;
  seigh::fs::remove_all(seigh::common_folder(""), none);
  std::fflush(nullptr);
  seigh::stop_mpi(code);
  std::_Exit(code);  // without the leak check of a sanitizer, which would find Open MPI's
}
