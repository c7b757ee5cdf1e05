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

TEST(RandomOrderByLayer, KeepsTheCountPerLayerForEveryK) {
  const Indices sizes{4, 0, 10, 6};
  const std::vector<int> layer_of{0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3};
  const Indices order = list(random_order(20, 20, 9, 0));
  const Indices drawn = list(random_order_by_layer(order_of(order), sizes, 1, 0));
  ASSERT_EQ(drawn.size(), order.size());
  for (size_t p = 0; p < order.size(); ++p) EXPECT_EQ(layer_of.at(drawn[p]), layer_of[order[p]]) << p;
  EXPECT_EQ(std::set<int64_t>(drawn.begin(), drawn.end()).size(), 20u);
  EXPECT_NE(drawn, order);
}

TEST(RandomOrderByLayer, IsUniformWithinLayers) {
  // Layers {0, 1, 2} and {3, 4}; positions draw from the first, the second, the first: 3 * 2 * 2 = 12
  // outcomes.
  const int n = 12000;
  std::map<Indices, int> counts;
  for (int draw = 0; draw < n; ++draw)
    ++counts[list(random_order_by_layer(order_of({1, 4, 0}), {3, 2}, 17, draw))];
  EXPECT_EQ(counts.size(), 12u);
  // 11 degrees of freedom: P(chi^2 > 50) = 6e-7 over seeds; the seed is fixed.
  EXPECT_LT(chi_square(counts, 12, n), 50.0);
}

TEST(RandomOrderByLayer, DependsOnSeedAndDrawAndCutsShort) {
  const at::Tensor order = random_order(1000, 100, 9, 0);
  const Indices sizes{300, 700};
  const Indices drawn = list(random_order_by_layer(order, sizes, 1, 0));
  EXPECT_EQ(drawn, list(random_order_by_layer(order, sizes, 1, 0)));
  EXPECT_NE(drawn, list(random_order_by_layer(order, sizes, 1, 1)));
  EXPECT_NE(drawn, list(random_order_by_layer(order, sizes, 2, 0)));
  EXPECT_EQ(list(random_order_by_layer(order.narrow(0, 0, 30), sizes, 1, 0)),
            Indices(drawn.begin(), drawn.begin() + 30));
}

TEST(RandomOrderByLayer, RejectsBadInput) {
  EXPECT_EQ(error_of([] {
              random_order_by_layer(order_of({0, 5}), {3, 2}, 0, 0);
            }),
            "parameter 5 is in no layer: the layers hold 5 parameters");
  EXPECT_NE(error_of([] {
              random_order_by_layer(order_of({-1}), {3, 2}, 0, 0);
            }).find("parameter -1 is in no layer"),
            std::string::npos);
  EXPECT_EQ(error_of([] {
              random_order_by_layer(order_of({3, 4, 3}), {3, 2}, 0, 0);
            }),
            "the order names more parameters of layer 1 than its 2");
  EXPECT_EQ(error_of([] {
              random_order_by_layer(order_of({0}), {3, -1}, 0, 0);
            }),
            "layer 1 has -1 parameters");
  EXPECT_NE(error_of([] { random_order_by_layer(at::tensor({0.5}), {3}, 0, 0); }).find("int64 vector"),
            std::string::npos);
}

}  // namespace
}  // namespace seigh
