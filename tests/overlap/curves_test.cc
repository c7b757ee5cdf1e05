#include "seigh/overlap/curves.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/eigen/seigh.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/overlap/bands.h"
#include "seigh/overlap/best_overlap.h"
#include "seigh/overlap/chance.h"
#include "seigh/overlap/masks.h"
#include "seigh/overlap/metrics.h"
#include "tests/support/haar.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

using test::haar_basis;
constexpr double kEps = std::numeric_limits<double>::epsilon();

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

double at_index(const at::Tensor& t, int64_t i) {
  return t[i].item<double>();
}

// Tensors without units.
std::vector<UnitLayout> layers_of(const std::vector<int64_t>& sizes) {
  std::vector<UnitLayout> layouts;
  for (const int64_t size : sizes) layouts.push_back({1, 1, size, true, /*defined=*/false});
  return layouts;
}

at::Tensor parameters(int64_t dimension, uint64_t seed = 50) {
  return random_gaussian(seed, Stream::test, dimension, 7, 1, at::kDouble).reshape({dimension});
}

// Runs a piece of work on a number of threads and restores what was in force.
template <typename Work>
auto on_threads(int n, Work work) {
  const int before = at::get_num_threads();
  at::set_num_threads(n);
  auto result = work();
  at::set_num_threads(before);
  return result;
}

// Largest overlap of any mask of k parameters with the first k columns of U, by trying all of them.
double best_of_all_masks(const at::Tensor& u, int64_t k) {
  const at::Tensor squares = u.narrow(1, 0, k).square().sum(1).contiguous();
  const double* leverage = squares.data_ptr<double>();
  double best = 0;
  for (unsigned mask = 0; mask < 1u << u.size(0); ++mask) {
    if (__builtin_popcount(mask) != k) continue;
    double sum = 0;
    for (int64_t i = 0; i < u.size(0); ++i) sum += (mask >> i & 1u) != 0 ? leverage[i] : 0.0;
    best = std::max(best, sum / static_cast<double>(k));
  }
  return best;
}

TEST(NestedOverlap, IsTheOverlapOfEveryNestedPair) {
  const int64_t d = 30, k = 9;
  const at::Tensor a = haar_basis(51, d, k), b = haar_basis(52, d, k);
  const at::Tensor curve = nested_overlap(at::matmul(a.t(), b));
  ASSERT_EQ(curve.sizes(), (at::IntArrayRef{k}));
  for (int64_t n = 1; n <= k; ++n) {
    // Sums of k^2 squares of inner products of length D, each of at most D eps.
    EXPECT_NEAR(at_index(curve, n - 1), overlap(a.narrow(1, 0, n), b.narrow(1, 0, n)), d * kEps) << n;
  }
}

TEST(NestedOverlap, IsTheSumOfSquaresOfEveryLeadingBlock) {
  const at::Tensor block = at::tensor({3.0, 1.0, 5.0, 2.0, 4.0, 6.0, 7.0, 8.0, 9.0}).reshape({3, 3});
  const at::Tensor curve = nested_overlap(block.to(at::kFloat));
  ASSERT_EQ(curve.scalar_type(), at::kDouble);
  EXPECT_DOUBLE_EQ(at_index(curve, 0), 9.0);
  EXPECT_DOUBLE_EQ(at_index(curve, 1), (9.0 + 1 + 4 + 16) / 2);
  EXPECT_DOUBLE_EQ(at_index(curve, 2), (9.0 + 1 + 25 + 4 + 16 + 36 + 49 + 64 + 81) / 3);
}

TEST(NestedOverlap, TreatsBlocksApart) {
  const at::Tensor blocks = random_gaussian(53, Stream::test, 16, 0, 5, at::kDouble).t().reshape({5, 4, 4});
  const at::Tensor curves = nested_overlap(blocks);
  ASSERT_EQ(curves.sizes(), (at::IntArrayRef{5, 4}));
  for (int64_t i = 0; i < 5; ++i) EXPECT_TRUE(at::equal(curves[i], nested_overlap(blocks[i]))) << i;
}

TEST(NestedOverlap, RejectsBadInput) {
  EXPECT_EQ(error_of([] {
              nested_overlap(at::zeros({2, 3}));
            }),
            "nested overlaps need square blocks [..., K, K], got shape [2, 3]");
  EXPECT_NE(error_of([] {
              nested_overlap(at::zeros({2, 2}, at::kLong));
            }).find("float32 or float64"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              nested_overlap(at::zeros({2, 2}).log());
            }).find("NaN or infinity"),
            std::string::npos);
}

TEST(BestOverlap, IsTheBestOfAllMasks) {
  const int64_t d = 11, k = 6;
  const at::Tensor u = haar_basis(54, d, k);
  const at::Tensor best = best_overlap(DenseEigenspace(u));
  for (int64_t n = 1; n <= k; ++n) EXPECT_NEAR(at_index(best, n - 1), best_of_all_masks(u, n), d * kEps) << n;
}

TEST(BestOverlap, OfManyRowsIsThatOfAFullSort) {
  const int64_t d = 3000, k = 12;
  const at::Tensor u = haar_basis(55, d, k);
  const at::Tensor best = best_overlap(DenseEigenspace(u), 8 * k * 700);  // pieces of 700 rows
  for (int64_t n = 1; n <= k; ++n) {
    const at::Tensor leverage = std::get<0>(u.narrow(1, 0, n).square().sum(1).sort(-1, true));
    const double expected = leverage.narrow(0, 0, n).sum().item<double>() / static_cast<double>(n);
    EXPECT_NEAR(at_index(best, n - 1), expected, 2 * k * kEps) << n;  // two sums of n sums of n terms below 1
  }
}

TEST(BestOverlap, OfACanonicalSubspaceIsOneEvenWithMostLeveragesZero) {
  // Ties and zeros everywhere: leverages are 1 for k rows and 0 for the others.
  const at::Tensor u = at::eye(50, at::kDouble).narrow(1, 20, 5).contiguous();
  const at::Tensor best = best_overlap(DenseEigenspace(u));
  for (int64_t n = 0; n < 5; ++n) EXPECT_EQ(at_index(best, n), 1.0) << n;
}

TEST(BestOverlap, OfAWholeSpaceIsOne) {
  const at::Tensor best = best_overlap(DenseEigenspace(haar_basis(56, 8, 8)));
  EXPECT_NEAR(at_index(best, 7), 1.0, 8 * kEps);
}

TEST(BestOverlap, IsTheSameForAnyThreadsPiecesAndStrides) {
  const int64_t d = 4001, k = 20;
  const at::Tensor u = haar_basis(57, d, k);
  const at::Tensor one = on_threads(1, [&] { return best_overlap(DenseEigenspace(u)); });
  const at::Tensor two = on_threads(2, [&] { return best_overlap(DenseEigenspace(u)); });
  const at::Tensor three = on_threads(3, [&] { return best_overlap(DenseEigenspace(u), 8 * k * 333); });
  const at::Tensor rows_first = best_overlap(DenseEigenspace(u), 1);  // one row a piece
  const at::Tensor columns_first = best_overlap(DenseEigenspace(u.t().contiguous().t()));
  EXPECT_TRUE(at::equal(one, two));
  EXPECT_TRUE(at::equal(one, three));
  EXPECT_TRUE(at::equal(one, rows_first));
  EXPECT_TRUE(at::equal(one, columns_first));
}

TEST(BestOverlap, OfFloat32VectorsIsSummedInFloat64) {
  const at::Tensor u = haar_basis(58, 500, 10).to(at::kFloat);
  EXPECT_TRUE(at::equal(best_overlap(DenseEigenspace(u)), best_overlap(DenseEigenspace(u.to(at::kDouble)))));
}

TEST(BestOverlap, RejectsVectorsThatAreNotUnit) {
  at::Tensor u = haar_basis(59, 40, 3);
  u.select(1, 2).mul_(2.0);
  EXPECT_EQ(error_of([&] { best_overlap(DenseEigenspace(u)); }),
            "eigenvector 2 has norm 2, not 1: overlaps need orthonormal vectors");
  u[17][1] = std::nan("");
  EXPECT_NE(error_of([&] { best_overlap(DenseEigenspace(u)); }).find("eigenvector 1 has norm nan"),
            std::string::npos);
  EXPECT_NE(error_of([&] { best_overlap(DenseEigenspace(u), 0); }).find("piece_bytes"), std::string::npos);
}

TEST(BestOverlap, RejectsAnEigenspaceOfRowsThatDoNotFit) {
  class Short : public DenseEigenspace {
   public:
    using DenseEigenspace::DenseEigenspace;
    at::Tensor row_range(int64_t begin, int64_t) const override {
      return DenseEigenspace::row_range(begin, 1);
    }
  };
  EXPECT_EQ(error_of([] { best_overlap(Short(haar_basis(60, 6, 2))); }),
            "rows of the eigenspace have shape [1, 2], not [6, 2]");
}

TEST(BestOverlap, ReportsEveryRowAsProgress) {
  class Counter : public Progress {
   public:
    void begin(std::string_view, int64_t total, std::string_view unit) override {
      total_ = total, unit_ = unit;
    }
    void advance(int64_t count) override { done_ += count; }
    void end() override { ended_ = true; }
    int64_t total_ = 0, done_ = 0;
    std::string unit_;
    bool ended_ = false;
  };
  const auto counter = std::make_shared<Counter>();
  best_overlap(DenseEigenspace(haar_basis(61, 100, 2)), 8 * 2 * 30, Context({.progress = counter}));
  const Counter& progress = *counter;
  EXPECT_EQ(progress.total_, 100);
  EXPECT_EQ(progress.done_, 100);
  EXPECT_EQ(progress.unit_, "rows");
  EXPECT_TRUE(progress.ended_);
}

TEST(DenseEigenspace, RejectsWhatIsNotATallFloatMatrix) {
  EXPECT_NE(error_of([] {
              DenseEigenspace(at::zeros({2, 3}));
            }).find("1 <= K <= D, got shape [2, 3]"),
            std::string::npos);
  EXPECT_NE(error_of([] { DenseEigenspace(at::zeros({3})); }).find("got shape [3]"), std::string::npos);
  EXPECT_NE(error_of([] {
              DenseEigenspace(at::zeros({3, 2}, at::kLong));
            }).find("float32 or float64"),
            std::string::npos);
}

TEST(OverlapCurves, AreTheOverlapsOfTheirMasks) {
  const int64_t d = 60, k = 8;
  const at::Tensor u = haar_basis(62, d, k), theta = parameters(d);
  const std::vector<UnitLayout> layers{{5, 5, 1}, {7, 5, 1}};
  OverlapOptions options;
  options.random_masks = 5;
  options.seed = 77;
  options.piece_bytes = 8 * k * k * 3;  // rows of 3 masks at a time: a last group of 2 out of 11
  const OverlapCurves curves = overlap_curves(DenseEigenspace(u), theta, layers, options);

  ASSERT_TRUE(at::equal(curves.mask, magnitude_order(theta, k)));
  for (int64_t n = 1; n <= k; ++n) {
    // Overlap of a mask's first n parameters with the first n columns, one number at a time.
    const auto overlap_of = [&](const at::Tensor& order) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) sum += std::pow(u[order[i].item<int64_t>()][j].item<double>(), 2);
      }
      return sum / static_cast<double>(n);
    };
    // Sums of at most k^2 squares that add up to at most k.
    EXPECT_NEAR(at_index(curves.magnitude, n - 1), overlap_of(curves.mask), k * kEps) << n;
    EXPECT_DOUBLE_EQ(at_index(curves.chance, n - 1), chance_overlap(n, d));
  }
  EXPECT_TRUE(at::equal(curves.best, best_overlap(DenseEigenspace(u))));
}

TEST(OverlapCurves, NeverExceedTheBest) {
  const int64_t d = 40, k = 10;
  const at::Tensor u = haar_basis(63, d, k);
  const at::Tensor best = best_overlap(DenseEigenspace(u));
  for (int draw = 0; draw < 200; ++draw) {
    const at::Tensor curve = nested_overlap(u.index_select(0, random_order(d, k, 78, draw)));
    EXPECT_TRUE((curve <= best + k * kEps).all().item<bool>()) << draw;
  }
}

TEST(OverlapCurves, FindEigenvectorsThatSitOnTheLargestParameters) {
  // Eigenvector j is canonical at the j-th largest parameter: magnitude and best are 1, random masks near
  // chance.
  const int64_t d = 100, k = 5;
  const at::Tensor theta = parameters(d);
  const at::Tensor u = at::eye(d, at::kDouble).index_select(1, magnitude_order(theta, k));
  const OverlapCurves curves = overlap_curves(DenseEigenspace(u), theta, layers_of({d}));
  for (int64_t i = 0; i < k; ++i) {
    EXPECT_EQ(at_index(curves.magnitude, i), 1.0);
    EXPECT_EQ(at_index(curves.best, i), 1.0);
  }
}

// A random mask's curve leaves the band as often as it says, and p is uniform: about a band's mean and
// deviation nothing is assumed but what nulls_test.cc checks.
TEST(SimultaneousBand, HoldsAsManyRandomCurvesAsItSays) {
  const int64_t d = 300, k = 30;
  const at::Tensor u = haar_basis(64, d, k) * 1.0;
  const DenseEigenspace space(u);
  const std::vector<UnitLayout> layouts{{10, 10, 1}, {20, 10, 1}};
  const at::Tensor mask = magnitude_order(parameters(d), k);
  for (const Grouping grouping : {Grouping::layer, Grouping::output_unit, Grouping::input_unit}) {
    int outside = 0, small_p = 0;
    constexpr int kTrials = 300;
    for (int trial = 0; trial < kTrials; ++trial) {
      // Random with the same counts: the null is true.
      const at::Tensor order = random_order_within(grouping, mask, layouts, 500 + trial, 0);
      const OverlapNulls nulls =
          overlap_nulls(space, order, layouts, {.sizes = {k}, .samples = 2, .chains = 1});
      const NullCurve& curve = grouping == Grouping::layer         ? nulls.layer
                               : grouping == Grouping::output_unit ? nulls.output_unit
                                                                   : nulls.input_unit;
      const at::Tensor overlap = curves_of(space, {order}, 1 << 20, Context())[0];
      const SimultaneousBand band =
          simultaneous_band(space, grouping, order, overlap, curve, layouts, 99, 9000 + trial, 1 << 20);
      const at::Tensor out = overlap.lt(band.low).logical_or(overlap.gt(band.high));  // false at NaN
      outside += out.any().item<bool>() ? 1 : 0;
      small_p += band.p <= 0.1 ? 1 : 0;
      EXPECT_EQ(out.any().item<bool>(), band.p <= 0.05) << trial;
    }
    // Exactly 5 of 100 orders among which the mask's own is one, 10 of 100: 15 and 30 of 300; five deviations
    // of the binomial distribution are 19 and 26.
    EXPECT_LT(outside, 15 + 19) << grouping_name(grouping);
    EXPECT_GT(outside, 1) << grouping_name(grouping);
    EXPECT_LT(std::abs(small_p - 30), 26) << grouping_name(grouping);
  }
}

TEST(SimultaneousBand, FindsAPlantedEffectAndSaysNothingOfNothing) {
  const int64_t d = 400, k = 40;
  at::Tensor u = haar_basis(68, d, k);
  const at::Tensor leverage = u.square().sum(1);
  const std::vector<UnitLayout> layouts{{20, 20, 1}};
  const OverlapCurves best = overlap_curves(DenseEigenspace(u), leverage, layouts, {.random_masks = 99});
  EXPECT_EQ(best.bands.layer.p, 0.01);
  EXPECT_EQ(best.bands.output_unit.p, 0.01);
  // A mask that is all there is of its groups cannot be otherwise.
  const DenseEigenspace whole(haar_basis(69, 6, 6));
  const OverlapCurves all = overlap_curves(whole, parameters(6), {{1, 6, 1}}, {.random_masks = 9});
  EXPECT_TRUE(all.bands.layer.low.isnan().all().item<bool>());
  EXPECT_EQ(all.bands.layer.p, 1);
}

// Masks that may hold part of the parameters, against the same by hand.
TEST(OverlapCurves, OfPartOfTheParameters) {
  const int64_t d = 60, k = 8;
  const at::Tensor u = haar_basis(70, d, k), theta = parameters(d);
  std::vector<UnitLayout> layouts{{5, 4, 1}, {1, 1, 30, true, false, /*eligible=*/false}, {2, 5, 1}};
  const OverlapCurves curves = overlap_curves(DenseEigenspace(u), theta, layouts, {.random_masks = 5});
  EXPECT_EQ(curves.eligible, 30);
  at::Tensor magnitudes = theta.abs();
  magnitudes.slice(0, 20, 50).zero_();
  EXPECT_TRUE(at::equal(curves.mask, magnitudes.argsort(0, /*descending=*/true).slice(0, 0, k)));
  for (int64_t n = 1; n <= k; ++n) {
    at::Tensor leverage = u.slice(1, 0, n).square().sum(1);
    const double mine = leverage.index_select(0, curves.mask.slice(0, 0, n)).sum().item<double>();
    EXPECT_NEAR(at_index(curves.magnitude, n - 1), mine / static_cast<double>(n), k * kEps);
    leverage.slice(0, 20, 50).zero_();
    EXPECT_NEAR(at_index(curves.chance, n - 1), leverage.sum().item<double>() / 30, k * kEps);
    const double best = std::get<0>(leverage.topk(n)).sum().item<double>();
    EXPECT_NEAR(at_index(curves.best, n - 1), best / static_cast<double>(n), k * kEps);
  }
  // More vectors than parameters that a mask may hold.
  layouts = {{1, 1, 3, true, false}, {1, 1, 57, true, false, false}};
  EXPECT_EQ(overlap_curves(DenseEigenspace(u), theta, layouts, {.random_masks = 5}).magnitude.numel(), 3);
  layouts[0].eligible = false;
  EXPECT_EQ(error_of([&] { overlap_curves(DenseEigenspace(u), theta, layouts); }),
            "there are no parameters that a mask may hold");
}

TEST(OverlapCurves, AreTheSameBitForBitOnAnyThreads) {
  const int64_t d = 3000, k = 30;
  const at::Tensor u = haar_basis(66, d, k), theta = parameters(d);
  const auto run = [&] {
    return overlap_curves(DenseEigenspace(u), theta, {{100, 10, 1}, {20, 100, 1}}, {.random_masks = 20});
  };
  const OverlapCurves one = on_threads(1, run), two = on_threads(2, run);
  EXPECT_TRUE(at::equal(one.magnitude, two.magnitude));
  EXPECT_TRUE(at::equal(one.best, two.best));
  EXPECT_TRUE(at::equal(one.nulls.layer.deviation, two.nulls.layer.deviation));
  EXPECT_TRUE(at::equal(one.nulls.two_way.mean, two.nulls.two_way.mean));
  const at::Tensor high = one.bands.output_unit.high;
  EXPECT_TRUE(at::equal(high.masked_select(high.isfinite()),
                        two.bands.output_unit.high.masked_select(high.isfinite())));
  EXPECT_TRUE(at::equal(one.mask, two.mask));
}

TEST(OverlapCurves, RejectBadInput) {
  const DenseEigenspace space(haar_basis(67, 10, 3));
  const at::Tensor theta = parameters(10);
  EXPECT_EQ(error_of([&] { overlap_curves(space, parameters(9), layers_of({10})); }),
            "there are 9 parameters, but the eigenvectors have 10 entries");
  EXPECT_EQ(error_of([&] {
              overlap_curves(space, theta, layers_of({4, 5}));
            }),
            "the tensors hold 9 parameters, but there are 10");
  at::Tensor nan = theta.clone();
  nan[6] = std::nan("");
  EXPECT_EQ(error_of([&] { overlap_curves(space, nan, layers_of({10})); }),
            "parameter 6 is nan; magnitudes cannot be ordered");
  OverlapOptions options;
  options.random_masks = 1;
  EXPECT_EQ(error_of([&] { overlap_curves(space, theta, layers_of({10}), options); }),
            "overlap: random_masks is 1; a standard deviation needs at least 2, and none more than 1000000");
  options = {};
  options.piece_bytes = 0;
  EXPECT_NE(error_of([&] { options.validate(); }).find("piece_bytes"), std::string::npos);
}

// Against many sketches: how far their curves really are from the exact one, in the root mean square.
TEST(OverlapCurves, TheSpreadOfASketchIsOfTheSizeOfItsErrors) {
  const auto m = test::spectral_matrix("polynomial", 200);
  MatrixOperator op(m.matrix);
  const at::Tensor parameters = random_gaussian(5, Stream::test, 200, 0, 1, at::kDouble).squeeze(1);
  constexpr int64_t kLast = 36;  // of 40 vectors a tenth is left out
  const OverlapOptions options{.random_masks = 2};
  const at::Tensor exact =
      overlap_curves(DenseEigenspace(m.eigenvectors.slice(1, 0, 40)), parameters, layers_of({200}), options)
          .magnitude;
  at::Tensor errors = at::zeros({40}, at::kDouble), estimates = at::zeros({40}, at::kDouble);
  constexpr int kSketches = 40;
  for (uint64_t seed = 0; seed < kSketches; ++seed) {
    const EigenResult r = seigh(op, {.k = 40, .products = 80, .seed = seed, .probes = 0});
    const DenseEigenspace space(r.eigenvectors.all());
    OverlapCurves curves = overlap_curves(space, parameters, layers_of({200}), options);
    curves.spread_magnitude(space, r.replicates);
    EXPECT_TRUE(curves.magnitude_deviation.slice(0, 0, kLast).isfinite().all().item<bool>());
    EXPECT_TRUE(curves.magnitude_deviation.slice(0, kLast).isnan().all().item<bool>());
    errors += (curves.magnitude - exact).square();
    estimates += curves.magnitude_deviation.square();
  }
  const at::Tensor ratio = (estimates / errors).sqrt().slice(0, 4, kLast);
  EXPECT_GT(ratio.min().item<double>(), 0.4);
  EXPECT_LT(ratio.max().item<double>(), 4);
}

}  // namespace
}  // namespace seigh
