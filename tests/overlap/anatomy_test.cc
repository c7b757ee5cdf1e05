#include "seigh/overlap/anatomy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "seigh/core/random.h"
#include "seigh/overlap/scores.h"
#include "tests/support/expect_error.h"
#include "tests/support/haar.h"

namespace seigh {
namespace {

using test::haar_basis;

double value(const at::Tensor& t) {
  return t.item<double>();
}

at::Tensor normal(int64_t d, uint64_t seed) {
  return random_gaussian(seed, Stream::test, d, 0, 1, at::kDouble).squeeze(1).clone();
}

// A 4 x 5 matrix, an embedding of 3 x 2, a convolution of 2 x 3 with 4 taps, a bias of 6.
const std::vector<UnitLayout> kLayouts = {
    {4, 5, 1}, {3, 2, 1, /*rows_are_outputs=*/false}, {2, 3, 4}, {1, 1, 6, true, /*defined=*/false}};
constexpr int64_t kSize = 56;

// Which group a parameter is in, found from its index alone.
int64_t group(Grouping grouping, int64_t i) {
  if (i < 20) return grouping == Grouping::layer ? 0 : grouping == Grouping::output_unit ? i / 5 : 10 + i % 5;
  if (i < 26) {
    i -= 20;
    return 100 + (grouping == Grouping::layer ? 0 : grouping == Grouping::output_unit ? i % 2 : 10 + i / 2);
  }
  if (i < 50) {
    i -= 26;
    return 200 + (grouping == Grouping::layer         ? 0
                  : grouping == Grouping::output_unit ? i / 12
                                                      : 10 + i / 4 % 3);
  }
  return 300;
}

struct Case {
  at::Tensor u, scores;
  std::vector<UnitLayout> layouts = kLayouts;
  OverlapCurves curves;
  Anatomy found;
  explicit Case(int64_t k = 12, uint64_t seed = 1, bool part = false) {
    u = haar_basis(seed, kSize, k);
    scores = normal(kSize, seed + 1);
    if (part) layouts[1].eligible = layouts[3].eligible = false;
    const DenseEigenspace space(u);
    curves = overlap_curves(space, scores, layouts, {.random_masks = 3});
    found = anatomy(space, {{scores, &layouts, &curves}}, 8 * k * 17);  // 17 rows at a time
  }
};

TEST(Anatomy, OfTheSpaceIsItsDefinition) {
  const Case c;
  const at::Tensor squares = c.u.square();
  const int64_t ends[] = {0, 20, 26, 50, 56};
  for (int64_t t = 0; t < 4; ++t)
    EXPECT_TRUE(
        at::allclose(c.found.space.energy[t], squares.slice(0, ends[t], ends[t + 1]).sum(0), 1e-13, 1e-15));
  EXPECT_TRUE(at::allclose(c.found.space.participation, squares.square().sum(0), 1e-13, 1e-15));
}

TEST(Anatomy, OfAMaskIsItsDefinition) {
  for (const bool part : {false, true}) {
    const Case c(12, 3, part);
    const MaskAnatomy& a = c.found.masks[0];
    ASSERT_TRUE(at::equal(a.sizes, c.curves.nulls.two_way.sizes));
    at::Tensor magnitudes = c.scores.abs();
    if (part) {
      magnitudes.slice(0, 20, 26).fill_(-1);
      magnitudes.slice(0, 50, 56).fill_(-1);
    }
    const at::Tensor order = magnitudes.argsort(0, /*descending=*/true);
    for (int64_t s = 0; s < a.sizes.numel(); ++s) {
      const int64_t k = a.sizes[s].item<int64_t>();
      const at::Tensor leverage = c.u.slice(1, 0, k).square().sum(1), mask = order.slice(0, 0, k);
      for (int64_t t = 0; t < 4; ++t) {
        double within = 0;
        int64_t count = 0;
        for (int64_t p = 0; p < k; ++p) {
          const int64_t i = mask[p].item<int64_t>();
          if (group(Grouping::layer, i) != 100 * t) continue;
          ++count;
          within += value(leverage[i]);
        }
        EXPECT_EQ(a.counts[t][s].item<int64_t>(), count);
        EXPECT_NEAR(value(a.within[t][s]), within, 1e-13);
      }
      // Ceilings: the largest leverages, each group's as many as the mask has there.
      for (const auto& [grouping, ceiling, null] :
           {std::tuple(Grouping::layer, a.ceiling_layer, c.curves.nulls.layer.mean),
            std::tuple(Grouping::output_unit, a.ceiling_output_unit, c.curves.nulls.output_unit.mean),
            std::tuple(Grouping::input_unit, a.ceiling_input_unit, c.curves.nulls.input_unit.mean)}) {
        double best = 0;
        std::multiset<int64_t> groups;
        for (int64_t p = 0; p < k; ++p) groups.insert(group(grouping, mask[p].item<int64_t>()));
        for (const int64_t g : std::set<int64_t>(groups.begin(), groups.end())) {
          std::vector<double> values;
          for (int64_t i = 0; i < kSize; ++i)
            if (group(grouping, i) == g) values.push_back(value(leverage[i]));
          std::sort(values.begin(), values.end(), std::greater<>());
          for (size_t n = 0; n < groups.count(g); ++n) best += values[n] / static_cast<double>(k);
        }
        const double mean = value(null[k - 1]), overlap = value(c.curves.magnitude[k - 1]);
        if (best - mean < 1e-9)
          EXPECT_TRUE(std::isnan(value(ceiling[s])));
        else
          EXPECT_NEAR(value(ceiling[s]), (overlap - mean) / (best - mean), 1e-9);
      }
      for (int64_t m = 0; m < a.mask_sizes.numel(); ++m) {
        const int64_t size = a.mask_sizes[m].item<int64_t>();
        double own = 0, layer = 0;
        for (int64_t p = 0; p < size; ++p) {
          const int64_t i = order[p].item<int64_t>();
          own += value(leverage[i]);
          double sum = 0, count = 0;
          for (int64_t j = 0; j < kSize; ++j) {
            if (group(Grouping::layer, j) != group(Grouping::layer, i)) continue;
            sum += value(leverage[j]);
            count += 1;
          }
          layer += sum / count;
        }
        EXPECT_NEAR(value(a.by_size[m][s]), own / static_cast<double>(size), 1e-13);
        EXPECT_NEAR(value(a.by_size_layer[m][s]), layer / static_cast<double>(size), 1e-13);
      }
    }
    EXPECT_EQ(a.mask_sizes[-1].item<int64_t>(), part ? 22 : 28);
  }
}

// Pearson's correlation of ranks that have been centred in their groups, by torch's own operations.
TEST(Anatomy, CorrelatesRanksWithinGroups) {
  const Case c(12, 5);
  const at::Tensor leverage = c.u.square().sum(1), magnitudes = c.scores.abs();
  for (const auto& [grouping, found] : {std::pair(Grouping::layer, c.found.masks[0].layer),
                                        std::pair(Grouping::output_unit, c.found.masks[0].output_unit),
                                        std::pair(Grouping::input_unit, c.found.masks[0].input_unit)}) {
    std::vector<double> a, b;
    for (int64_t i = 0; i < kSize; ++i) {
      double below_a = 0, below_b = 0, count = 0;
      for (int64_t j = 0; j < kSize; ++j) {
        if (group(grouping, j) != group(grouping, i)) continue;
        below_a += value(magnitudes[j]) < value(magnitudes[i]) ? 1 : 0;
        below_b += value(leverage[j]) < value(leverage[i]) ? 1 : 0;
        count += 1;
      }
      a.push_back(below_a - (count - 1) / 2);
      b.push_back(below_b - (count - 1) / 2);
    }
    const at::Tensor x = at::tensor(a, at::kDouble), y = at::tensor(b, at::kDouble);
    EXPECT_NEAR(found.value, value((x * y).sum() / (x.norm() * y.norm())), 1e-12) << grouping_name(grouping);
  }
}

TEST(Anatomy, RankCorrelationsHaveTheDeviationTheySay) {
  const at::Tensor u = haar_basis(7, kSize, 12);
  const DenseEigenspace space(u);
  double sums[4] = {}, squares[4] = {};
  constexpr int kTrials = 400;
  RankCorrelation last[4];
  for (int trial = 0; trial < kTrials; ++trial) {
    const at::Tensor scores = normal(kSize, 100 + trial);
    const OverlapCurves curves = overlap_curves(space, scores, kLayouts, {.random_masks = 2});
    const MaskAnatomy a = anatomy(space, {{scores, &kLayouts, &curves}}).masks[0];
    const RankCorrelation all[] = {a.layer, a.output_unit, a.input_unit, a.two_way};
    for (int i = 0; i < 4; ++i) {
      sums[i] += all[i].value;
      squares[i] += all[i].value * all[i].value;
      last[i] = all[i];
    }
  }
  for (int i = 0; i < 4; ++i) {
    // Five standard errors of a mean and of a deviation (1 / sqrt(2 n) of it); the two-way deviation is
    // approximate, to some 10 %.
    const double deviation = std::sqrt(squares[i] / kTrials);
    EXPECT_LT(std::abs(sums[i] / kTrials), 5 * last[i].deviation / std::sqrt(kTrials)) << i;
    EXPECT_NEAR(deviation / last[i].deviation, 1, 5 / std::sqrt(2.0 * kTrials) + (i == 3 ? 0.1 : 0)) << i;
  }
}

TEST(Anatomy, OfTheSmallest) {
  // k = 1, D = 2, and tensors of one entry: no rank correlation, no ceiling.
  const std::vector<UnitLayout> layouts{{1, 1, 1}, {1, 1, 1, true, false}};
  const DenseEigenspace space(at::tensor({0.6, 0.8}, at::kDouble).unsqueeze(1));
  const at::Tensor scores = at::tensor({1.0, 0.5}, at::kDouble);
  const OverlapCurves curves = overlap_curves(space, scores, layouts, {.random_masks = 2});
  const MaskAnatomy a = anatomy(space, {{scores, &layouts, &curves}}).masks[0];
  EXPECT_TRUE(std::isnan(a.layer.value));
  EXPECT_TRUE(std::isnan(a.two_way.value));
  EXPECT_TRUE(std::isnan(value(a.ceiling_layer[0])));
  EXPECT_NEAR(value(a.by_size[0][0]), 0.36, 1e-15);
  EXPECT_SEIGH_ERROR(anatomy(space, {}), "no mask");
}

TEST(Scores, AreTheirDefinitions) {
  const at::Tensor theta = normal(kSize, 11), initial = normal(kSize, 12), gradient = normal(kSize, 13),
                   fisher = normal(kSize, 14).square(), diagonal = normal(kSize, 15);
  const at::Tensor u = haar_basis(16, kSize, 5);
  const at::Tensor eigenvalues = at::tensor({5.0, -4.0, 3.0, 2.0, 1.0}, at::kDouble);
  const DenseEigenspace space(u);
  const ScoreInputs inputs{theta, initial, gradient, fisher, diagonal, &space, eigenvalues, 17};
  const auto is = [&](const char* name, const at::Tensor& expected) {
    EXPECT_TRUE(at::allclose(scores(name, inputs, kLayouts), expected, 1e-12, 1e-15)) << name;
  };
  is("magnitude", theta.abs());
  is("gradient", gradient.abs());
  is("snip", (theta * gradient).abs());
  is("movement", (theta - initial).abs());
  is("initial", initial.abs());
  is("fisher", fisher);
  is("obd", (theta * theta * diagonal / 2).abs());
  is("leverage", u.square().sum(1));
  is("curvature_leverage", (u.square() * eigenvalues.abs()).sum(1));
  const at::Tensor scaled = theta.abs();
  for (const auto& [begin, end] : {std::pair(0, 20), std::pair(20, 26), std::pair(26, 50), std::pair(50, 56)})
    scaled.slice(0, begin, end)
        .div_((theta.slice(0, begin, end) - theta.slice(0, begin, end).mean()).square().mean().sqrt());
  is("scaled_magnitude", scaled);
  // Every tensor gives half of its parameters when half of all are taken.
  const at::Tensor order =
      scores("layerwise_magnitude", inputs, kLayouts).argsort(0, true).slice(0, 0, kSize / 2);
  std::map<int64_t, int> counts;
  for (int64_t p = 0; p < kSize / 2; ++p) ++counts[group(Grouping::layer, order[p].item<int64_t>())];
  EXPECT_EQ(counts, (std::map<int64_t, int>{{0, 10}, {100, 3}, {200, 12}, {300, 3}}));
  // random_by_layer keeps the counts of magnitude for every k.
  const at::Tensor random = scores("random_by_layer", inputs, kLayouts);
  EXPECT_FALSE(at::equal(random, theta.abs()));
  for (int64_t k : {1, 7, 30}) {
    std::multiset<int64_t> one, two;
    for (int64_t p = 0; p < k; ++p) {
      one.insert(group(Grouping::layer, random.argsort(0, true)[p].item<int64_t>()));
      two.insert(group(Grouping::layer, theta.abs().argsort(0, true)[p].item<int64_t>()));
    }
    EXPECT_EQ(one, two);
  }
  EXPECT_TRUE(is_score("layerwise_obd"));
  EXPECT_FALSE(is_score("layerwise_layerwise_obd"));
  EXPECT_EQ(score_needs("layerwise_obd"), "diagonal");
  EXPECT_SEIGH_ERROR(scores("size", inputs, kLayouts), "no score \"size\"");
  ScoreInputs bare;
  bare.parameters = theta;
  EXPECT_SEIGH_ERROR(scores("snip", bare, kLayouts), "needs the gradient");
}

}  // namespace
}  // namespace seigh
