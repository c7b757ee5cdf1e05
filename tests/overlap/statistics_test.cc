#include "seigh/overlap/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "seigh/core/random.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

struct Known {
  double p, degrees, t;
};

// scipy.stats.t.ppf (1.17), to its 15 digits; both are some ten roundings of 1e-16 off, more where 1 - p has
// lost digits.
TEST(Student, QuantilesAreThoseOfSciPy) {
  for (const Known& k : {Known{.5, 1, 0},
                         {.75, 1, 1},
                         {.75, 2, .816496580927726},
                         {.9, 2.5, 1.73025092880718},
                         {.9, 1000, 1.28239872146092},
                         {.975, 1, 12.7062047361747},
                         {.975, 2, 4.30265272974946},
                         {.975, 4, 2.77644510519779},
                         {.975, 9, 2.2621571627982},
                         {.975, 30, 2.04227245630124},
                         {.995, 1, 63.6567411628715},
                         {.995, 2, 9.92484320091829},
                         {.995, 2.5, 7.16372813894878},
                         {.9995, 1, 636.61924876879},
                         {.9995, 4, 8.61030158137952},
                         {.9995, 1000, 3.30028264842394},
                         {.025, 2.5, -3.57465484200368}})
    EXPECT_NEAR(student_quantile(k.p, k.degrees), k.t, 1e-12 * std::abs(k.t)) << k.p << " of " << k.degrees;
}

// With one and two degrees of freedom in closed form: tan(pi (p - 1/2)), a sqrt(2 / (1 - a^2)) with a = 2p
// - 1.
TEST(Student, ClosedForms) {
  const double pi = std::acos(-1);
  for (const double p : {.501, .6, .8, .99, .9999}) {
    const double a = 2 * p - 1, tangent = std::tan(pi * (p - .5));
    EXPECT_NEAR(student_quantile(p, 1), tangent, 1e-11 * tangent) << p;
    EXPECT_NEAR(student_quantile(p, 2), a * std::sqrt(2 / (1 - a * a)), 1e-11 * tangent) << p;
  }
}

// scipy.special.betainc.
TEST(Student, IncompleteBetaIsThatOfSciPy) {
  EXPECT_NEAR(incomplete_beta(.5, .5, .3), .3690101195655454, 1e-14);
  EXPECT_NEAR(incomplete_beta(2, 3, .4), .5248, 1e-14);
  EXPECT_NEAR(incomplete_beta(10, .5, .95), .317151575465545, 1e-14);
  EXPECT_NEAR(incomplete_beta(500, .5, .999), .3173104473097172,
              1e-12);  // lgamma(500) has three digits before the dot
  EXPECT_NEAR(incomplete_beta(.5, .5, 1e-8), 6.366197734286143e-5, 1e-18);
  EXPECT_NEAR(incomplete_beta(30, 40, .5), .8857998873233515, 1e-13);
  EXPECT_EQ(incomplete_beta(3, 4, 0), 0);
  EXPECT_EQ(incomplete_beta(3, 4, 1), 1);
  EXPECT_SEIGH_ERROR(incomplete_beta(0, 1, .5), "a = 0");
  EXPECT_SEIGH_ERROR(incomplete_beta(1, 1, 2), "x = 2");
}

TEST(Student, BadArgumentsAreNamed) {
  EXPECT_SEIGH_ERROR(student_quantile(1, 3), "not 1");
  EXPECT_SEIGH_ERROR(student_quantile(.5, 0), "not 0");
  EXPECT_SEIGH_ERROR(mean_interval({1, 2}, 1), "level");
}

const std::vector<double> kFour = {1.36, 1.14, 1.63, 1.21};

// numpy's log, exp and scipy.stats.t.interval.
TEST(Interval, OfMeanRatioAndFurtherRun) {
  const double eps = 1e-8;  // digits written down
  const MeanInterval mean = mean_interval(kFour);
  EXPECT_TRUE(mean.geometric);
  EXPECT_EQ(mean.n, 4);
  EXPECT_NEAR(mean.mean, 1.322373640361991, 1e-14);
  EXPECT_NEAR(mean.low, 1.02919113, eps);
  EXPECT_NEAR(mean.high, 1.69907414, eps);
  const MeanInterval further = prediction_interval(kFour);
  EXPECT_NEAR(further.low, .47271938, eps);
  EXPECT_NEAR(further.high, 3.69917573, eps);
  const MeanInterval ratio = ratio_interval(kFour, {1.1, 1.0, 1.2, 1.3});
  EXPECT_NEAR(ratio.mean, 1.155380045852728, 1e-14);
  EXPECT_NEAR(ratio.low, .89437073, eps);
  EXPECT_NEAR(ratio.high, 1.4925612, eps);
}

TEST(Interval, WhereItCannotBeKnown) {
  const MeanInterval one = mean_interval({2});
  EXPECT_DOUBLE_EQ(one.mean, 2);
  EXPECT_TRUE(std::isnan(one.low) && std::isnan(one.high));
  EXPECT_TRUE(std::isnan(mean_interval({}).mean));
  EXPECT_TRUE(std::isnan(mean_interval({1, std::numeric_limits<double>::infinity()}).mean));
  EXPECT_TRUE(std::isnan(ratio_interval({1, 2}, {0, 1}).mean));
  EXPECT_SEIGH_ERROR(ratio_interval({1, 2}, {1}), "paired");
}

TEST(Interval, ZerosMakeItArithmetic) {
  const MeanInterval mean = mean_interval({0, 1, 2.5}, .9);
  EXPECT_FALSE(mean.geometric);
  EXPECT_NEAR(mean.mean, 1.1666666666666667, 1e-15);
  EXPECT_NEAR(mean.low, -.9546536768929765, 1e-13);
  EXPECT_NEAR(mean.high, 3.287987010226309, 1e-13);
}

// Of lognormal runs the intervals hold what they say. 2000 experiments of three runs: a coverage of 95 % (99
// %) is within 4 standard deviations, 1.95 % (.89 %), with probability 99.99 %.
TEST(Interval, CoversWhatItPromises) {
  constexpr int kExperiments = 2000;
  const at::Tensor normal = random_gaussian(1, Stream::test, 4, 0, kExperiments, at::kDouble);
  int held = 0, predicted = 0;
  for (int i = 0; i < kExperiments; ++i) {
    std::vector<double> runs;
    for (int j = 0; j < 3; ++j) runs.push_back(std::exp(.3 * normal[j][i].item<double>() + 1));
    const MeanInterval mean = mean_interval(runs), further = prediction_interval(runs);
    const double next = std::exp(.3 * normal[3][i].item<double>() + 1);
    held += mean.low < std::exp(1) && std::exp(1) < mean.high;
    predicted += further.low < next && next < further.high;
  }
  EXPECT_NEAR(held, .95 * kExperiments, .0195 * kExperiments);
  EXPECT_NEAR(predicted, .99 * kExperiments, .0089 * kExperiments);
}

}  // namespace
}  // namespace seigh
