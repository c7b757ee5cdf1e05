#include "seigh/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tests/support/expect_error.h"

namespace seigh {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The quadratic a/2 (x - c)^2 in each of three coordinates, in double precision and one number at a time.
const std::vector<double> kCurvature = {1, 0.3, 4}, kCentre = {2, -1, 0.5}, kStart = {0, 1, -3};

// Parameters after each of `steps` steps of `optimizer` on that quadratic, the rate falling by a tenth a
// step.
std::vector<at::Tensor> trajectory(Optimizer optimizer, at::Tensor x, int64_t first, int64_t steps) {
  std::vector<at::Tensor> all;
  x = x.clone();
  const at::Tensor a = at::tensor(kCurvature, at::kFloat), c = at::tensor(kCentre, at::kFloat);
  for (int64_t t = first; t < first + steps; ++t) {
    optimizer.step(x, a * (x - c), 0.1 * std::pow(0.9, t), t);
    all.push_back(x.clone());
  }
  return all;
}
std::vector<at::Tensor> trajectory(const OptimizerOptions& options, int64_t steps) {
  return trajectory(Optimizer(options, 3), at::tensor(kStart, at::kFloat), 1, steps);
}

// `update(x, g, eta, t)` for one coordinate, which may keep what it likes in `memory`.
using Update = std::function<double(double x, double g, double eta, int t, std::vector<double>& memory)>;

void expect_follows(const OptimizerOptions& options, const Update& update) {
  constexpr int kSteps = 40;
  const std::vector<at::Tensor> found = trajectory(options, kSteps);
  for (size_t i = 0; i < 3; ++i) {
    double x = kStart[i];
    std::vector<double> memory(2, 0.0);
    for (int t = 1; t <= kSteps; ++t) {
      x = update(x, kCurvature[i] * (x - kCentre[i]), 0.1 * std::pow(0.9, t), t, memory);
      // Forty steps of float32 with numbers up to 4: some ten roundings of 2.4e-7 each.
      ASSERT_NEAR(found[static_cast<size_t>(t - 1)][static_cast<int64_t>(i)].item<double>(), x, 1e-5)
          << "coordinate " << i << ", step " << t;
    }
  }
}

TEST(Optimizer, PlainSgdIsExactlyOneSubtraction) {
  at::Tensor x = at::tensor({0.1, -7.3, 1e-4}, at::kFloat);
  const at::Tensor g = at::tensor({3.3, 0.7, -1e-5}, at::kFloat);
  at::Tensor expected = x.clone();
  expected.sub_(g, 0.3);
  Optimizer optimizer({}, 3);
  optimizer.step(x, g, 0.3, 1);
  EXPECT_TRUE(at::equal(x, expected));
  EXPECT_TRUE(optimizer.state().empty());
}

TEST(Optimizer, SgdWithMomentumAndDecayByItsFormula) {
  for (const double momentum : {0.0, 0.9}) {
    for (const double decay : {0.0, 0.2}) {
      expect_follows({.momentum = momentum, .weight_decay = decay},
                     [&](double x, double g, double eta, int t, std::vector<double>& memory) {
                       const double d = g + decay * x;
                       memory[0] = t == 1 ? d : momentum * memory[0] + d;  // PyTorch starts with d itself
                       return x - eta * memory[0];
                     });
    }
  }
}

TEST(Optimizer, MomentumByHand) {
  // Gradient 1 throughout, rate 1, momentum 1/2: b = 1, 3/2, 7/4; x = -1, -5/2, -17/4.
  Optimizer optimizer({.momentum = 0.5}, 1);
  at::Tensor x = at::zeros({1});
  for (const auto& [t, expected] : {std::pair(1, -1.0), {2, -2.5}, {3, -4.25}}) {
    optimizer.step(x, at::ones({1}), 1, t);
    EXPECT_EQ(x.item<double>(), expected);
  }
  EXPECT_EQ(optimizer.state().at("momentum").item<double>(), 1.75);
}

TEST(Optimizer, AdamWByItsFormula) {
  for (const double decay : {0.0, 0.2}) {
    const OptimizerOptions options{
        .kind = OptimizerKind::adamw, .weight_decay = decay, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3};
    expect_follows(options, [&](double x, double g, double eta, int t, std::vector<double>& memory) {
      memory[0] += 0.2 * (g - memory[0]);
      memory[1] += 0.05 * (g * g - memory[1]);
      const double m = memory[0] / (1 - std::pow(0.8, t)), v = memory[1] / (1 - std::pow(0.95, t));
      return x - eta * decay * x - eta * m / (std::sqrt(v) + 1e-3);
    });
  }
}

TEST(Optimizer, AdamWStepsAreTheRateWhateverTheGradient) {
  // With a constant gradient g the corrected moments are g and g^2: every step is -eta sign(g).
  Optimizer optimizer({.kind = OptimizerKind::adamw}, 3);
  at::Tensor x = at::zeros({3});
  const at::Tensor g = at::tensor({1e-3, -5.0, 1e4}, at::kFloat);
  for (int t = 1; t <= 10; ++t) optimizer.step(x, g, 0.5, t);
  // epsilon is 1e-5 of the smallest gradient.
  EXPECT_LT((x + 5 * g.sign()).abs().max().item<double>(), 1e-4);
}

TEST(Optimizer, ContinuesFromItsStateBitwiseAndLeavesItAlone) {
  for (const OptimizerOptions& options :
       {OptimizerOptions{.momentum = 0.9, .weight_decay = 0.1}, {.kind = OptimizerKind::adamw}}) {
    Optimizer first(options, 3);
    at::Tensor x = at::tensor(kStart, at::kFloat);
    for (int t = 1; t <= 5; ++t) first.step(x, x - 1, 0.1, t);
    OptimizerState before;
    for (const auto& [name, tensor] : first.state()) before[name] = tensor.clone();

    const auto one = trajectory(first, x, 6, 5);  // a copy steps on
    const auto two = trajectory(Optimizer(options, 3, first.state(), 5), x, 6, 5);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i]));
    for (const auto& [name, tensor] : before) EXPECT_TRUE(at::equal(tensor, first.state().at(name)));
  }
}

TEST(Optimizer, RefusesStatesThatDoNotFit) {
  const OptimizerOptions adamw{.kind = OptimizerKind::adamw};
  EXPECT_EQ(Optimizer(adamw, 3, {}, 0).state().size(), 2u);
  EXPECT_SEIGH_ERROR(Optimizer(adamw, 3, {}, 7), "step 7 lacks", "first_moment");
  EXPECT_SEIGH_ERROR(Optimizer({.momentum = 0.5}, 3, {{"momentum", at::zeros({4})}}, 7), "momentum", "[4]");
}

TEST(Optimizer, RefusesImpossibleOptions) {
  const auto refused = [](const OptimizerOptions& options, const std::string& says) {
    EXPECT_SEIGH_ERROR(Optimizer(options, 3), says);
  };
  for (const double bad : {-0.1, 1.0, kNaN}) {
    refused({.momentum = bad}, "momentum must be");
    refused({.kind = OptimizerKind::adamw, .beta1 = bad}, "betas");
    refused({.kind = OptimizerKind::adamw, .beta2 = bad}, "betas");
  }
  for (const double bad : {-1e-9, std::numeric_limits<double>::infinity(), kNaN})
    refused({.weight_decay = bad}, "weight decay");
  for (const double bad : {-1.0, 0.0, kNaN})
    refused({.kind = OptimizerKind::adamw, .epsilon = bad}, "epsilon");
  refused({.kind = OptimizerKind::adamw, .momentum = 0.9}, "belongs to sgd");
  EXPECT_SEIGH_ERROR(parse_optimizer("adam"), "choose sgd or adamw");
  EXPECT_EQ(to_string(parse_optimizer("adamw")), "adamw");
}

}  // namespace
}  // namespace seigh
