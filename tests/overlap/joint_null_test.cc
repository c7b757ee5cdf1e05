#include "seigh/overlap/joint_null.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "seigh/core/random.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

// Layers 3-4-2: a weight of 4 x 3, its bias, a weight of 2 x 4, its bias. The hidden units are one group.
const std::vector<UnitGroup> kHidden{{4, {{0, 1, 3}, {12, 1, 1}, {16, 2, 1}}}};
constexpr int64_t kSize = 26;

at::Tensor leverage_of(int64_t n, uint64_t seed = 1) {
  return random_uniform(seed, Stream::test, n * kSize).reshape({n, kSize}).contiguous();
}

// A mask's overlap after every permutation of four units, computed on tensors of the layers' shapes.
std::vector<double> all_overlaps(const at::Tensor& leverage, const at::Tensor& mask) {
  const at::Tensor held = at::zeros({kSize}, at::kDouble).index_fill_(0, mask, 1);
  std::vector<int64_t> order{0, 1, 2, 3};
  std::vector<double> all;
  do {
    const at::Tensor p = at::tensor(order, at::kLong);
    const at::Tensor moved =
        at::cat({held.slice(0, 0, 12).view({4, 3}).index_select(0, p).flatten(),
                 held.slice(0, 12, 16).index_select(0, p),
                 held.slice(0, 16, 24).view({2, 4}).index_select(1, p).flatten(), held.slice(0, 24, 26)});
    all.push_back((moved * leverage).sum().item<double>() / static_cast<double>(mask.numel()));
  } while (std::next_permutation(order.begin(), order.end()));
  return all;
}

TEST(JointNull, AgreesWithAllPermutations) {
  const at::Tensor leverage = leverage_of(1), order = at::tensor({0, 5, 13, 17, 20, 25, 2}, at::kLong);
  constexpr int64_t kSamples = 20'000;
  for (const int64_t k : {1, 3, 7}) {
    SCOPED_TRACE(k);
    const std::vector<double> all = all_overlaps(leverage[0], order.slice(0, 0, k));
    const double n = static_cast<double>(all.size());
    const double mean = std::accumulate(all.begin(), all.end(), 0.0) / n;
    double variance = 0, at_least = 0, at_most = 0;
    const double own = leverage[0].index_select(0, order.slice(0, 0, k)).mean().item<double>();
    for (const double value : all) {
      variance += (value - mean) * (value - mean) / n;
      at_least += value >= own - 1e-12 ? 1 / n : 0;
      at_most += value <= own + 1e-12 ? 1 / n : 0;
    }
    const JointNull null = joint_null(leverage, {k}, order, kHidden, kSamples, 3);
    // Five standard errors: of the mean, of a deviation (at most twice that of normal numbers), of a share.
    const double root = std::sqrt(static_cast<double>(kSamples));
    EXPECT_NEAR(null.mean.item<double>(), mean, 5 * std::sqrt(variance) / root);
    EXPECT_NEAR(null.deviation.item<double>(), std::sqrt(variance), 10 * std::sqrt(variance) / root);
    EXPECT_NEAR(null.p.item<double>(), std::min(1.0, 2 * std::min(at_least, at_most)), 2 * 5 * .5 / root);
    // Parameter 25 is a bias of the outputs.
    EXPECT_DOUBLE_EQ(null.free.item<double>(), k == 7 ? 6. / 7 : 1);
  }
}

TEST(JointNull, VisitsAllPermutationsEquallyOften) {
  constexpr int64_t kSamples = 24'000;
  const at::Tensor moved = permuted_masks(kHidden, at::tensor({0, 3, 6, 9}, at::kLong), kSize, kSamples, 7);
  std::map<std::vector<int64_t>, int64_t> seen;
  for (int64_t s = 0; s < kSamples; ++s) {
    const int64_t* const row = moved.const_data_ptr<int64_t>() + 4 * s;
    ++seen[{row, row + 4}];
  }
  ASSERT_EQ(seen.size(), 24U);
  double chi_square = 0;  // 23 degrees of freedom: above 62 once in 100 000
  for (const auto& [places, count] : seen)
    chi_square += std::pow(static_cast<double>(count) - 1000, 2) / 1000;
  EXPECT_LT(chi_square, 62);
}

TEST(JointNull, OfSeveralGroupsMovesRowsAndColumns) {
  // One matrix of 4 x 6, whose rows and columns are units; heads of 3 x 2 within a second one.
  const std::vector<UnitGroup> groups{
      {4, {{0, 1, 6}}}, {6, {{0, 4, 1}}}, {3, {{24, 1, 8}}}, {2, {{24, 3, 4}}}};
  const at::Tensor all = at::arange(48, at::kLong);
  const at::Tensor moved = permuted_masks(groups, all, 48, 10, 5);
  for (int64_t s = 0; s < 10; ++s) {
    const at::Tensor row = moved[s];
    EXPECT_TRUE(std::get<0>(row.sort()).equal(all));
    const at::Tensor matrix = row.slice(0, 0, 24).view({4, 6});
    // The row of an entry does not depend on its column, nor the column on the row.
    const at::Tensor to_row = matrix.div(6, "floor"), to_column = matrix.remainder(6);
    EXPECT_TRUE(to_row.equal(to_row.slice(1, 0, 1).expand({4, 6})));
    EXPECT_TRUE(to_column.equal(to_column.slice(0, 0, 1).expand({4, 6})));
    // Within a head units keep the head together.
    const at::Tensor head = (row.slice(0, 24, 48) - 24).div(8, "floor").view({3, 8});
    EXPECT_TRUE(head.equal(head.slice(1, 0, 1).expand({3, 8})));
  }
  EXPECT_FALSE(moved[0].equal(moved[1]));
}

TEST(JointNull, FindsAPlantedUnit) {
  // Leverage and mask on unit 2: any other place is worse.
  at::Tensor leverage = at::full({1, kSize}, .01, at::kDouble);
  leverage.slice(1, 6, 9).fill_(.9);
  const JointNull null = joint_null(leverage, {3}, at::tensor({6, 7, 8}, at::kLong), kHidden, 400, 1);
  EXPECT_NEAR(null.mean.item<double>(), .25 * .9 + .75 * .01, .1);
  // A quarter of the permutations leave unit 2 where it is.
  EXPECT_NEAR(null.p.item<double>(), .5, .15);
}

TEST(JointNull, WithNothingToMoveSaysSo) {
  for (const std::vector<UnitGroup>& groups :
       {std::vector<UnitGroup>{}, std::vector<UnitGroup>{{1, {{0, 1, 3}}}}}) {
    const at::Tensor leverage = leverage_of(1);
    const JointNull null = joint_null(leverage, {1}, at::tensor({2}, at::kLong), groups, 20, 1);
    EXPECT_NEAR(null.mean.item<double>(), leverage[0][2].item<double>(), 1e-15);
    EXPECT_EQ(null.deviation.item<double>(), 0);
    EXPECT_EQ(null.p.item<double>(), 1);
    EXPECT_EQ(null.free.item<double>(), 0);
  }
}

TEST(JointNull, IsTheSameForAnyThreadsAndSizes) {
  const at::Tensor leverage = leverage_of(3), order = at::tensor({0, 5, 13, 17}, at::kLong);
  const JointNull all = joint_null(leverage, {1, 2, 4}, order, kHidden, 50, 9, Context({.threads = 2}));
  const std::vector<int64_t> sizes{1, 2, 4};
  for (int64_t i = 0; i < 3; ++i) {
    const JointNull one = joint_null(leverage.narrow(0, i, 1), {sizes[static_cast<size_t>(i)]}, order,
                                     kHidden, 50, 9, Context({.threads = 1}));
    EXPECT_EQ(one.mean.item<double>(), all.mean[i].item<double>());
    EXPECT_EQ(one.deviation.item<double>(), all.deviation[i].item<double>());
    EXPECT_EQ(one.p.item<double>(), all.p[i].item<double>());
  }
}

TEST(JointNull, RejectsWhatDoesNotFit) {
  const at::Tensor mask = at::tensor({0}, at::kLong), leverage = leverage_of(1);
  EXPECT_SEIGH_ERROR(permuted_masks({{4, {{20, 1, 3}}}}, mask, kSize, 2, 1), "4 units", "of 26");
  // Rows of 4 x 3 and of 3 x 4: no such units.
  EXPECT_SEIGH_ERROR(permuted_masks({{4, {{0, 1, 3}}}, {3, {{0, 1, 4}}}}, mask, kSize, 2, 1), "not apart");
  EXPECT_SEIGH_ERROR(joint_null(leverage, {2}, mask, kHidden, 20, 1), "no mask of 2");
  EXPECT_SEIGH_ERROR(joint_null(leverage, {1}, mask, kHidden, 1, 1), "at least 2");
  EXPECT_SEIGH_ERROR(joint_null(leverage, {1, 1}, mask, kHidden, 20, 1), "2 spaces");
}

}  // namespace
}  // namespace seigh
