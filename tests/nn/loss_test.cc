#include "seigh/nn/loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <vector>

#include "seigh/core/random.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

const Loss kLosses[] = {LossKind::cross_entropy,
                        {LossKind::cross_entropy, 0.3},
                        LossKind::mean_squared_error,
                        LossKind::binary_cross_entropy};

at::Tensor gaussian(std::vector<int64_t> shape, uint64_t seed) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return random_gaussian(seed, Stream::test, n, 0, 1, at::kDouble).reshape(shape);
}

at::Tensor classes(const std::vector<int64_t>& values) {
  return at::tensor(values);
}

TEST(Loss, CrossEntropyAndSmoothingByHand) {
  const std::vector<double> f = {1.0, -0.5, 0.25};
  const at::Tensor outputs = at::tensor(f, at::kDouble).reshape({1, 3});
  double total = 0;
  for (const double value : f) total += std::exp(value);
  for (const double s : {0.0, 0.1, 1.0}) {
    double expected = 0;
    for (int c = 0; c < 3; ++c) expected -= ((c == 1 ? 1 - s : 0) + s / 3) * (f[c] - std::log(total));
    // A few roundings of numbers of order 1.
    EXPECT_NEAR(loss_sum({LossKind::cross_entropy, s}, outputs, classes({1})).item<double>(), expected, 1e-14)
        << s;
  }
}

// The derivatives of log(1 + e^-m) for two classes: -q and q (1 - q) with q = e^-m / (1 + e^-m).
TEST(Loss, DerivativesKeepTheirDigitsWhereTheNetworkFits) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const double eps = dtype == at::kFloat ? 1.2e-7 : 2.2e-16;
    for (const double m : {0.0, 3.0, 20.0, 60.0}) {
      const double q = std::exp(-m) / (1 + std::exp(-m));
      const at::Tensor f = at::tensor(std::vector<double>{0, m}, dtype).reshape({1, 2}).requires_grad_(true);
      const at::Tensor y = classes({1}), u = at::tensor(std::vector<double>{0, 1}, dtype).reshape({1, 2});
      const at::Tensor value = accurate_loss_sum(LossKind::cross_entropy, f, y);
      EXPECT_NEAR(value.item<double>(), loss_sum(LossKind::cross_entropy, f, y).item<double>(), 4 * eps);
      const at::Tensor g = torch::autograd::grad({value}, {f}, {}, true, true)[0];
      const at::Tensor h = torch::autograd::grad({g}, {f}, {u})[0];
      // m is rounded, and every factor e^-m with it.
      const double near = (8 + m) * eps;
      for (const at::Tensor& gradient : {g, output_gradient(LossKind::cross_entropy, f.detach(), y)}) {
        EXPECT_NEAR(gradient[0][1].item<double>() / -q, 1, near) << m;
        EXPECT_NEAR(gradient[0][0].item<double>() / q, 1, near) << m;
      }
      for (const at::Tensor& product :
           {h, output_hessian_product(LossKind::cross_entropy, f.detach(), y, u)}) {
        EXPECT_NEAR(product[0][1].item<double>() / (q * (1 - q)), 1, near) << m;
        EXPECT_NEAR(product[0][0].item<double>() / (q * (1 - q)), -1, near) << m;
      }
    }
  }
}

TEST(Loss, SmoothingIsTheLibrarys) {
  const at::Tensor outputs = gaussian({6, 4}, 1), targets = classes({0, 3, 2, 1, 1, 0});
  const at::Tensor expected = at::cross_entropy_loss(outputs, targets, {}, at::Reduction::Sum, -100, 0.2);
  EXPECT_NEAR(loss_sum({LossKind::cross_entropy, 0.2}, outputs, targets).item<double>(),
              expected.item<double>(), 1e-13);
}

TEST(Loss, MeanSquaredErrorByHand) {
  const at::Tensor outputs =
      at::tensor(std::vector<double>{1, 2, 3, -1, 0.5, 0}, at::kDouble).reshape({2, 3});
  // (0 - 1)^2 is 0 for class 0 of the first row: 0 + 4 + 9; second row, class 2: 1 + .25 + 1.
  EXPECT_NEAR(loss_sum(LossKind::mean_squared_error, outputs, classes({0, 2})).item<double>(),
              (13 + 2.25) / 3, 1e-14);
}

TEST(Loss, BinaryCrossEntropyIsTheLibrarys) {
  const at::Tensor outputs = 20 * gaussian({6, 4}, 1), soft = at::sigmoid(gaussian({6, 4}, 2));
  const at::Tensor labels = classes({0, 3, 2, 1, 1, 0});
  for (const at::Tensor& targets : {soft, at::one_hot(labels, 4).to(at::kDouble)}) {
    const at::Tensor expected =
        at::binary_cross_entropy_with_logits(outputs, targets, {}, {}, at::Reduction::Sum) / 4;
    EXPECT_NEAR(loss_sum(LossKind::binary_cross_entropy, outputs, targets).item<double>(),
                expected.item<double>(), 1e-12);
  }
  EXPECT_EQ(loss_sum(LossKind::binary_cross_entropy, outputs, labels).item<double>(),
            loss_sum(LossKind::binary_cross_entropy, outputs, at::one_hot(labels, 4).to(at::kFloat))
                .item<double>());
  EXPECT_TRUE(loss_sum(LossKind::binary_cross_entropy, 1e4 * outputs, soft).isfinite().item<bool>());
}

// E[r r^T] of every row is the Hessian of the loss there, which is what makes the Monte-Carlo Fisher matrix
// an unbiased estimate. Bounds of five standard deviations of a mean over n draws, for some 60 numbers: fails
// by chance in fewer than one of 10^4 choices of the seed.
TEST(Loss, SampledGradientsHaveTheHessianAsCovariance) {
  constexpr int64_t n = 40'000;
  const at::Tensor row = at::tensor(std::vector<double>{0.5, -1.2, 2.0}, at::kDouble);
  const at::Tensor outputs = row.expand({n, 3});
  for (const Loss& loss : {Loss(LossKind::cross_entropy), Loss(LossKind::mean_squared_error),
                           Loss(LossKind::binary_cross_entropy)}) {
    const at::Tensor r = sampled_output_gradient(loss, outputs, 7);
    const at::Tensor hessian =
        output_hessian_product(loss, row.expand({1, 3}), classes({0}), at::eye(3, at::kDouble).unsqueeze(1))
            .squeeze(1);
    const at::Tensor products = r.unsqueeze(2) * r.unsqueeze(1);  // [n, 3, 3]
    for (int64_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(r.select(1, i).mean().item<double>(), 0, 5 * r.select(1, i).std().item<double>() / 200);
      for (int64_t j = 0; j < 3; ++j) {
        const at::Tensor one = products.select(1, i).select(1, j);
        EXPECT_NEAR(one.mean().item<double>(), hessian[i][j].item<double>(),
                    5 * one.std().item<double>() / 200 + 1e-12)
            << to_string(loss.kind) << " " << i << " " << j;
      }
    }
  }
}

TEST(Loss, SequencesAreSumsOverTokens) {
  const at::Tensor outputs = gaussian({2, 3, 4}, 1), targets = classes({0, 3, 2, 1, 1, 0}).reshape({2, 3});
  EXPECT_EQ(target_count(targets), 6);
  EXPECT_EQ(target_count(targets.flatten()), 6);
  for (const Loss& loss : kLosses) {
    // The same sums in another order at most.
    EXPECT_NEAR(loss_sum(loss, outputs, targets).item<double>(),
                loss_sum(loss, outputs.flatten(0, 1), targets.flatten()).item<double>(), 1e-13);
  }
}

TEST(Loss, OutputHessianIsThatOfAutograd) {
  for (const Loss& loss : kLosses) {
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{5, 4}, {2, 3, 4}}) {
      const at::Tensor outputs = gaussian(shape, 1).requires_grad_(true);
      const at::Tensor u = gaussian(shape, 2);
      const at::Tensor targets = at::arange(outputs.numel() / 4)
                                     .remainder(4)
                                     .reshape(at::IntArrayRef(shape).slice(0, shape.size() - 1));
      const at::Tensor gradient = torch::autograd::grad({loss_sum(loss, outputs, targets)}, {outputs}, {},
                                                        true, /*create_graph=*/true)[0];
      const at::Tensor expected = torch::autograd::grad({gradient}, {outputs}, {u})[0];
      const at::Tensor product = output_hessian_product(loss, outputs.detach(), targets, u);
      EXPECT_GT(expected.norm().item<double>(), 0.1);
      EXPECT_LT((product - expected).norm().item<double>(), 1e-14 * 10);  // roundings of numbers of order 1
      // Several vectors at once.
      const at::Tensor both = output_hessian_product(loss, outputs.detach(), targets, at::stack({u, 2 * u}));
      EXPECT_LT((both - at::stack({product, 2 * product})).norm().item<double>(), 1e-14);
    }
  }
}

TEST(Loss, SampledTargetsHaveTheNetworksFrequencies) {
  // 20 000 draws from each of two distributions. A frequency has standard error sqrt(p (1 - p) / 20 000); 5
  // of them are exceeded with probability 6e-7 for each of 8 frequencies, and the seed is fixed.
  const int64_t n = 20'000;
  const at::Tensor p =
      at::tensor(std::vector<double>{0.5, 0.3, 0.15, 0.05, 0.02, 0.9, 0.03, 0.05}, at::kDouble)
          .reshape({2, 4});
  const at::Tensor outputs =
      (p.log() + 3).unsqueeze(0).expand({n, 2, 4});  // adding a constant changes no softmax
  const at::Tensor y = sampled_targets(LossKind::cross_entropy, outputs, 11);
  ASSERT_EQ(y.sizes(), at::IntArrayRef({n, 2}));
  ASSERT_EQ(y.scalar_type(), at::kLong);
  for (int64_t t = 0; t < 2; ++t) {
    for (int64_t c = 0; c < 4; ++c) {
      const double expected = p[t][c].item<double>();
      EXPECT_NEAR(y.select(1, t).eq(c).to(at::kDouble).mean().item<double>(), expected,
                  5 * std::sqrt(expected * (1 - expected) / n));
    }
  }
  // The two tokens of a sample are drawn independently: P(both 1) = .3 * .9.
  EXPECT_NEAR((y.select(1, 0).eq(1) & y.select(1, 1).eq(1)).to(at::kDouble).mean().item<double>(), 0.27,
              5 * std::sqrt(0.27 * 0.73 / n));
}

TEST(Loss, SampledTargetsDependOnTheRowAlone) {
  const at::Tensor outputs = gaussian({40, 5}, 1);
  const at::Tensor all = sampled_targets(LossKind::cross_entropy, outputs, 11, 3);
  EXPECT_TRUE(at::equal(all.slice(0, 7, 20),
                        sampled_targets(LossKind::cross_entropy, outputs.slice(0, 7, 20), 11, 3, 7)));
  // Rows of sequences are counted through.
  EXPECT_TRUE(at::equal(
      all.slice(0, 8, 24).reshape({4, 4}),
      sampled_targets(LossKind::cross_entropy, outputs.slice(0, 8, 24).reshape({4, 4, 5}), 11, 3, 8)));
  for (const LossKind kind : {LossKind::mean_squared_error, LossKind::binary_cross_entropy}) {
    const at::Tensor values = sampled_targets(kind, outputs, 11, 3);
    ASSERT_EQ(values.sizes(), outputs.sizes());
    EXPECT_TRUE(at::equal(values.slice(0, 7, 20), sampled_targets(kind, outputs.slice(0, 7, 20), 11, 3, 7)));
    EXPECT_TRUE(at::equal(values.slice(0, 8, 24).reshape({4, 4, 5}),
                          sampled_targets(kind, outputs.slice(0, 8, 24).reshape({4, 4, 5}), 11, 3, 8)));
    EXPECT_FALSE(at::equal(values, sampled_targets(kind, outputs, 12, 3)));
    EXPECT_FALSE(at::equal(values, sampled_targets(kind, outputs, 11, 4)));
  }
  EXPECT_FALSE(at::equal(all, sampled_targets(LossKind::cross_entropy, outputs, 12, 3)));
  EXPECT_FALSE(at::equal(all, sampled_targets(LossKind::cross_entropy, outputs, 11, 4)));
  // A certain class is always drawn, the first and the last too.
  for (const int64_t c : {0, 4}) {
    at::Tensor certain = at::zeros({40, 5});
    certain.select(1, c).fill_(200);
    EXPECT_TRUE(sampled_targets(LossKind::cross_entropy, certain, 11).eq(c).all().item<bool>());
  }
}

TEST(Loss, BadArgumentsAreNamed) {
  const at::Tensor outputs = gaussian({2, 3}, 1), targets = classes({0, 2});
  EXPECT_SEIGH_ERROR(loss_sum({LossKind::cross_entropy, 1.5}, outputs, targets), "1.5");
  EXPECT_SEIGH_ERROR(loss_sum({LossKind::cross_entropy, std::nan("")}, outputs, targets), "nan");
  EXPECT_SEIGH_ERROR(loss_sum({LossKind::mean_squared_error, 0.1}, outputs, targets), "0.1",
                     "mean_squared_error");
  for (const Loss& loss : kLosses) {
    EXPECT_SEIGH_ERROR(loss_sum(loss, outputs, classes({0, 1, 2})), "[2, 3]", "[3]");
    EXPECT_SEIGH_ERROR(loss_sum(loss, outputs, targets.to(at::kInt)), "int64");
    EXPECT_SEIGH_ERROR(output_hessian_product(loss, outputs, targets, gaussian({3, 2}, 1)), "[3, 2]",
                       "[2, 3]");
  }
  EXPECT_SEIGH_ERROR(parse_loss("hinge"), "hinge", "cross_entropy");
  EXPECT_EQ(parse_loss(to_string(LossKind::mean_squared_error)), LossKind::mean_squared_error);
}

}  // namespace
}  // namespace seigh
