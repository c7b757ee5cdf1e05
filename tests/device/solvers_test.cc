// Solvers of operators on another device: what is tall lies there, and everything comes out as on the CPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/device_memory.h"
#include "seigh/eigen/eigh.h"
#include "seigh/eigen/krylov.h"
#include "seigh/eigen/seigh.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/qr.h"
#include "seigh/tall/tall_matrix.h"
#include "seigh/tall/transfers.h"
#include "tests/support/expect_error.h"
#include "tests/support/matrix_there.h"
#include "tests/support/notes.h"
#include "tests/support/pretended_device.h"
#include "tests/support/spectra.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::MatrixThere;
using test::PretendedDevice;
using test::relative_difference;
using test::TempFolder;

class OnTheDevice : public ::testing::Test {
 protected:
  OnTheDevice() {
    PretendedDevice::set_limit(int64_t{1} << 40);
    PretendedDevice::rounded_to_tf32();
  }
  ~OnTheDevice() override {
    PretendedDevice::set_limit(int64_t{1} << 40);
    EXPECT_FALSE(PretendedDevice::rounded_to_tf32());
    EXPECT_EQ(PretendedDevice::held(), before_);
  }
  const int64_t before_ = PretendedDevice::held() == 0 ? 0 : PretendedDevice::held_at_rest();
};

at::Tensor matrix(const std::string& spectrum, int64_t n, at::ScalarType dtype) {
  if (at::isComplexType(dtype)) return test::hermitian_matrix(spectrum, n).matrix.to(dtype);
  return test::spectral_matrix(spectrum, n).matrix.to(dtype);
}

// How far two results may be apart: of the first eigenvalue.
double close(at::ScalarType dtype) {
  return c10::toRealValueType(dtype) == at::kFloat ? 1e-5 : 1e-10;
}

void expect_same(const EigenResult& there, const EigenResult& here, at::ScalarType dtype) {
  ASSERT_EQ(there.rank, here.rank);
  if (here.rank == 0) return;
  const double first = here.eigenvalues.abs().max().item<double>();
  EXPECT_LT((there.eigenvalues - here.eigenvalues).abs().max().item<double>(), close(dtype) * first);
  // In float32 it is rounding that says at which look a residual is small enough.
  if (c10::toRealValueType(dtype) == at::kDouble) {
    EXPECT_EQ(there.products, here.products);
  }
  EXPECT_EQ(there.certificates.certified(), here.certificates.certified());
  EXPECT_TRUE(at::equal(there.certificates.trust, here.certificates.trust));
  if (here.error) {
    EXPECT_NEAR(there.error->error(), here.error->error(), 100 * close(dtype) * first);
    EXPECT_NEAR(there.error->frobenius(), here.error->frobenius(), 100 * close(dtype) * first);
  }
  // Products of two columns of the basis, p^2 of them, are off by a tenth of eps in such short vectors.
  const double p = static_cast<double>(there.spectrum.numel());
  EXPECT_LE(there.orthogonality_loss, 3 * here.orthogonality_loss + (10 + 0.1 * p) * epsilon(dtype));
  const at::Tensor u = there.eigenvectors.all();
  EXPECT_TRUE(u.is_cpu());
  EXPECT_TRUE(there.eigenvectors.row_range(0, 1).is_cpu());
  EXPECT_LT(test::orthonormality_error(u), 10 * close(dtype));
}

class TallBlocks : public OnTheDevice, public ::testing::WithParamInterface<at::ScalarType> {};

TEST_P(TallBlocks, ProductsAreThoseOfTheCpu) {
  const at::ScalarType dtype = GetParam();
  for (const int64_t rows : {1, 40, 8192, 20'000}) {
    const at::Tensor x = random_gaussian(1, Stream::test, rows, 0, 5, dtype),
                     y = random_gaussian(2, Stream::test, rows, 0, 3, dtype),
                     m = random_gaussian(3, Stream::test, 5, 0, 3, wide(dtype));
    const at::Tensor x_there = x.to(PretendedDevice::device()), y_there = y.to(PretendedDevice::device());
    const double eps = epsilon(dtype), scale = std::sqrt(static_cast<double>(rows)) + 10;
    const auto expect_near = [&](const at::Tensor& there, const at::Tensor& here, double tolerance) {
      EXPECT_TRUE(there.is_cpu());
      EXPECT_EQ(there.scalar_type(), here.scalar_type());
      EXPECT_LT((there - here).abs().max().item<double>(), tolerance) << rows;
    };
    expect_near(transposed_product(x_there, y_there), transposed_product(x, y), 1e-15 * rows + 1e-13);
    expect_near(transposed_product(x_there, y), transposed_product(x, y), 1e-15 * rows + 1e-13);
    expect_near(transposed_product(x_there, x_there), transposed_product(x, x), 1e-15 * rows + 1e-13);
    expect_near(projections(x_there, y_there), projections(x, y), 40 * eps * scale * scale);
    const MemoryTallMatrix here(x), there(x_there);
    expect_near(gram_of_product(there, m), gram_of_product(here, m), 1e-14 * rows + 1e-12);
    EXPECT_EQ(times_small(x_there, m).device(), PretendedDevice::device());
    expect_near(times_small(x_there, m).cpu(), times_small(x, m), 40 * eps);
    subtract_product(y_there, x_there, m);
    subtract_product(y, x, m);
    expect_near(y_there.cpu(), y, 100 * eps);
    expect_near(times_small_in_place(x_there, m).cpu(), times_small_in_place(x, m), 40 * eps);
    if (rows < 5) continue;
    const at::Tensor q = y.clone(), q_there = y_there.clone(), r = qr_in_place(q_there);
    EXPECT_TRUE(r.is_cpu());
    EXPECT_LT(relative_difference(at::matmul(q_there.cpu().to(wide(dtype)), r), y.to(wide(dtype))), 10 * eps);
    EXPECT_LT(test::orthonormality_error(q_there.cpu()), 20 * eps);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, TallBlocks,
                         ::testing::Values(at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble));

// Rows on the host, brought to the device by panels: the same products, whether memory can be page-locked or
// not.
TEST_P(TallBlocks, ProductsOfWhatIsBroughtThere) {
  const at::ScalarType dtype = GetParam();
  const int64_t element = static_cast<int64_t>(c10::elementSize(dtype));
  for (const int64_t page_locked : {int64_t{1} << 40, int64_t{0}}) {
    PretendedDevice::set_page_locked(page_locked);
    for (const int64_t rows : {1, 40, 3000}) {
      const at::Tensor x = random_gaussian(1, Stream::test, rows, 0, 5, dtype),
                       y = random_gaussian(2, Stream::test, rows, 0, 3, dtype),
                       m = random_gaussian(3, Stream::test, 5, 0, 3, wide(dtype));
      // Of sums of so many products of normal numbers, in another order.
      const double rounding = 2e-16 * std::pow(static_cast<double>(rows), 1.5) + 1e-13;
      // Panels of one row to all rows, also from files' point of view: not from a block's beginning.
      for (const int64_t piece : {element * 5, element * 5 * 7, element * 5 * rows}) {
        if (rows == 3000 && piece == element * 5) continue;
        const auto here = std::make_shared<MemoryTallMatrix>(x);
        const auto transfers = std::make_shared<Transfers>(PretendedDevice::device(), piece, Context());
        const StreamedMatrix there(here, transfers);
        EXPECT_EQ(there.device(), PretendedDevice::device());
        const double eps = epsilon(dtype);
        EXPECT_LT((gram(there) - gram(*here)).abs().max().item<double>(), rounding);
        EXPECT_LT((gram_of_product(there, m) - gram_of_product(*here, m)).abs().max().item<double>(),
                  10 * rounding);
        EXPECT_LT((transposed_product(there, y) - transposed_product(*here, y)).abs().max().item<double>(),
                  rounding);
        EXPECT_LT((times_small(there, m).cpu() - times_small(*here, m)).abs().max().item<double>(), 40 * eps);
        // What is still held is not written over.
        const int64_t n = std::min(there.panel_rows(), rows);
        std::vector<at::Tensor> panels;
        for (int64_t begin = 0; begin + n <= rows; begin += n) panels.push_back(there.row_range(begin, n));
        for (size_t i = 0; i < panels.size(); ++i)
          EXPECT_TRUE(at::equal(panels[i].cpu(),
                                x.slice(0, static_cast<int64_t>(i) * n, static_cast<int64_t>(i + 1) * n)));
        EXPECT_TRUE(at::equal(there.row_range(0, rows).cpu(), x));
        const at::Tensor index = at::randint(rows, {7}, at::kLong);
        EXPECT_TRUE(at::equal(there.select_rows(index).cpu(), x.index_select(0, index)));
        // Blocks that are not contiguous, to and fro.
        const at::Tensor wide_there = empty_block(rows + 2, 6, dtype, PretendedDevice::device()),
                         back = empty_block(rows + 1, 5, dtype);
        transfers->copy(wide_there.slice(0, 1, rows + 1).slice(1, 1), x);
        transfers->copy(back.slice(0, 1), wide_there.slice(0, 1, rows + 1).slice(1, 1));
        EXPECT_TRUE(at::equal(back.slice(0, 1), x));
      }
      // One below the other.
      const int64_t half = rows / 2;
      const auto transfers =
          std::make_shared<Transfers>(PretendedDevice::device(), 8 * 16 * element, Context());
      const StackedMatrix stacked(
          {std::make_shared<MemoryTallMatrix>(as_block(x.slice(0, 0, half)).to(PretendedDevice::device())),
           std::make_shared<StreamedMatrix>(std::make_shared<MemoryTallMatrix>(x.slice(0, half)),
                                            transfers)});
      EXPECT_EQ(stacked.rows(), rows);
      EXPECT_LT((gram(stacked) - gram(MemoryTallMatrix(x))).abs().max().item<double>(), rounding);
      EXPECT_TRUE(at::equal(stacked.row_range(0, rows).cpu(), x));
      if (rows > 1) {
        EXPECT_TRUE(at::equal(stacked.row_range(half - 1, 2).cpu(), x.slice(0, half - 1, half + 1)));
      }
      const at::Tensor index = at::randint(rows, {7}, at::kLong);
      EXPECT_TRUE(at::equal(stacked.select_rows(index).cpu(), x.index_select(0, index)));
    }
  }
  PretendedDevice::set_page_locked(int64_t{1} << 40);
}

TEST_F(OnTheDevice, PageLockedMemoryCounts) {
  const Context context;
  const int64_t before = context.memory().held();
  {
    Transfers transfers(PretendedDevice::device(), int64_t{1} << 20, context);
    EXPECT_EQ(context.memory().held(), before);
    transfers.bring(at::zeros({100, 3}).t().contiguous().t());
    EXPECT_GE(context.memory().held() - before, int64_t{1} << 20);
  }
  EXPECT_EQ(context.memory().held(), before);
}

class KrylovThere : public OnTheDevice, public ::testing::WithParamInterface<at::ScalarType> {};

TEST_P(KrylovThere, IsKrylovHere) {
  const at::ScalarType dtype = GetParam();
  const int64_t element = static_cast<int64_t>(c10::elementSize(dtype));
  for (const std::string spectrum : {"exponential", "indefinite", "clustered", "low_rank_10"}) {
    const at::Tensor a = matrix(spectrum, 300, dtype);
    for (const Selection selection : {Selection::magnitude, Selection::both}) {
      const SolverOptions options{.k = 8, .products = 120, .selection = selection, .block = 6};
      MatrixOperator here(a);
      MatrixThere there(a);
      const EigenResult expected = krylov(here, options);
      const int64_t before = PretendedDevice::held();
      const EigenResult result = krylov(there, options);
      EXPECT_EQ(PretendedDevice::held(), before);
      // Every product's vectors are there, and in the end the basis with all of them.
      EXPECT_EQ(there.from_host, 0);
      EXPECT_GE(there.most_held - before, 126 * 300 * element);
      expect_same(result, expected, dtype);
    }
  }
}

TEST_P(KrylovThere, Restarts) {
  const at::ScalarType dtype = GetParam();
  const at::Tensor a = matrix("polynomial", 300, dtype);
  const SolverOptions options{.k = 6, .products = 150, .block = 4, .basis = 40};
  MatrixOperator here(a);
  MatrixThere there(a);
  const EigenResult expected = krylov(here, options), result = krylov(there, options);
  EXPECT_EQ(there.from_host, 0);
  expect_same(result, expected, dtype);
  const at::Tensor u = result.eigenvectors.all();
  EXPECT_LT(relative_difference(at::matmul(a, u), u * result.eigenvalues.to(dtype)), 100 * close(dtype));
}

TEST_P(KrylovThere, ByToleranceAndByError) {
  const at::ScalarType dtype = GetParam();
  const at::Tensor a = matrix("exponential", 200, dtype);
  for (const SolverOptions& options :
       {SolverOptions{.k = 5, .tolerance = 1e-4}, SolverOptions{.k = 30, .error = 0.2},
        SolverOptions{.k = 5, .products = 60, .probes = 0, .checks = 0}}) {
    MatrixOperator here(a);
    MatrixThere there(a);
    expect_same(krylov(there, options), krylov(here, options), dtype);
    EXPECT_EQ(there.from_host, 0);
  }
}

TEST_P(KrylovThere, BeginsFromVectors) {
  const at::ScalarType dtype = GetParam();
  const at::Tensor a = matrix("exponential", 200, dtype);
  MatrixThere there(a);
  SolverOptions options{.k = 5, .products = 40};
  const EigenResult once = krylov(there, options);
  options.start = once.eigenvectors;
  MatrixOperator here(a);
  expect_same(krylov(there, options), krylov(here, options), dtype);
}

// So large that small matrices are decomposed there.
TEST_F(OnTheDevice, ManyEigenpairs) {
  const at::Tensor a = matrix("polynomial", 640, at::kFloat);
  for (const int64_t basis : {0, 560}) {
    const SolverOptions options{.k = 200, .products = 580, .block = 16, .basis = basis};
    MatrixOperator here(a);
    MatrixThere there(a);
    const EigenResult expected = krylov(here, options);
    expect_same(krylov(there, options), expected, at::kFloat);
    EXPECT_EQ(there.from_host, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, KrylovThere,
                         ::testing::Values(at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble));

class EverySolver : public OnTheDevice, public ::testing::WithParamInterface<Method> {};

TEST_P(EverySolver, FindsWhatItFindsOnTheCpu) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kComplexDouble}) {
    for (const std::string spectrum : {"exponential", "indefinite", "low_rank_10"}) {
      const at::Tensor a = matrix(spectrum, 150, dtype);
      for (const std::string test_matrix : {"ssrft", "sparse"}) {
        const SolverOptions options{
            .method = GetParam(), .k = 12, .products = 60, .test_matrix = test_matrix};
        MatrixOperator here(a);
        MatrixThere there(a);
        const int64_t before = PretendedDevice::held();
        const EigenResult expected = eigh(here, options), result = eigh(there, options);
        // Of ten eigenvalues in float32 it is rounding whether a sketch takes its noise for more.
        if (spectrum == "low_rank_10" && dtype == at::kFloat) {
          EXPECT_GE(std::min(result.rank, expected.rank), 10);
          EXPECT_LT((result.eigenvalues.slice(0, 0, 10) - expected.eigenvalues.slice(0, 0, 10))
                        .abs()
                        .max()
                        .item<double>(),
                    close(dtype));
        } else {
          expect_same(result, expected, dtype);
        }
        EXPECT_EQ(PretendedDevice::held(), before);
        // Where a product began with so much there, at least the measurements, or the matrix, were.
        EXPECT_EQ(there.from_host, 0);
        const int64_t columns = GetParam() == Method::dense ? 150 : GetParam() == Method::seigh ? 12 : 60;
        EXPECT_GE(there.most_held - before, columns * 150 * static_cast<int64_t>(c10::elementSize(dtype)));
      }
    }
  }
}

TEST_P(EverySolver, SmallCases) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    for (const int64_t n : {1, 2, 5}) {
      for (const int64_t k : {int64_t{1}, n}) {
        for (const double scale : {1.0, 0.0}) {
          if (GetParam() == Method::hmt && 2 * k > n) continue;  // half of its products are for the range
          const at::Tensor a = scale * matrix("polynomial", n, dtype);
          const SolverOptions options{.method = GetParam(), .k = k, .products = n};
          MatrixOperator here(a);
          MatrixThere there(a);
          const EigenResult expected = eigh(here, options), result = eigh(there, options);
          ASSERT_EQ(result.rank, expected.rank) << n << " " << k << " " << scale;
          if (result.rank == 0) continue;
          EXPECT_LT((result.eigenvalues - expected.eigenvalues).abs().max().item<double>(), close(dtype));
          EXPECT_TRUE(result.eigenvectors.all().is_cpu());
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, EverySolver,
                         ::testing::Values(Method::krylov, Method::seigh, Method::nystrom, Method::hmt,
                                           Method::dense),
                         [](const auto& of) { return to_string(of.param); });

// Where there is no room for anything tall.
TEST_P(EverySolver, DoesWithoutItsMemory) {
  const at::Tensor a = matrix("exponential", 150, at::kFloat);
  const SolverOptions options{.method = GetParam(), .k = 12, .products = 60};
  MatrixOperator here(a);
  MatrixThere there(a);
  PretendedDevice::set_limit(PretendedDevice::held() + 4 * 8 * 150 * 4);
  expect_same(eigh(there, options), eigh(here, options), at::kFloat);
  EXPECT_GE(there.from_host, 60);
}

// What is measured in a store is multiplied there; and a store can be gone on with anywhere.
TEST_F(OnTheDevice, StoresOfMeasurementsAreOfNoDevice) {
  const at::Tensor a = matrix("exponential", 150, at::kFloat);
  for (const std::string storage : {"full", "bfloat16"}) {
    const TempFolder folder;
    SolverOptions options{.k = 12, .products = 60, .storage = storage, .state = folder.path() / "here"};
    MatrixOperator here(a);
    const EigenResult expected = seigh::seigh(here, options);
    options.state = folder.path() / "there";
    MatrixThere there(a);
    // Rounding of products decides what they are rounded to.
    const auto expect_close = [&](const EigenResult& result) {
      if (storage == "full") return expect_same(result, expected, at::kFloat);
      EXPECT_LT((result.eigenvalues - expected.eigenvalues).abs().max().item<double>(), 1e-3);
    };
    expect_close(seigh::seigh(there, options));
    EXPECT_EQ(there.from_host, 0);
    const int64_t before = there.products();
    options.state = folder.path() / "here";
    expect_close(seigh::seigh(there, options));
    EXPECT_EQ(there.products() - before, 30) << "the probes";
  }
}

// What a plan says of memory.
TEST_F(OnTheDevice, PlansCountItApart) {
  const int64_t d = 1'000'000, vector = 4 * d, gib = int64_t{1} << 30;
  const SolverOptions options{.k = 1000, .products = 2000};
  const EighPlan here = plan_eigh(d, at::kFloat, options, 64 * gib),
                 there = plan_eigh(d, at::kFloat, options, 64 * gib, Ranks(), 64 * gib),
                 small = plan_eigh(d, at::kFloat, options, 64 * gib, Ranks(), 8 * gib),
                 alone = plan_eigh(d, at::kFloat, options, 47 * gib / 10, Ranks(), 64 * gib);
  EXPECT_EQ(here.on_device, 0);
  // A part of the basis, and the blocks.
  EXPECT_GT(small.on_device, 7 * gib);
  EXPECT_LE(small.on_device, 8 * gib);
  EXPECT_EQ(small.basis, here.basis);
  EXPECT_LT(small.memory, here.memory);
  EXPECT_NE(small.text().find(" of its basis on the host"), std::string::npos) << small.text();
  // Two blocks, and the pieces that the rest of the basis is brought through.
  const KrylovSizes sizes = krylov_sizes(options, d, at::kFloat);
  EXPECT_GE(sizes.beside_device, 2 * sizes.block * vector + (int64_t{1} << 28));
  EXPECT_GE(small.memory, sizes.beside_device + small.basis * vector - small.on_device);
  const EighPlan tiny = plan_eigh(d, at::kFloat, options, 64 * gib, Ranks(), gib / 4);
  EXPECT_EQ(tiny.on_device, 0);
  EXPECT_EQ(tiny.memory, here.memory);
  EXPECT_GE(there.on_device, there.basis * vector);
  EXPECT_EQ(there.basis, here.basis);
  EXPECT_LT(there.memory, here.memory - 900 * vector);
  EXPECT_GE(there.memory, 1000 * vector);
  EXPECT_NE(there.text().find(" of memory, "), std::string::npos) << there.text();
  EXPECT_NE(there.text().find(" on the device"), std::string::npos) << there.text();
  EXPECT_EQ(alone.method, Method::krylov);
  EXPECT_GT(alone.on_device, 0);
  EXPECT_EQ(plan_eigh(d, at::kFloat, options, 47 * gib / 10).method, Method::seigh);
}

class KrylovsMemory : public OnTheDevice {
 protected:
  static constexpr int64_t kSize = 1000, kVector = kSize * 4;
  const at::Tensor matrix_ = at::diag(1 / at::arange(1, kSize + 1, at::kFloat));
  const SolverOptions options_{.k = 5, .products = 60, .block = 4};
};

TEST_F(KrylovsMemory, WhatDoesNotFitIsOnTheHost) {
  MatrixOperator here(matrix_);
  const EigenResult expected = krylov(here, options_);
  const int64_t with_matrix = before_ + matrix_.nbytes();
  const KrylovSizes sizes = krylov_sizes(options_, kSize, at::kFloat);
  const int64_t basis = 64 * kVector, all = sizes.on_device + basis;
  // Of what there is a tenth is left free; a product takes a block of 8 and its own.
  const auto give = [&](int64_t bytes) {
    PretendedDevice::set_limit(with_matrix + (bytes + 12 * kVector) / 9 * 10);
  };
  struct Case {
    int64_t room, scratch;
    bool there;                 // the work
    int64_t at_least, at_most;  // of the basis, there
  };
  for (const Case& c :
       {Case{all + 2 * kVector, 0, true, basis, all},
        Case{sizes.on_device + basis * 9 / 10, 0, true, basis / 2, basis},
        Case{sizes.on_device + basis * 9 / 16, 0, true, basis / 16, basis / 2},
        Case{sizes.on_device + Transfers::on_device(piece_bytes(basis)) / 2, 0, false, 0, 0},
        // What a product takes is left to it.
        Case{all + 2 * kVector, all, false, 0, 0}, Case{2 * all + all / 2, all, true, basis, 2 * all}}) {
    MatrixThere there(matrix_, c.scratch);
    give(c.room);
    expect_same(krylov(there, options_), expected, at::kFloat);
    if (c.there) {
      EXPECT_LE(there.from_host, expected.products - 60) << "but for probes";
      EXPECT_GE(there.most_held - with_matrix, c.at_least);
      EXPECT_LE(there.most_held - with_matrix, c.at_most + sizes.working_memory + basis / 4);
    } else {
      EXPECT_GE(there.from_host, 60);
    }
    EXPECT_GE(there.least_left, 0);
    PretendedDevice::set_limit(int64_t{1} << 40);
  }
  // Or is not to be taken.
  MatrixThere there(matrix_);
  expect_same(krylov(there, options_, Context({.device_memory = with_matrix + 100 * kVector})), expected,
              at::kFloat);
  EXPECT_GE(there.from_host, 60);
}

// Any part of the basis on the device, restarts, states kept and taken up.
TEST_F(KrylovsMemory, RowsOfTheBasisOnEitherSide) {
  for (const int64_t basis : {0, 30}) {
    SolverOptions options = options_;
    options.basis = basis;
    options.probes = 4;
    MatrixOperator here(matrix_);
    const EigenResult expected = krylov(here, options);
    const KrylovSizes sizes = krylov_sizes(options, kSize, at::kFloat);
    for (const int64_t percent : {3, 20, 35}) {
      const TempFolder folder;
      for (int time = 0; time < 2; ++time) {
        MatrixThere there(matrix_);
        options.state = folder.path() / "state";
        options.save_seconds = 0;
        const int64_t ideal = sizes.ideal_basis * kVector;
        PretendedDevice::set_limit(before_ + matrix_.nbytes() +
                                   (sizes.on_device + Transfers::on_device(piece_bytes(ideal)) + 4 * kVector +
                                    ideal * percent / 100 + 14 * kVector) /
                                       9 * 10);
        const auto notes = std::make_shared<test::Notes>();
        const EigenResult result = krylov(there, options, Context({.progress = notes}));
        EXPECT_NE(notes->all.find("in the host's memory"), std::string::npos) << percent << " " << basis;
        PretendedDevice::set_limit(int64_t{1} << 40);
        expect_same(result, expected, at::kFloat);
        EXPECT_EQ(there.from_host, 0);
        const at::Tensor u = result.eigenvectors.all();
        EXPECT_TRUE(at::equal(result.eigenvectors.columns(2, 2), u.slice(1, 2, 4)));
        EXPECT_TRUE(at::equal(result.eigenvectors.compact().all(), u));
        EXPECT_TRUE(at::equal(result.eigenvectors.select(at::tensor({3, 1})).all(),
                              u.index_select(1, at::tensor({3, 1}))));
        EXPECT_TRUE(at::equal(result.eigenvectors.rows(at::tensor({999, 0, 500})),
                              u.index_select(0, at::tensor({999, 0, 500})).to(at::kDouble)));
        EXPECT_LT(relative_difference(at::matmul(matrix_, u), u * result.eigenvalues.to(at::kFloat)), 1e-3);
      }
    }
  }
}

// The largest basis that fits, and never more than there is on either side.
TEST(DeviceShare, KeepsBothCeilings) {
  int64_t split = 0;
  for (int64_t trial = 0; trial < 20'000; ++trial) {
    const at::Tensor u = random_uniform(7, Stream::test, 5, trial);
    const auto number = [&](int64_t i, double most) {
      return static_cast<int64_t>(u[i].item<double>() * most);
    };
    const int64_t ideal = 1 + number(0, 300), k = 1 + number(1, static_cast<double>(ideal)),
                  column = 16 * (1 + number(2, 1e6)),
                  room = number(3, 1.5 * static_cast<double>(ideal * column)) - ideal * column / 4,
                  host = number(4, 1.5 * static_cast<double>(ideal * column)) - ideal * column / 4;
    const int64_t block = 1 + trial % 8;
    const DeviceShare share = device_share(column, k, block, ideal, room, host);
    ASSERT_GE(share.columns, 0);
    ASSERT_LE(share.columns, ideal);
    const int64_t beside = Transfers::on_device(piece_bytes(ideal * column)) + block * column;
    // No longer one would have been there; of those that make room for k vectors.
    const int64_t longer = std::max(share.columns + 1, k);
    const int64_t part = std::min(room - beside, longer * column);
    if (longer <= ideal) {
      ASSERT_FALSE(longer * column <= room && k * column <= host);
      ASSERT_FALSE(part > 0 && longer * column - part + part / longer * k <= host);
    }
    if (share.columns == 0) continue;
    const int64_t all = share.columns * column;
    ASSERT_LE(share.bytes + (share.bytes < all ? beside : 0), room);
    if (share.columns >= k) {
      ASSERT_LE(all - share.bytes + share.bytes / share.columns * k, host);
    }
    if (share.bytes < all) ++split;
    if (k * column <= host && room >= ideal * column) {
      ASSERT_EQ(share.bytes, ideal * column);
    }
  }
  EXPECT_GT(split, 1000);
}

TEST_F(KrylovsMemory, RunningOutOfItIsOneLine) {
  MatrixThere there(matrix_);
  there.cut_at = 20;
  EXPECT_SEIGH_ERROR(krylov(there, options_), "pretended:0 has run out of memory");
  PretendedDevice::set_limit(int64_t{1} << 40);
  there.cut_at = 0;
  EXPECT_EQ(krylov(there, options_).rank, 5) << "as if nothing had been";
}

TEST_F(KrylovsMemory, LosesNothingThatWasKept) {
  const TempFolder folder;
  SolverOptions options = options_;
  options.probes = 4;
  options.checks = 0;
  options.state = folder.path() / "state";
  options.save_seconds = 0;
  {
    MatrixThere there(matrix_);
    there.cut_at = 20;
    EXPECT_THROW(krylov(there, options), MemoryError);
  }
  PretendedDevice::set_limit(int64_t{1} << 40);
  MatrixThere there(matrix_);
  const EigenResult result = krylov(there, options);
  options.state.clear();
  MatrixOperator here(matrix_);
  const EigenResult expected = krylov(here, options);
  expect_same(result, expected, at::kFloat);
  EXPECT_EQ(there.products(), expected.products - 20);
}

// Begun on the CPU and gone on with there, and the other way round; and with a basis on disk.
TEST_F(KrylovsMemory, StatesAreOfNoDevice) {
  for (const int64_t basis : {0, 30}) {
    SolverOptions options = options_;
    options.probes = 4;
    options.checks = 0;
    options.basis = basis;
    MatrixOperator whole(matrix_);
    const EigenResult expected = krylov(whole, options);
    for (const bool first_there : {false, true}) {
      for (const bool on_disk : {false, true}) {
        const TempFolder folder;
        options.state = folder.path() / "state";
        options.save_seconds = 0;
        MatrixOperator here(matrix_);
        MatrixThere there(matrix_);
        LinearOperator& first = first_there ? static_cast<LinearOperator&>(there) : here;
        LinearOperator& second = first_there ? static_cast<LinearOperator&>(here) : there;
        options.products = 32;
        krylov(first, options);
        options.products = 60;
        options.on_disk = on_disk && first_there;
        const int64_t before = second.products();
        const EigenResult result = krylov(second, options);
        options.on_disk = false;
        EXPECT_EQ(second.products() - before, expected.products - 32);
        ASSERT_EQ(result.rank, expected.rank);
        EXPECT_LT((result.eigenvalues - expected.eigenvalues).abs().max().item<double>(), 1e-5);
        EXPECT_EQ(there.from_host, 0);
      }
    }
  }
}

}  // namespace
}  // namespace seigh
