#include "seigh/overlap/masks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/core/random.h"

namespace seigh {
namespace {

using Indices = std::vector<int64_t>;

Indices list(const at::Tensor& t) {
  EXPECT_EQ(t.scalar_type(), at::kLong);
  return Indices(t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel());
}

at::Tensor order_of(const Indices& indices) {
  return at::tensor(at::ArrayRef<int64_t>(indices), at::kLong);
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Pearson's statistic of observed counts against a uniform distribution over `cells` outcomes.
template <typename Key>
double chi_square(const std::map<Key, int>& counts, int cells, int n) {
  const double expected = static_cast<double>(n) / cells;
  double statistic = expected * (cells - static_cast<int>(counts.size()));  // outcomes never seen
  for (const auto& [key, count] : counts) statistic += (count - expected) * (count - expected) / expected;
  return statistic;
}

TEST(MagnitudeOrder, IsByFallingMagnitudeAndThenByIndex) {
  const at::Tensor parameters = at::tensor({0.5, -2.0, 0.0, 2.0, -0.5, 3.0, 0.5});
  EXPECT_EQ(list(magnitude_order(parameters, 7)), (Indices{5, 1, 3, 0, 4, 6, 2}));
  EXPECT_EQ(list(magnitude_order(parameters, 2)), (Indices{5, 1}));  // the cut goes through a tie
  EXPECT_EQ(list(magnitude_order(parameters, 5)), (Indices{5, 1, 3, 0, 4}));
  EXPECT_EQ(list(magnitude_order(parameters.to(at::kFloat), 4)), (Indices{5, 1, 3, 0}));
  EXPECT_TRUE(list(magnitude_order(parameters, 0)).empty());
}

TEST(MagnitudeOrder, OfManyTiesIsThatOfAStableSort) {
  const int64_t d = 5000;
  const at::Tensor parameters =
      random_gaussian(1, Stream::test, d, 0, 1, at::kDouble).reshape({d}).mul(4).round();
  const double* theta = parameters.data_ptr<double>();
  Indices expected(d);
  std::iota(expected.begin(), expected.end(), 0);
  std::stable_sort(expected.begin(), expected.end(),
                   [&](int64_t a, int64_t b) { return std::abs(theta[a]) > std::abs(theta[b]); });
  for (const int64_t count : {1, 37, 1000, 5000}) {
    EXPECT_EQ(list(magnitude_order(parameters, count)), Indices(expected.begin(), expected.begin() + count))
        << count;
  }
}

TEST(MagnitudeOrder, ReadsStridedParameters) {
  const at::Tensor wide = at::tensor({1.0, 9.0, 2.0, 9.0, 3.0, 9.0}).reshape({3, 2});
  EXPECT_EQ(list(magnitude_order(wide.select(1, 0), 3)), (Indices{2, 1, 0}));
}

TEST(MagnitudeOrder, RejectsBadInput) {
  const at::Tensor nan = at::tensor({1.0, std::nan(""), 2.0});
  EXPECT_EQ(error_of([&] { magnitude_order(nan, 1); }), "parameter 1 is nan; magnitudes cannot be ordered");
  const at::Tensor infinite = at::tensor({1.0, 2.0, -std::numeric_limits<double>::infinity()});
  EXPECT_NE(error_of([&] { magnitude_order(infinite, 1); }).find("parameter 2 is -inf"), std::string::npos);
  EXPECT_EQ(error_of([] { magnitude_order(at::tensor({1.0, 2.0}), 3); }), "cannot take 3 of 2 parameters");
  EXPECT_NE(error_of([] { magnitude_order(at::tensor({1.0}), -1); }).find("cannot take -1"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              magnitude_order(at::zeros({2, 2}), 1);
            }).find("one float vector"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              magnitude_order(order_of({1, 2}), 1);
            }).find("one float vector"),
            std::string::npos);
}

TEST(RandomOrder, HoldsDistinctIndices) {
  const Indices all = list(random_order(200, 200, 3, 0));
  EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 200u);
  EXPECT_EQ(*std::min_element(all.begin(), all.end()), 0);
  EXPECT_EQ(*std::max_element(all.begin(), all.end()), 199);
}

TEST(RandomOrder, OfASmallerCountIsTheSameCutShort) {
  const Indices all = list(random_order(1000, 300, 3, 2));
  EXPECT_EQ(list(random_order(1000, 40, 3, 2)), Indices(all.begin(), all.begin() + 40));
}

TEST(RandomOrder, DependsOnSeedAndDraw) {
  const Indices order = list(random_order(1000, 20, 3, 2));
  EXPECT_EQ(order, list(random_order(1000, 20, 3, 2)));
  EXPECT_NE(order, list(random_order(1000, 20, 3, 1)));
  EXPECT_NE(order, list(random_order(1000, 20, 4, 2)));
}

TEST(RandomOrder, ReachesFarIntoALargeSpace) {
  const Indices order = list(random_order(int64_t{1} << 40, 1000, 3, 0));
  // P(no index in the upper half) = 2^-1000.
  EXPECT_GT(*std::max_element(order.begin(), order.end()), int64_t{1} << 39);
}

TEST(RandomOrder, IsUniformOverOrderedTriples) {
  const int n = 24000;
  std::map<Indices, int> counts;
  for (int draw = 0; draw < n; ++draw) ++counts[list(random_order(4, 3, 17, draw))];
  // 4 * 3 * 2 = 24 outcomes, 23 degrees of freedom: P(chi^2 > 73) = 4e-7 over seeds; the seed is fixed.
  EXPECT_LT(chi_square(counts, 24, n), 73.0);
}

TEST(RandomOrder, RejectsBadInput) {
  EXPECT_EQ(error_of([] { random_order(4, 5, 0, 0); }), "cannot take 5 of 4 parameters");
  EXPECT_EQ(error_of([] { random_order(4, 2, 0, -1); }),
            "the number of a random mask is -1; it must be in [0, 2^32)");
}

// Layers of so many parameters each, without units.
std::vector<UnitLayout> layers_of(const Indices& sizes) {
  std::vector<UnitLayout> layouts;
  for (const int64_t size : sizes) layouts.push_back({1, 1, size, true, /*defined=*/false});
  return layouts;
}

TEST(RandomOrderWithinLayers, KeepsTheCountPerLayerForEveryK) {
  const Indices sizes{4, 0, 10, 6};
  const std::vector<int> layer_of{0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3};
  const Indices order = list(random_order(20, 20, 9, 0));
  const Indices drawn = list(random_order_within(Grouping::layer, order_of(order), layers_of(sizes), 1, 0));
  ASSERT_EQ(drawn.size(), order.size());
  for (size_t p = 0; p < order.size(); ++p) EXPECT_EQ(layer_of.at(drawn[p]), layer_of[order[p]]) << p;
  EXPECT_EQ(std::set<int64_t>(drawn.begin(), drawn.end()).size(), 20u);
  EXPECT_NE(drawn, order);
}

TEST(RandomOrderWithinLayers, IsUniformWithinLayers) {
  // Layers {0, 1, 2} and {3, 4}; positions draw from the first, the second, the first: 3 * 2 * 2 = 12
  // outcomes.
  const int n = 12000;
  std::map<Indices, int> counts;
  for (int draw = 0; draw < n; ++draw)
    ++counts[list(random_order_within(Grouping::layer, order_of({1, 4, 0}), layers_of({3, 2}), 17, draw))];
  EXPECT_EQ(counts.size(), 12u);
  // 11 degrees of freedom: P(chi^2 > 50) = 6e-7 over seeds; the seed is fixed.
  EXPECT_LT(chi_square(counts, 12, n), 50.0);
}

TEST(RandomOrderWithinLayers, DependsOnSeedAndDrawAndCutsShort) {
  const at::Tensor order = random_order(1000, 100, 9, 0);
  const Indices sizes{300, 700};
  const Indices drawn = list(random_order_within(Grouping::layer, order, layers_of(sizes), 1, 0));
  EXPECT_EQ(drawn, list(random_order_within(Grouping::layer, order, layers_of(sizes), 1, 0)));
  EXPECT_NE(drawn, list(random_order_within(Grouping::layer, order, layers_of(sizes), 1, 1)));
  EXPECT_NE(drawn, list(random_order_within(Grouping::layer, order, layers_of(sizes), 2, 0)));
  EXPECT_EQ(list(random_order_within(Grouping::layer, order.narrow(0, 0, 30), layers_of(sizes), 1, 0)),
            Indices(drawn.begin(), drawn.begin() + 30));
}

TEST(RandomOrderWithinLayers, RejectsBadInput) {
  const auto drawn = [](const at::Tensor& order, const Indices& sizes) {
    return error_of([&] { random_order_within(Grouping::layer, order, layers_of(sizes), 0, 0); });
  };
  EXPECT_EQ(drawn(order_of({0, 5}), {3, 2}), "parameter 5 is in no tensor: the tensors hold 5 parameters");
  EXPECT_NE(drawn(order_of({-1}), {3, 2}).find("parameter -1 is in no tensor"), std::string::npos);
  EXPECT_EQ(drawn(order_of({3, 4, 3}), {3, 2}),
            "the order names more parameters of layer 0 of tensor 1 than its 2");
  EXPECT_NE(drawn(at::tensor({0.5}), {3}).find("int64 vector"), std::string::npos);
  std::vector<UnitLayout> layouts = layers_of({3, 2});
  layouts[1].eligible = false;
  EXPECT_EQ(error_of([&] {
              random_order_within(Grouping::layer, order_of({0, 4}), layouts, 0, 0);
            }),
            "the order names parameter 4, which masks may not hold");
}

// Every draw keeps the counts by group of every beginning of the order, and every set of parameters that does
// comes equally often.
TEST(RandomOrderWithin, KeepsCountsAndIsUniform) {
  // A 2 x 3 matrix of 2 taps (12 entries), an embedding of 3 x 2, a bias of 3, of which no mask may hold one.
  const std::vector<UnitLayout> layouts = {{2, 3, 2},
                                           {3, 2, 1, /*rows_are_outputs=*/false},
                                           {1, 1, 3, true, /*defined=*/false},
                                           {1, 1, 2, true, false, /*eligible=*/false}};
  const auto group = [](Grouping grouping, int64_t i) -> std::pair<int, int64_t> {
    if (grouping == Grouping::uniform) return {0, 0};
    if (i < 12) {
      if (grouping == Grouping::layer) return {0, 0};
      return {0, grouping == Grouping::output_unit ? i / 6 : i / 2 % 3};
    }
    if (i < 18) {
      if (grouping == Grouping::layer) return {1, 0};
      return {1, grouping == Grouping::output_unit ? (i - 12) % 2 : (i - 12) / 2};
    }
    return {2, 0};
  };
  const at::Tensor order = order_of({3, 13, 4, 19, 17});
  for (const Grouping grouping :
       {Grouping::uniform, Grouping::layer, Grouping::output_unit, Grouping::input_unit}) {
    std::map<Indices, int> first_three;
    const int n = 20000;
    for (int draw = 0; draw < n; ++draw) {
      const Indices drawn = list(random_order_within(grouping, order, layouts, 5, draw));
      ASSERT_EQ(std::set<int64_t>(drawn.begin(), drawn.end()).size(), 5u);
      for (size_t p = 0; p < drawn.size(); ++p) {
        ASSERT_LT(drawn[p], 21);
        ASSERT_EQ(group(grouping, drawn[p]), group(grouping, list(order)[p])) << grouping_name(grouping);
      }
      Indices three(drawn.begin(), drawn.begin() + 3);
      if (grouping != Grouping::uniform) ++first_three[three];
    }
    if (grouping == Grouping::uniform) continue;
    // Parameters 3 and 4 share their layer; neither row nor, with 3 = (0, 1, 1) and 4 = (0, 2, 0), column.
    const size_t states = grouping == Grouping::layer         ? 12 * 6 * 11
                          : grouping == Grouping::output_unit ? 6 * 3 * 5
                                                              : 4 * 2 * 4;
    ASSERT_EQ(first_three.size(), states) << grouping_name(grouping);
    const double degrees = static_cast<double>(states - 1);
    // Mean + 6 deviations of a chi-square: below 1e-7 over seeds; the seed is fixed.
    EXPECT_LT(chi_square(first_three, static_cast<int>(states), n), degrees + 6 * std::sqrt(2 * degrees))
        << grouping_name(grouping);
  }
}

TEST(MagnitudeOrder, LeavesOutWhatMasksMayNotHold) {
  const at::Tensor theta = at::tensor({3.0, -5.0, 1.0, 4.0, -4.0}, at::kDouble);
  EXPECT_EQ(list(magnitude_order(theta, 3, {1, 0, 1, 1, 1})), (Indices{3, 4, 0}));
  EXPECT_EQ(list(magnitude_order(theta, 0, {0, 0, 0, 0, 0})), Indices{});
  EXPECT_EQ(error_of([&] { magnitude_order(theta, 5, {1, 0, 1, 1, 1}); }), "cannot take 5 of 4 parameters");
  EXPECT_EQ(tied_at(theta, order_of({1, 3})), 2);
  EXPECT_EQ(tied_at(theta, order_of({1})), 1);
  EXPECT_EQ(tied_at(theta, order_of({0, 3}), {1, 0, 1, 1, 0}), 1);
}

}  // namespace
}  // namespace seigh
