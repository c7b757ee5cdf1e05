#include "seigh/overlap/nulls.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/random.h"
#include "seigh/overlap/anatomy.h"
#include "seigh/overlap/bands.h"
#include "seigh/overlap/chance.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/masks.h"
#include "seigh/overlap/swaps.h"
#include "tests/support/expect_error.h"
#include "tests/support/haar.h"

namespace seigh {
namespace {

using test::haar_basis;
constexpr double kEps = std::numeric_limits<double>::epsilon();

const UnitLayout kMatrix{3, 2, 1}, kEmbedding{2, 3, 1, false}, kVector{1, 1, 3, true, false};

double at_index(const at::Tensor& t, int64_t i) {
  return t[i].item<double>();
}

at::Tensor leverage(const at::Tensor& u, int64_t k) {
  return u.narrow(1, 0, k).square().sum(1).contiguous();
}

at::Tensor order_of(std::vector<int64_t> order) {
  return at::tensor(order, at::kLong);
}

// The first k of an order as bits.
unsigned bits(const at::Tensor& order, int64_t k) {
  unsigned mask = 0;
  for (int64_t i = 0; i < k; ++i) mask |= 1u << order[i].item<int64_t>();
  return mask;
}

// What a null keeps of a mask, for tiny tensors: how many parameters of every group, by name.
using Counts = std::map<std::string, int>;
using Keeps = std::function<Counts(unsigned mask)>;

Keeps keeps(const std::vector<UnitLayout>& layouts, bool rows, bool columns) {
  return [=](unsigned mask) {
    Counts counts;
    const TensorPlaces places(layouts);
    for (int64_t i = 0; i < places.count(); ++i) {
      if ((mask >> i & 1u) == 0) continue;
      const Place p = places.place(i);
      const std::string tensor = std::to_string(p.tensor);
      ++counts[tensor];
      if (rows) ++counts[tensor + " row " + std::to_string(p.row)];
      if (columns) ++counts[tensor + " column " + std::to_string(p.column)];
    }
    return counts;
  };
}

struct Exact {
  double mean = 0, deviation = 0;
  int64_t masks = 0;
};

// Over all masks of D parameters that keep what `mask` has.
Exact enumerate(const at::Tensor& l, unsigned mask, const Keeps& kept) {
  Exact exact;
  double squares = 0;
  const int k = std::popcount(mask);
  for (unsigned other = 0; other < 1u << l.numel(); ++other) {
    if (std::popcount(other) != k || kept(other) != kept(mask)) continue;
    double overlap = 0;
    for (int64_t i = 0; i < l.numel(); ++i) overlap += (other >> i & 1u) != 0 ? at_index(l, i) / k : 0;
    ++exact.masks;
    exact.mean += overlap;
    squares += overlap * overlap;
  }
  const double n = static_cast<double>(exact.masks);
  exact.mean /= n;
  exact.deviation = std::sqrt(std::max(0.0, squares / n - exact.mean * exact.mean));
  return exact;
}

void expect_exact(const NullCurve& null, const at::Tensor& u, const at::Tensor& order, const Keeps& kept) {
  for (int64_t k = 1; k <= u.size(1); ++k) {
    const Exact exact = enumerate(leverage(u, k), bits(order, k), kept);
    // Sums of at most 12 leverages below 1; the deviation's error is the root of its square's.
    EXPECT_NEAR(at_index(null.mean, k - 1), exact.mean, 100 * kEps) << k;
    EXPECT_NEAR(at_index(null.deviation, k - 1), exact.deviation, std::sqrt(100 * kEps)) << k;
    if (exact.deviation > 1e-6) {
      EXPECT_NEAR(at_index(null.deviation, k - 1) / exact.deviation, 1, 1e-9) << k;
    }
    EXPECT_EQ(at_index(null.free, k - 1) > 0, exact.masks > 1) << k;
  }
}

TEST(OverlapNulls, WithClosedFormsAreThoseOfAllMasks) {
  const std::vector<UnitLayout> layouts{kMatrix, kVector, kEmbedding};
  const at::Tensor u = haar_basis(80, 15, 6), order = order_of({4, 7, 1, 11, 5, 6});
  const OverlapNulls nulls = overlap_nulls(DenseEigenspace(u), order, layouts);
  expect_exact(nulls.uniform, u, order, [](unsigned) { return Counts(); });
  expect_exact(nulls.layer, u, order, keeps(layouts, false, false));
  // Outputs are rows of the first matrix and columns of the other.
  expect_exact(nulls.output_unit, u, order, [&](unsigned mask) {
    Counts first = keeps(layouts, true, false)(mask & 0x3f),
           rest = keeps(layouts, false, true)(mask & ~0x3fu);
    rest.merge(first);
    return rest;
  });
  expect_exact(nulls.input_unit, u, order, [&](unsigned mask) {
    Counts first = keeps(layouts, false, true)(mask & 0x3f),
           rest = keeps(layouts, true, false)(mask & ~0x3fu);
    rest.merge(first);
    return rest;
  });
}

TEST(OverlapNulls, WithClosedFormsAreWhatRandomMasksHave) {
  const int64_t d = 400, k = 40;
  const at::Tensor u = haar_basis(81, d, k);
  at::Tensor theta = random_gaussian(82, Stream::test, d, 0, 1, at::kDouble).reshape({d});
  theta.narrow(0, 0, 100).mul_(3);
  const std::vector<UnitLayout> layouts{{10, 10, 1}, {10, 10, 3}};
  const DenseEigenspace space(u);
  const at::Tensor mask = magnitude_order(theta, k);
  const OverlapNulls nulls = overlap_nulls(space, mask, layouts, {.piece_bytes = 8 * k * 130});
  // 5 standard errors: failure probability 4 * 40 * 5.7e-7 = 1e-4 over seeds (normal approximation); the seed
  // is fixed. The deviation of a deviation is about sqrt((kurtosis - 1) / (4 n)), under 4 % for kurtosis
  // below 13: 5 of them.
  for (const auto& [grouping, null] :
       {std::pair(Grouping::uniform, nulls.uniform), std::pair(Grouping::layer, nulls.layer),
        std::pair(Grouping::output_unit, nulls.output_unit),
        std::pair(Grouping::input_unit, nulls.input_unit)}) {
    std::vector<at::Tensor> orders;
    for (int draw = 0; draw < 2000; ++draw)
      orders.push_back(random_order_within(grouping, mask, layouts, 3, draw));
    const at::Tensor curves = curves_of(space, orders, 1 << 26, Context());
    const at::Tensor mean = curves.mean(0), deviation = curves.std(0);
    for (int64_t i = 0; i < k; ++i) {
      const double own = at_index(null.deviation, i);
      EXPECT_NEAR(at_index(mean, i), at_index(null.mean, i), 5 * own / std::sqrt(2000))
          << grouping_name(grouping);
      EXPECT_NEAR(at_index(deviation, i) / own, 1, 0.2) << grouping_name(grouping) << i;
    }
  }
  for (int64_t i = 0; i < k; ++i) {
    EXPECT_NEAR(at_index(nulls.uniform.deviation, i),
                std::sqrt(random_mask_variance(leverage(u, i + 1), i + 1)), 1e-12);
    EXPECT_NEAR(at_index(nulls.uniform.mean, i), chance_overlap(i + 1, d), 1e-12);
  }
}

// A chain's masks against the list of all: chi-square of how often each is visited, far enough apart to be
// independent.
void expect_uniform(const std::vector<UnitLayout>& layouts, const std::vector<int64_t>& mask, uint64_t seed,
                    int64_t states) {
  const TensorPlaces parameters(layouts);
  std::vector<Place> places;
  for (const int64_t index : mask) places.push_back(parameters.place(index));
  const MetCells cells(layouts, places);
  for (Place& place : places) ASSERT_TRUE(cells.localize(place));
  // Numbered by cells, so that what the mask does not meet is left out.
  std::map<std::vector<int64_t>, int> visits;
  Swaps swaps(cells, places, seed, 0);
  const int64_t samples = 60 * states;
  for (int64_t i = 0; i < samples; ++i) {
    swaps.step(200);
    std::vector<int64_t> numbers;
    for (const Place& place : swaps.mask()) numbers.push_back(cells.number(place));
    std::sort(numbers.begin(), numbers.end());
    ++visits[numbers];
  }
  EXPECT_EQ(static_cast<int64_t>(visits.size()), states);  // missing one: states e^-60
  double chi_square = 0;
  for (const auto& [state, count] : visits) chi_square += (count - 60.0) * (count - 60.0) / 60.0;
  const double freedom = static_cast<double>(states - 1);
  // Failure probability below 1e-4 for these degrees of freedom, over seeds; the seed is fixed.
  EXPECT_LT(chi_square, freedom + 5 * std::sqrt(2 * freedom) + 5);
  EXPECT_GT(chi_square, freedom - 5 * std::sqrt(2 * freedom));
}

int64_t masks_like(const std::vector<UnitLayout>& layouts, const std::vector<int64_t>& mask) {
  const at::Tensor zeros = at::zeros({TensorPlaces(layouts).count()}, at::kDouble);
  const at::Tensor order = order_of(mask);
  return enumerate(zeros, bits(order, order.numel()), keeps(layouts, true, true)).masks;
}

TEST(Swaps, VisitAllMasksOfTheSameCountsEquallyOften) {
  const std::vector<UnitLayout> square{{4, 4, 1}}, taps{{2, 3, 2}}, several{{3, 3, 1}, kVector, {2, 2, 1}};
  const std::vector<int64_t> diagonal{0, 5, 10, 15, 1, 4};
  EXPECT_EQ(masks_like({{3, 3, 1}}, {0, 4, 8}), 6);  // permutation matrices
  expect_uniform({{3, 3, 1}}, {0, 4, 8}, 1, 6);
  expect_uniform(square, diagonal, 2, masks_like(square, diagonal));
  expect_uniform(taps, {0, 1, 6, 11}, 3, masks_like(taps, {0, 1, 6, 11}));
  expect_uniform(several, {0, 4, 9, 12, 15}, 4, masks_like(several, {0, 4, 9, 12, 15}));
  expect_uniform({kVector}, {1}, 5, 3);
  expect_uniform({kVector}, {0, 2}, 6, 3);
}

TEST(Swaps, StayWhereNothingCanMove) {
  const std::vector<UnitLayout> layouts{{3, 3, 1}};
  for (const std::vector<int64_t>& mask : {std::vector<int64_t>{4}, {0, 1, 2}, {0, 1, 3, 4}}) {
    std::vector<Place> places;
    for (const int64_t index : mask) places.push_back(TensorPlaces(layouts).place(index));
    const MetCells cells(layouts, places);
    for (Place& place : places) cells.localize(place);
    Swaps swaps(cells, places, 1, 0);
    EXPECT_EQ(swaps.step(1000), 0);
    EXPECT_FALSE(swaps.has_left(places[0]));
  }
}

TEST(OverlapNulls, TheSampledOneIsThatOfAllMasks) {
  const std::vector<UnitLayout> layouts{{3, 3, 1}, kVector, {2, 2, 1, false}};
  const at::Tensor u = haar_basis(83, 16, 6), order = order_of({0, 4, 9, 12, 15, 8});
  const NullOptions options{.sizes = {2, 5, 6}, .samples = 4000, .seed = 9};
  const OverlapNulls nulls = overlap_nulls(DenseEigenspace(u), order, layouts, options);
  const TwoWayNull& null = nulls.two_way;
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t k = options.sizes[i];
    const Exact exact = enumerate(leverage(u, k), bits(order, k), keeps(layouts, true, true));
    ASSERT_GT(exact.masks, 1);
    // 5 standard errors of the mean, which are those of independent samples but for the chain's memory.
    EXPECT_NEAR(at_index(null.mean, i), exact.mean,
                5 * exact.deviation / std::sqrt(at_index(null.effective, i)));
    EXPECT_NEAR(at_index(null.deviation, i) / exact.deviation, 1, 0.1);
    EXPECT_GT(at_index(null.effective, i), 2000);
    EXPECT_EQ(at_index(null.samples, i), 4000);
    EXPECT_GT(at_index(null.acceptance, i), 0);
    double own = 0;
    for (int64_t p = 0; p < k; ++p) own += at_index(leverage(u, k), order[p].item<int64_t>());
    EXPECT_NEAR(at_index(null.overlap, i), own / static_cast<double>(k), 100 * kEps);
  }
}

// Orthonormal vectors whose leverages go as the weights within every column's own rows: j, j + k, j + 2 k,
// ...
at::Tensor with_leverage(const at::Tensor& weights, int64_t k) {
  const int64_t d = weights.numel();
  at::Tensor u = at::zeros({d, k}, at::kDouble);
  for (int64_t j = 0; j < k; ++j) {
    at::Tensor column = u.select(1, j);
    double total = 0;
    for (int64_t i = j; i < d; i += k) total += at_index(weights, i);
    for (int64_t i = j; i < d; i += k) column[i] = std::sqrt(at_index(weights, i) / total);
  }
  return u;
}

// Magnitudes and leverages of one matrix, both large in the same rows and columns and otherwise independent;
// the mask's parameters then have `effect` times as much weight. The noise of the logarithms of magnitudes is
// logistic: the odds of being in the mask are a product of row and column, and only then are all masks with
// its counts equally likely.
OverlapFactors planted(uint64_t seed, double effect) {
  const int64_t n = 97, k = 120;  // no common factor: a column of U meets all rows and columns
  const auto unit = [&](int64_t stream) {
    return random_gaussian(seed, Stream::test, n, stream, 1, at::kDouble).mul(0.7).exp();
  };
  const at::Tensor units = (unit(0) * unit(1).t()).reshape({n * n});
  const at::Tensor odds = random_uniform(seed, Stream::test, n * n, 2);
  const at::Tensor order = magnitude_order(units * odds / (1 - odds), k);
  const at::Tensor noise = random_gaussian(seed, Stream::test, n * n, 3, 1, at::kDouble);
  at::Tensor weights = units * noise.reshape({n * n}).square();
  for (int64_t p = 0; p < k; ++p) weights[order[p].item<int64_t>()] *= effect;
  const OverlapNulls nulls = overlap_nulls(DenseEigenspace(with_leverage(weights, k)), order, {{n, n, 1}},
                                           {.sizes = {k}, .samples = 400, .seed = seed});
  return overlap_factors(nulls, 0);
}

TEST(OverlapNulls, TellParametersFromUnits) {
  double z = 0, ratio = 0;
  constexpr int kSeeds = 12;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const OverlapFactors units = planted(seed, 1), both = planted(seed, 3);
    EXPECT_GT(units.units, 1.5) << seed;
    EXPECT_LT(std::abs(units.z), 4) << seed;
    EXPECT_GT(both.z, 3) << seed;
    EXPECT_EQ(both.free, 120) << seed;
    EXPECT_NEAR(both.chance * both.layer * both.units * both.parameter, both.overlap, 1e-12) << seed;
    EXPECT_NEAR(both.layer, 1, 1e-9) << seed;
    z += units.z / std::sqrt(kSeeds);
    ratio += std::log(both.parameter / units.parameter) / kSeeds;
  }
  EXPECT_LT(std::abs(z), 4);  // failure probability 6e-5 over seeds (normal approximation), which are fixed
  // Three times as much weight, less what the null's masks and the vectors' norms have of it.
  EXPECT_GT(std::exp(ratio), 2);
  EXPECT_LT(std::exp(ratio), 3);
}

TEST(OverlapNulls, OfOneParameterTensorHaveALayerFactorOfOne) {
  const OverlapNulls nulls =
      overlap_nulls(DenseEigenspace(haar_basis(84, 12, 3)), order_of({5, 2, 7}), {{3, 4, 1}});
  EXPECT_TRUE(at::equal(nulls.layer.mean, nulls.uniform.mean));
  EXPECT_TRUE(at::equal(nulls.layer.deviation, nulls.uniform.deviation));
}

TEST(OverlapNulls, OfAMaskInOneRowLeaveNothingToParameters) {
  const at::Tensor u = haar_basis(85, 12, 4), order = order_of({4, 5, 6, 7});
  const OverlapNulls nulls = overlap_nulls(DenseEigenspace(u), order, {{3, 4, 1}});
  const OverlapFactors f = overlap_factors(nulls, nulls.two_way.sizes.numel() - 1);
  EXPECT_NEAR(f.parameter, 1, 100 * kEps);
  EXPECT_TRUE(std::isnan(f.z));
  EXPECT_EQ(f.p, 1);
  EXPECT_EQ(f.free, 0);
  EXPECT_EQ(at_index(nulls.output_unit.free, 3), 0);  // the whole row
  EXPECT_EQ(at_index(nulls.output_unit.deviation, 3), 0);
  EXPECT_EQ(at_index(nulls.input_unit.free, 3), 1);
}

TEST(OverlapNulls, OfTheSmallestSpaces) {
  const at::Tensor two = haar_basis(86, 2, 1);
  const OverlapNulls one = overlap_nulls(DenseEigenspace(two), order_of({1}), {{1, 1, 2, true, false}});
  EXPECT_EQ(one.two_way.sizes.numel(), 1);
  EXPECT_NEAR(at_index(one.uniform.mean, 0), 0.5, kEps);
  const double spread = std::abs(at_index(leverage(two, 1), 0) - 0.5);
  EXPECT_NEAR(at_index(one.uniform.deviation, 0), spread, 10 * kEps);
  EXPECT_EQ(at_index(one.two_way.free, 0), 1);
  // A whole space: all leverages are 1, and no null has a spread.
  const OverlapNulls whole =
      overlap_nulls(DenseEigenspace(haar_basis(87, 2, 2)), order_of({1, 0}), {{2, 1, 1}});
  EXPECT_NEAR(at_index(whole.uniform.mean, 1), 1, 10 * kEps);
  EXPECT_EQ(at_index(whole.uniform.deviation, 1), 0);
  EXPECT_TRUE(std::isnan(overlap_factors(whole, 1).z));
}

TEST(OverlapNulls, AreTheSameForAnyThreadsPassesAndStrides) {
  const int64_t d = 2100, k = 30;
  const at::Tensor u = haar_basis(88, d, k), order = random_order(d, k, 3, 0);
  const std::vector<UnitLayout> layouts{{20, 30, 2}, {1, 1, 100, true, false}, {40, 20, 1, false}};
  const auto flat = [&](const at::Tensor& vectors, int threads, const NullOptions& options) {
    const OverlapNulls n =
        overlap_nulls(DenseEigenspace(vectors), order, layouts, options, Context({.threads = threads}));
    std::vector<at::Tensor> all;
    for (const NullCurve* curve : {&n.uniform, &n.layer, &n.output_unit, &n.input_unit})
      all.insert(all.end(), {curve->mean, curve->deviation, curve->free});
    all.insert(all.end(), {n.two_way.overlap, n.two_way.mean, n.two_way.deviation, n.two_way.effective});
    return all;
  };
  const std::vector<at::Tensor> one = flat(u, 1, {});
  for (const auto& other :
       {flat(u, 2, {}), flat(u, 3, {.piece_bytes = 16 * k * 77}), flat(u, 2, {.memory = 40'000}),
        flat(u, 1, {.memory = 1}), flat(u.t().contiguous().t(), 2, {.piece_bytes = 1})}) {
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], other[i])) << i;
  }
}

TEST(OverlapNulls, HaveSizesByTheLogarithm) {
  EXPECT_EQ(null_sizes(1), std::vector<int64_t>({1}));
  EXPECT_EQ(null_sizes(3), std::vector<int64_t>({1, 2, 3}));
  EXPECT_EQ(null_sizes(1000), std::vector<int64_t>({1, 2, 5, 10, 22, 46, 100, 215, 464, 1000}));
}

// A mask of m parameters against spaces of k: with m = k it is what nested masks have, and otherwise what random
// masks with the same counts have.
TEST(FixedMaskNulls, AreThoseOfNestedMasksAndOfRandomOnes) {
  const int64_t d = 200, k = 12;
  const at::Tensor u = haar_basis(91, d, k);
  const std::vector<UnitLayout> layouts{{8, 5, 1}, {10, 12, 1}, {1, 1, 40, true, false}};
  const DenseEigenspace space(u);
  at::Tensor theta = random_gaussian(92, Stream::test, d, 0, 1, at::kDouble).reshape({d}).clone();
  theta.narrow(0, 0, 40).mul_(2);
  const at::Tensor all = leverages(space, {3, k});
  EXPECT_TRUE(at::allclose(all[1], leverage(u, k), 1e-13, 1e-15));
  const at::Tensor nested = magnitude_order(theta, k);
  const OverlapNulls one = overlap_nulls(space, nested, layouts, {.sizes = {k}, .samples = 2000}),
                     two = fixed_mask_nulls(all, {3, k}, nested, layouts, {.samples = 2000});
  for (const auto& [a, b] : {std::pair(one.uniform, two.uniform), std::pair(one.layer, two.layer),
                             std::pair(one.output_unit, two.output_unit),
                             std::pair(one.input_unit, two.input_unit)}) {
    EXPECT_NEAR(at_index(a.mean, k - 1), at_index(b.mean, 1), 1e-14);
    EXPECT_NEAR(at_index(a.deviation, k - 1), at_index(b.deviation, 1), 1e-14);
    EXPECT_NEAR(at_index(a.free, k - 1), at_index(b.free, 1), 1e-14);
  }
  EXPECT_NEAR(at_index(one.two_way.overlap, 0), at_index(two.two_way.overlap, 1), 1e-14);
  // Two samples of the same null, each with its effective size: five standard errors.
  const double error = std::hypot(at_index(one.two_way.deviation, 0) / std::sqrt(at_index(one.two_way.effective, 0)),
                                  at_index(two.two_way.deviation, 1) / std::sqrt(at_index(two.two_way.effective, 1)));
  EXPECT_NEAR(at_index(one.two_way.mean, 0), at_index(two.two_way.mean, 1), 5 * error);

  const at::Tensor ticket = magnitude_order(theta, 60);
  const OverlapNulls wide = fixed_mask_nulls(all, {3, k}, ticket, layouts);
  for (int64_t s = 0; s < 2; ++s) {
    const at::Tensor l = all[s];
    EXPECT_NEAR(at_index(wide.two_way.overlap, s), l.index_select(0, ticket).mean().item<double>(), 1e-14);
    for (const auto& [grouping, null] :
         {std::pair(Grouping::uniform, wide.uniform), std::pair(Grouping::layer, wide.layer),
          std::pair(Grouping::output_unit, wide.output_unit), std::pair(Grouping::input_unit, wide.input_unit)}) {
      double sum = 0, squares = 0;
      constexpr int kDraws = 1000;
      for (int draw = 0; draw < kDraws; ++draw) {
        const at::Tensor other = random_order_within(grouping, ticket, layouts, 4, draw);
        const double overlap = l.index_select(0, other).mean().item<double>();
        sum += overlap;
        squares += overlap * overlap;
      }
      const double mean = sum / kDraws, deviation = std::sqrt(squares / kDraws - mean * mean);
      EXPECT_NEAR(mean, at_index(null.mean, s), 5 * at_index(null.deviation, s) / std::sqrt(kDraws));
      EXPECT_NEAR(deviation / at_index(null.deviation, s), 1, 0.2) << grouping_name(grouping);
    }
    const OverlapFactors f = overlap_factors(wide, s, 60);
    EXPECT_NEAR(f.chance * f.layer * f.units * f.parameter, f.overlap, 1e-14);
    EXPECT_LE(f.free, 60);
  }
  EXPECT_SEIGH_ERROR(fixed_mask_nulls(all, {k}, ticket, layouts), "2, 200");
}

TEST(OverlapNulls, RejectBadInput) {
  const DenseEigenspace space(haar_basis(89, 6, 2));
  EXPECT_SEIGH_ERROR(overlap_nulls(space, order_of({0, 1}), {{2, 2, 1}}), "hold 4 parameters", "6 entries");
  EXPECT_SEIGH_ERROR(overlap_nulls(space, order_of({0, 1, 2}), {{2, 3, 1}}), "an order of 3");
  EXPECT_SEIGH_ERROR(overlap_nulls(space, order_of({0, 6}), {{2, 3, 1}}), "no parameter 6 of 6");
  EXPECT_SEIGH_ERROR(overlap_nulls(space, order_of({1, 1}), {{2, 3, 1}}), "names parameter 1 twice");
  EXPECT_SEIGH_ERROR(overlap_nulls(space, order_of({0, 1}), {{2, 3, 1}}, {.sizes = {2, 2}}), "2 follows 2");
  EXPECT_SEIGH_ERROR(overlap_nulls(space, order_of({0, 1}), {{2, 3, 1}}, {.sizes = {3}}), "3 is first");
  EXPECT_SEIGH_ERROR(overlap_nulls(space, order_of({0, 1}), {{2, 3, 1}}, {.samples = 1}), "samples is 1");
  at::Tensor nan = haar_basis(89, 6, 2);
  nan[3][1] = std::nan("");
  EXPECT_SEIGH_ERROR(overlap_nulls(DenseEigenspace(nan), order_of({0, 1}), {{2, 3, 1}}), "NaN");
}

}  // namespace
}  // namespace seigh
