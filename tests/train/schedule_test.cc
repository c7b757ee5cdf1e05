#include "seigh/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/expect_error.h"

namespace seigh {
namespace {

using Kind = Schedule::Kind;

TEST(Schedule, ConstantIsExactlyOne) {
  EXPECT_EQ(Schedule{}.factor(1), 1);
  EXPECT_EQ(Schedule{}.factor(1'000'000), 1);
}

TEST(Schedule, WarmUpIsLinearAndReachesOne) {
  const Schedule schedule{.warmup = 4};
  for (int t = 1; t <= 4; ++t) EXPECT_EQ(schedule.factor(t), t / 4.0);
  EXPECT_EQ(schedule.factor(5), 1);
}

TEST(Schedule, CosineFallsFromOneToZero) {
  const Schedule schedule{.kind = Kind::cosine, .steps = 6};
  // cos of 0, 30, 60, 90, 120, 150 degrees.
  const double root = std::sqrt(0.75), expected[] = {1, (1 + root) / 2, 0.75, 0.5, 0.25, (1 - root) / 2};
  for (int t = 1; t <= 6; ++t) EXPECT_NEAR(schedule.factor(t), expected[t - 1], 1e-15);
  EXPECT_NEAR(schedule.factor(7), 0, 1e-15);
  EXPECT_NEAR(schedule.factor(100), 0, 1e-15);
  // After two steps of warm-up the same curve, two steps later.
  const Schedule later{.kind = Kind::cosine, .warmup = 2, .steps = 8};
  EXPECT_EQ(later.factor(1), 0.5);
  EXPECT_EQ(later.factor(2), 1);
  for (int t = 1; t <= 6; ++t) EXPECT_EQ(later.factor(t + 2), schedule.factor(t));
}

TEST(Schedule, StepsFallAfterTheirMilestones) {
  const Schedule schedule{.kind = Kind::step, .warmup = 1, .milestones = {3, 5}, .decay = 0.5};
  const double expected[] = {1, 1, 1, 0.5, 0.5, 0.25, 0.25};
  for (int t = 1; t <= 7; ++t) EXPECT_EQ(schedule.factor(t), expected[t - 1]) << t;
}

TEST(Schedule, RefusesImpossibleValues) {
  EXPECT_SEIGH_ERROR((Schedule{.warmup = -1}.validate()), "must not be negative: -1");
  EXPECT_SEIGH_ERROR((Schedule{.kind = Kind::cosine, .warmup = 6, .steps = 6}.validate()),
                     "leaves none of 6");
  EXPECT_SEIGH_ERROR((Schedule{.kind = Kind::step, .milestones = {5, 3}}.validate()), "ascend");
  EXPECT_SEIGH_ERROR((Schedule{.kind = Kind::step, .milestones = {0}}.validate()), "at least 1");
  EXPECT_SEIGH_ERROR((Schedule{.kind = Kind::step, .decay = 0}.validate()), "positive");
  EXPECT_SEIGH_ERROR(parse_schedule("linear"), "choose constant, cosine or step");
}

}  // namespace
}  // namespace seigh
