// Ranks whose operators are on a device, here a pretended one that each has to itself: bases lie there by
// rows, and what ranks exchange goes by way of the host.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "seigh/core/device.h"
#include "seigh/core/device_memory.h"
#include "seigh/eigen/eigh.h"
#include "seigh/eigen/krylov.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/tall_matrix.h"
#include "tests/mpi/everybody.h"
#include "tests/support/matrix_there.h"
#include "tests/support/notes.h"
#include "tests/support/pretended_device.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

using test::everybody;
using test::expect_same;
using test::expect_same_pairs;
using test::MatrixThere;
using test::mine;
using test::PretendedDevice;
using test::world;

constexpr int64_t kRows = 301;

at::Tensor there(const at::Tensor& x) {
  return as_block(x.to(PretendedDevice::device()));
}

TEST(RanksOnDevices, ExchangeByWayOfTheHost) {
  EXPECT_FALSE(world().takes(PretendedDevice::device()));
  const at::Tensor t = there(at::full({5, 2}, 1.0 + world().rank(), at::kDouble));
  world().sum(t);
  expect_same(t.cpu(), at::full({5, 2}, 6.0, at::kDouble), 0);
  world().agree_on(t.fill_(world().rank()));
  expect_same(t.cpu(), at::zeros({5, 2}, at::kDouble), 0);
  const at::Tensor block = random_gaussian(1, Stream::test, kRows, 0, 7, at::kDouble);
  const at::Tensor whole = gather_rows(kRows, there(mine(block)), world());
  EXPECT_EQ(whole.device(), PretendedDevice::device());
  expect_same(whole.cpu(), block, 0);
  const DividedTallMatrix parts(kRows, there(mine(block)), *everybody);
  expect_same(gram(parts), at::matmul(block.t(), block), 1e-11);
  expect_same(parts.select_rows(at::tensor({300, 0, 100, 100}, at::kLong)).cpu(),
              block.index_select(0, at::tensor({300, 0, 100, 100}, at::kLong)), 0);
}

TEST(RanksOnDevices, MultiplyColumnsAndRowsThere) {
  const auto m = test::spectral_matrix("indefinite", kRows);
  MatrixThere op(m.matrix);
  DividedColumns columns(op, *everybody);
  EXPECT_EQ(columns.device(), PretendedDevice::device());
  DividedSamples samples(op, 1.0 / 3, *everybody);
  for (const int64_t n : {int64_t{1}, int64_t{2}, int64_t{9}}) {
    const at::Tensor v = random_gaussian(2, Stream::test, kRows, 0, n, at::kDouble);
    const at::Tensor expected = at::matmul(m.matrix, v);
    for (DividedOperator* divided :
         {static_cast<DividedOperator*>(&columns), static_cast<DividedOperator*>(&samples)}) {
      expect_same(divided->apply(v), expected, 1e-12);
      const at::Tensor rows = divided->apply_rows(there(mine(v)));
      EXPECT_EQ(rows.device(), PretendedDevice::device());
      expect_same(rows.cpu(), mine(expected), 1e-12);
      expect_same(divided->apply(there(v)).cpu(), expected, 1e-12);
    }
  }
}

TEST(RanksOnDevices, SayThatTheyExchangeByWayOfTheHost) {
  const auto notes = std::make_shared<test::Notes>();
  const Context context({.ranks = test::ranks, .progress = notes});
  const auto m = test::spectral_matrix("exponential", kRows);
  MatrixOperator here(m.matrix);
  eigh(here, {.method = Method::krylov, .k = 2, .probes = 0}, context);
  EXPECT_EQ(notes->all, "");
  MatrixThere op(m.matrix);
  eigh(op, {.method = Method::krylov, .k = 2, .probes = 0}, context);
  EXPECT_NE(notes->all.find("by way of the host"), std::string::npos) << notes->all;
}

TEST(RanksOnDevices, KrylovKeepsEachRanksRowsThere) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kComplexDouble}) {
    const at::Tensor matrix = at::isComplexType(dtype)
                                  ? test::hermitian_matrix("indefinite", kRows).matrix
                                  : test::spectral_matrix("exponential", kRows).matrix.to(dtype);
    for (const int64_t basis : {0, 60}) {  // without and with restarts
      const int64_t before = PretendedDevice::held_at_rest();
      const SolverOptions options{
          .method = Method::krylov, .k = 12, .products = 120, .seed = 3, .probes = 4, .basis = basis};
      EigenResult r, expected;
      {
        MatrixThere op(matrix);
        r = eigh(op, options, *everybody);
        MatrixOperator host(matrix);
        expected = eigh(host, options, *everybody);
        const int64_t vectors = basis > 0 ? basis : 128;
        EXPECT_GT(op.most_held - before,
                  vectors * (kRows / 3) * static_cast<int64_t>(c10::elementSize(dtype)));
        EXPECT_LT(op.from_host, 40);  // checks alone
      }
      EXPECT_TRUE(r.eigenvectors.divided());
      EXPECT_EQ(r.eigenvectors.row_range(world().share(kRows).begin, 1).device(), at::kCPU);
      expect_same_pairs(r, expected, dtype == at::kFloat ? 1e-4 : 1e-9);
      EXPECT_EQ(PretendedDevice::held_at_rest(), before);
    }
  }
}

// What other solvers have that is tall: each rank all of it, on its device where all have room.
TEST(RanksOnDevices, OtherSolversWorkThere) {
  const auto m = test::spectral_matrix("exponential", kRows);
  for (const Method method : {Method::seigh, Method::nystrom, Method::hmt, Method::dense}) {
    const SolverOptions options{
        .method = method, .k = 12, .products = method == Method::dense ? 0 : 80, .seed = 3, .probes = 4};
    MatrixOperator host(m.matrix);
    const EigenResult expected = eigh(host, options, *everybody);
    for (const bool room : {true, false}) {
      const int64_t before = PretendedDevice::held_at_rest();
      int64_t from_host = 0;
      {
        MatrixThere op(m.matrix);
        if (!room && world().rank() == 1)
          PretendedDevice::set_limit(PretendedDevice::held() + (method == Method::dense ? 400'000 : 100'000));
        const EigenResult r = eigh(op, options, *everybody);
        PretendedDevice::set_limit(int64_t{1} << 40);
        expect_same_pairs(r, expected, 1e-8);
        EXPECT_TRUE(r.eigenvalues.is_cpu());
        EXPECT_TRUE(r.eigenvectors.all().is_cpu());
        EXPECT_EQ(r.products, expected.products);
        from_host = op.from_host;
      }
      EXPECT_EQ(from_host > 10, !room) << to_string(method) << from_host;
      EXPECT_EQ(PretendedDevice::held_at_rest(), before);
    }
  }
}

// Whatever there is room for, on one rank less than on the others.
TEST(RanksOnDevices, KrylovKeepsRowsOnEitherSide) {
  const auto m = test::spectral_matrix("exponential", kRows);
  const SolverOptions options{.method = Method::krylov, .k = 12, .products = 120, .seed = 3, .probes = 4};
  MatrixOperator host(m.matrix);
  const EigenResult expected = eigh(host, options, *everybody);
  const KrylovSizes sizes = krylov_sizes(options, kRows, at::kDouble, world());
  const int64_t basis = sizes.ideal_basis * (kRows / 3 + 1) * 8, before = PretendedDevice::held_at_rest();
  int64_t on_either_side = 0;
  for (int64_t step = 0; step < 12; ++step) {
    const auto notes = std::make_shared<test::Notes>();
    MatrixThere op(m.matrix);
    const int64_t room = sizes.on_device + basis * step / 8 - (world().rank() == 1 ? 1000 : 0);
    PretendedDevice::set_limit(PretendedDevice::held() + room / 9 * 10);
    const EigenResult r = eigh(op, options, Context({.ranks = test::ranks, .progress = notes}));
    PretendedDevice::set_limit(int64_t{1} << 40);
    expect_same_pairs(r, expected, 1e-9);
    EXPECT_TRUE(r.eigenvectors.divided());
    EXPECT_EQ(r.eigenvectors.row_range(world().share(kRows).begin, 1).device(), at::kCPU);
    EXPECT_TRUE(at::equal(r.eigenvectors.on_every_rank().all(), r.eigenvectors.all()));
    EXPECT_TRUE(at::equal(r.eigenvectors.compact().all(), r.eigenvectors.all()));
    if (notes->all.find("in the host's memory") != std::string::npos) ++on_either_side;
  }
  EXPECT_GE(on_either_side, 2);
  EXPECT_EQ(PretendedDevice::held_at_rest(), before);
}

// From 512 columns on T is decomposed on the device; what comes of it is on the host, on all ranks.
TEST(RanksOnDevices, DecomposeLargeBasesThere) {
  const auto m = test::spectral_matrix("polynomial", 900);
  for (const bool adaptive : {false, true}) {
    MatrixThere op(m.matrix);
    SolverOptions options{.method = Method::krylov, .k = 150, .seed = 3, .probes = 10};
    if (adaptive)
      options.error = 1e-3;
    else
      options.products = 640;
    const EigenResult r = eigh(op, options, *everybody);
    EXPECT_TRUE(r.eigenvalues.is_cpu());
    EXPECT_TRUE(r.spectrum.is_cpu());
    expect_same(r.eigenvalues.slice(0, 0, 20), m.eigenvalues.slice(0, 0, 20), 1e-9);
    EXPECT_EQ(world().agree(r.products), r.products);
  }
}

// Three ranks that see one device have a third of it each; a ceiling that is given stays.
TEST(RanksOnDevices, DivideADeviceThatTheyShare) {
  EXPECT_EQ(world().beside(), 3);
  EXPECT_EQ(world().number(), world().rank());
  const int64_t limit = int64_t{3} << 30;
  PretendedDevice::set_limit(limit);
  const int64_t alone = DeviceMemory(PretendedDevice::device()).available();
  for (const std::string name : {"pretended", "pretended:0"}) {
    const Context context = on_device(*everybody, name);
    EXPECT_EQ(context.device(), PretendedDevice::device());
    EXPECT_EQ(context.device_memory(), PretendedDevice::held() + alone / 3 + 1);
    EXPECT_EQ(on_device(everybody->with_device_memory(1000), name).device_memory(), 1000);
  }
  EXPECT_EQ(on_device(*everybody, "cpu").device_memory(), 0);
  PretendedDevice::set_limit(int64_t{1} << 40);
}

// Where one rank's device has too little, all have their bases on the host.
TEST(RanksOnDevices, DecideTogetherWhereTheBasisLies) {
  const auto m = test::spectral_matrix("exponential", kRows);
  MatrixThere op(m.matrix);
  if (world().rank() == 1) PretendedDevice::set_limit(PretendedDevice::held() + 100'000);
  const EigenResult r =
      eigh(op, {.method = Method::krylov, .k = 12, .products = 120, .seed = 3, .probes = 0}, *everybody);
  PretendedDevice::set_limit(int64_t{1} << 40);
  EXPECT_GT(op.from_host, 20);  // this rank's of the products
  expect_same(r.eigenvalues, m.eigenvalues.slice(0, 0, 12), 1e-8);
}

}  // namespace
}  // namespace seigh
