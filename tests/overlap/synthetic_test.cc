#include "seigh/overlap/synthetic.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linspace.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "seigh/core/error.h"

namespace seigh {
namespace {

constexpr uint64_t kSeed = 5;

size_t index_of(const std::string& metric) {
  const auto& all = synthetic_metrics();
  return static_cast<size_t>(std::find(all.begin(), all.end(), metric) - all.begin());
}

struct Moments {
  double mean = 0, variance = 0, n = 0;
};
Moments moments(const std::vector<double>& x) {
  Moments m;
  m.n = static_cast<double>(x.size());
  for (const double v : x) m.mean += v / m.n;
  for (const double v : x) m.variance += (v - m.mean) * (v - m.mean) / (m.n - 1);
  return m;
}

std::vector<double> values(const SyntheticStudy& study, PairKind kind, const std::string& metric,
                           int64_t cell) {
  const at::Tensor row =
      study.values[static_cast<int64_t>(kind)][static_cast<int64_t>(index_of(metric))][cell].contiguous();
  return {row.data_ptr<double>(), row.data_ptr<double>() + row.numel()};
}

// Both sides of D/2, one parameter and all.
SyntheticOptions small() {
  SyntheticOptions o;
  o.pairs = 400;
  o.dimensions = {16, 40};
  o.ratios = {0.4, 0.1, 0.005};
  o.fine_dimensions = {24};
  o.fine_ratios = {1.0, 0.9, 0.6, 0.5, 0.25};
  return o;
}
const SyntheticStudy& small_study() {
  static const SyntheticStudy study = synthetic_study(small(), kSeed);
  return study;
}

TEST(Synthetic, CellsAreThoseOfBothGrids) {
  const SyntheticStudy& s = small_study();
  ASSERT_EQ(s.k.numel(), 11);
  const std::vector<int64_t> dimension = {16, 16, 16, 24, 24, 24, 24, 24, 40, 40, 40},
                             k = {6, 2, 1, 24, 22, 14, 12, 6, 16, 4, 1};
  for (int64_t i = 0; i < 11; ++i) {
    EXPECT_EQ(s.dimension[i].item<int64_t>(), dimension[static_cast<size_t>(i)]);
    EXPECT_EQ(s.k[i].item<int64_t>(), k[static_cast<size_t>(i)]);
  }
  EXPECT_EQ(synthetic_size(16, 0.005), 1);  // never none
  EXPECT_EQ(synthetic_size(2048, 0.005), 10);
}

TEST(Synthetic, DefaultsAreThePublishedStudy) {
  const SyntheticOptions o;
  o.validate();
  EXPECT_EQ(o.pairs, 50);
  EXPECT_EQ(o.dimensions.front(), 16);
  EXPECT_EQ(o.dimensions.back(), 2048);
  EXPECT_EQ(o.dimensions.size(), 8);
  EXPECT_EQ(o.ratios.size(), 5);
  EXPECT_EQ(o.fine_ratios.size(), 10);
}

// Mean k/D of every kind. Variance: Haar spaces, against a mask or each other, 2 (D - k)^2 / (D^2 (D - 1) (D
// + 2)) (the real Beta-Jacobi ensemble); masks, the hypergeometric one of k of D over k^2. 22 tests of means
// at 5 standard errors fail with probability below 2e-5 (400 pairs: nearly normal but where k = 1), seeds are
// fixed; variances within a third, of which the standard error is sqrt(2 / 400) = 7 % for normal numbers; not
// where k^2/D < 1, which is far from normal.
TEST(Synthetic, OverlapHasItsClosedMeanAndVariance) {
  const SyntheticStudy& s = small_study();
  for (const PairKind kind : all_pair_kinds) {
    for (int64_t cell = 0; cell < s.k.numel(); ++cell) {
      const double d = s.dimension[cell].item<double>(), k = s.k[cell].item<double>();
      const Moments m = moments(values(s, kind, "overlap", cell));
      const double variance = kind == PairKind::mask_mask
                                  ? k * (k / d) * (1 - k / d) * (d - k) / (d - 1) / (k * k)
                                  : 2 * (d - k) * (d - k) / (d * d * (d - 1) * (d + 2));
      const std::string where =
          std::string(pair_kind_name(kind)) + " " + std::to_string(d) + " " + std::to_string(k);
      EXPECT_NEAR(m.mean, k / d, 5 * std::sqrt(variance / m.n) + 1e-12) << where;
      if (k * k < d) continue;
      EXPECT_NEAR(m.variance, variance, variance / 3 + 1e-20) << where;
    }
  }
}

TEST(Synthetic, MetricsOfOnePairAgree) {
  const SyntheticStudy& s = small_study();
  for (const PairKind kind : all_pair_kinds) {
    for (int64_t cell = 0; cell < s.k.numel(); ++cell) {
      const std::vector<double> overlap = values(s, kind, "overlap", cell),
                                projection = values(s, kind, "projection_frobenius", cell),
                                union_of = values(s, kind, "intersection_over_union", cell);
      const double k = s.k[cell].item<double>();
      for (size_t i = 0; i < overlap.size(); ++i) {
        // A sine from an angle from a cosine near 1 is off by up to sqrt(eps).
        EXPECT_NEAR(1 - overlap[i], projection[i] * projection[i], 1e-7);
        if (kind != PairKind::mask_mask) {
          EXPECT_TRUE(std::isnan(union_of[i]));
          continue;
        }
        const double common = overlap[i] * k;
        EXPECT_NEAR(common, std::round(common), 1e-9);
        EXPECT_NEAR(union_of[i], common / (2 * k - common), 1e-12);
      }
    }
  }
}

// k = D: one and the same space.
TEST(Synthetic, WholeSpacesAreEqual) {
  const SyntheticStudy& s = small_study();
  const int64_t whole = 3;
  ASSERT_EQ(s.k[whole].item<int64_t>(), 24);
  for (const PairKind kind : all_pair_kinds) {
    for (const std::string& metric : synthetic_metrics()) {
      for (const double value : values(s, kind, metric, whole)) {
        if (metric == "intersection_over_union" && kind != PairKind::mask_mask) continue;
        EXPECT_EQ(value, is_similarity(metric) ? 1.0 : 0.0) << metric;
      }
    }
  }
}

// k > D/2 by complements: of k = 22 of 24 at most two angles are not 0, so 2-norms see those alone.
TEST(Synthetic, LargeSpacesMeetInWhatTheyMust) {
  const SyntheticStudy& s = small_study();
  const int64_t cell = 4;
  ASSERT_EQ(s.k[cell].item<int64_t>(), 22);
  for (const PairKind kind : all_pair_kinds)
    for (const double value : values(s, kind, "overlap", cell)) EXPECT_GE(value, 20.0 / 22 - 1e-12);
}

TEST(Synthetic, ThreadsChangeNothing) {
  SyntheticOptions o = small();
  o.pairs = 12;
  ContextOptions one, three;
  one.threads = 1;
  three.threads = 3;
  const SyntheticStudy a = synthetic_study(o, kSeed, Context(one)),
                       b = synthetic_study(o, kSeed, Context(three));
  const double *x = a.values.data_ptr<double>(), *y = b.values.data_ptr<double>();
  for (int64_t i = 0; i < a.values.numel(); ++i)
    ASSERT_TRUE(x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])));
  // Another seed, other pairs; a pair does not depend on how many there are.
  const SyntheticStudy other = synthetic_study(o, kSeed + 1);
  EXPECT_NE(values(a, PairKind::haar_haar, "overlap", 0)[0],
            values(other, PairKind::haar_haar, "overlap", 0)[0]);
  EXPECT_EQ(values(a, PairKind::haar_haar, "overlap", 0)[7],
            values(small_study(), PairKind::haar_haar, "overlap", 0)[7]);
}

TEST(Synthetic, QuantilesLieBetweenOrderStatistics) {
  SyntheticStudy s = small_study();
  s.values = at::linspace(1.0, 0.0, 101, at::kDouble).expand({3, 8, 11, 101}).contiguous();
  const at::Tensor q = synthetic_quantiles(s);
  for (size_t i = 0; i < synthetic_levels.size(); ++i)
    EXPECT_NEAR(q[1][2][3][static_cast<int64_t>(i)].item<double>(), synthetic_levels[i], 1e-12);
  s.values = s.values.slice(-1, 0, 2).contiguous();  // 1 and .99
  EXPECT_NEAR(synthetic_quantiles(s)[0][0][0][1].item<double>(), 0.9925, 1e-12);
}

// Findings from values that say them: overlap equal to k/D, distances of 1.
TEST(Synthetic, FindingsTellWhatFollowsFromWhatSaturates) {
  SyntheticStudy s = small_study();
  s.values = at::full({3, 8, 11, 4}, 1.0, at::kDouble);
  const auto overlap = static_cast<int64_t>(index_of("overlap"));
  s.values.select(1, overlap)
      .copy_((s.k.to(at::kDouble) / s.dimension).reshape({1, 11, 1}).expand({3, 11, 4}));
  s.values.select(1, 0).copy_(s.values.select(1, overlap) * 0.5 + 0.5);  // a distance that rises with k/D
  const std::vector<MetricFinding> findings = synthetic_findings(s);
  for (const MetricFinding& f : findings) {
    EXPECT_EQ(f.follows, f.metric == "overlap") << f.metric;
    for (size_t kind = 0; kind < 3; ++kind) {
      if (f.metric == "overlap") {
        EXPECT_NEAR(f.slope[kind], 1, 1e-9);
        EXPECT_NEAR(f.off[kind], 0, 1e-12);
        EXPECT_EQ(f.saturated[kind], 0);
      } else if (f.metric == "projection_2") {  // of resolved cells, all
        EXPECT_EQ(f.saturated[kind], 1);
        EXPECT_NEAR(f.off[kind], 1, 1e-12);  // k = D
        EXPECT_TRUE(std::isnan(f.slope[kind]));
      }
    }
  }
}

TEST(Synthetic, WrongOptionsAreNamed) {
  const auto refused = [](const std::function<void(SyntheticOptions&)>& change, const std::string& word) {
    SyntheticOptions o;
    change(o);
    try {
      o.validate();
      ADD_FAILURE() << word << " was accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refused([](SyntheticOptions& o) { o.pairs = 1; }, "pairs");
  refused([](SyntheticOptions& o) { o.dimensions = {}; }, "dimensions");
  refused([](SyntheticOptions& o) { o.dimensions = {16, 5000}; }, "5000");
  refused([](SyntheticOptions& o) { o.fine_dimensions = {16, 16}; }, "twice");
  refused([](SyntheticOptions& o) { o.ratios = {0.5, 0.0}; }, "ratios");
  refused([](SyntheticOptions& o) { o.fine_ratios = {1.5}; }, "fine_ratios");
  refused([](SyntheticOptions& o) { o.fine_ratios = {std::nan("")}; }, "fine_ratios");
  refused(
      [](SyntheticOptions& o) {
        o.pairs = 10'000;
        o.fine_ratios.clear();
        for (int i = 1; i <= 100; ++i) o.fine_ratios.push_back(i / 100.0);
      },
      "cells");
}

TEST(Synthetic, CanBeCancelled) {
  ContextOptions options;
  int asked = 0;
  options.threads = 1;
  options.cancelled = [&] { return ++asked > 3; };
  EXPECT_THROW(synthetic_study(small(), kSeed, Context(options)), Cancelled);
}

}  // namespace
}  // namespace seigh
