#include "seigh/nn/script_module.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <fstream>
#include <thread>

#include "seigh/curvature/probe.h"
#include "seigh/nn/mlp.h"
#include "seigh/nn/subset.h"
#include "tests/support/expect_error.h"
#include "tests/support/second_derivative.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using torch::jit::Module;

// The fully connected network 3-4-2 with tanh as a module with a submodule, an unused parameter, one
// parameter under two names, a buffer, a counter and a plain attribute.
Module network(const at::Tensor& flat) {
  const std::vector<at::Tensor> p = unflatten(Mlp({3, 4, 2}, Activation::tanh).parameters(), flat);
  const auto own = [](const at::Tensor& t) { return t.clone().requires_grad_(true); };
  Module inner("Inner");
  inner.register_parameter("weight", own(p[0]), false);
  inner.register_parameter("bias", own(p[1]), false);
  inner.define("def forward(self, x):\n    return torch.tanh(torch.linear(x, self.weight, self.bias))\n");
  Module net("Net");
  net.register_module("inner", inner);
  net.register_parameter("unused", own(at::ones({3})), false);
  net.register_parameter("weight", own(p[2]), false);
  net.register_parameter("again", net.attr("weight").toTensor(), false);
  net.register_parameter("bias", own(p[3]), false);
  net.register_buffer("shift", at::zeros({2}));
  net.register_buffer("count", at::zeros({}, at::kLong));
  net.register_attribute("training", c10::BoolType::get(), true);
  net.register_attribute("scale", c10::TensorType::get(), at::ones({1}));
  net.define(R"(
def forward(self, x):
    h = self.inner.forward(x)
    y = torch.linear(h, (self.weight + self.again) / 2, self.bias * self.scale)
    if self.training:
        self.shift.copy_(y.detach().mean(0))
    return y - self.shift
)");
  return net;
}

class ScriptModelTest : public ::testing::Test {
 protected:
  ScriptModelTest() { network(flat_).save((folder_.path() / "net.pt").string()); }

  std::string path() const { return (folder_.path() / "net.pt").string(); }
  // As the module counts: inner.weight, inner.bias, unused, weight, bias.
  at::Tensor with_unused(const at::Tensor& flat) const {
    return at::cat({flat.slice(0, 0, 16), at::ones({3}, flat.options()), flat.slice(0, 16)});
  }

  test::TempFolder folder_;
  Mlp mlp_{{3, 4, 2}, Activation::tanh};
  at::Tensor flat_ = test::generic_point(mlp_, 3).to(at::kFloat);
  Dataset data_ = test::gaussian_data(8, 3, 2);
};

TEST_F(ScriptModelTest, ParametersAndBuffersInRegistrationOrder) {
  const ScriptModel model(path());
  std::vector<std::string> names;
  for (const ParameterSpec& p : model.parameters()) names.push_back(p.name);
  EXPECT_EQ(names, (std::vector<std::string>{"inner.weight", "inner.bias", "unused", "weight", "bias"}));
  ASSERT_EQ(model.buffers().size(), 1U);
  EXPECT_EQ(model.buffers()[0].name, "shift");
  EXPECT_TRUE(at::equal(model.initial_parameters(1), with_unused(flat_)));
}

TEST_F(ScriptModelTest, PrecisionFrozenParametersAndOtherNamesAreKept) {
  Module net = network(flat_.to(at::kDouble) + 1e-12);
  net.attr("bias").toTensor().set_requires_grad(false);
  net.save(path());
  const ScriptModel model(path());
  const at::Tensor p = model.initial_parameters(0);
  EXPECT_EQ(p.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(p.slice(0, 0, 16), flat_.to(at::kDouble).slice(0, 0, 16) + 1e-12));
  ASSERT_EQ(model.parameters().size(), 4U);
  EXPECT_EQ(model.parameters()[3].aliases, std::vector<std::string>{"again"});
  EXPECT_EQ(select_parameters(model.parameters(), {"again"}).specs.front().name, "weight");
  EXPECT_EQ(model.buffers()[0].name, "bias");
  EXPECT_EQ(model.initial_buffers()[0].scalar_type(), at::kDouble);
  ASSERT_EQ(model.notes().size(), 1U);
  EXPECT_NE(model.notes()[0].find("frozen (requires_grad=False) and left out of the matrix: bias"),
            std::string::npos);
  // It runs in either precision, with its buffers as they are.
  const at::Tensor f = model.forward(unflatten(model.parameters(), p), model.initial_buffers(), data_.x);
  const at::Tensor g =
      model.forward(unflatten(model.parameters(), p.to(at::kFloat)), model.initial_buffers(), data_.x);
  EXPECT_LT((f - g).abs().max().item<double>(), 1e-5);
  for (const char* name : {"inner.weight", "inner.bias", "unused", "weight"}) {
    Module at = net;
    std::string last = name;
    if (last.starts_with("inner.")) at = net.attr("inner").toModule(), last = last.substr(6);
    at.attr(last).toTensor().set_requires_grad(false);
  }
  net.save(path());
  EXPECT_SEIGH_ERROR(ScriptModel{path()}, "all parameters are frozen", "requires_grad_(True)");
}

TEST_F(ScriptModelTest, SecondDerivativesAreThoseOfTheSameNetworkWrittenHere) {
  const ScriptModel model(path());
  const at::Tensor p = flat_.to(at::kDouble), v = test::random_direction(mlp_.parameter_count(), 5);
  const at::Tensor x = data_.x.to(at::kDouble);
  const at::Tensor expected = test::MeanLoss(mlp_, x, data_.y).hessian_product(p, v);
  const at::Tensor product =
      test::MeanLoss(model, x, data_.y).hessian_product(with_unused(p), with_unused(v));
  // A few dozen sums of 8 terms of order one.
  const double tolerance = 1e-14;
  EXPECT_LT((product.slice(0, 0, 16) - expected.slice(0, 0, 16)).abs().max().item<double>(), tolerance);
  EXPECT_LT((product.slice(0, 19) - expected.slice(0, 16)).abs().max().item<double>(), tolerance);
  EXPECT_EQ(product.slice(0, 16, 19).abs().max().item<double>(), 0);
}

TEST_F(ScriptModelTest, ThreadsDoNotDisturbEachOther) {
  const ScriptModel model(path());
  constexpr int kThreads = 4, kCalls = 50;
  std::vector<double> worst(kThreads, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const at::Tensor p = flat_ * (1 + t);
      const std::vector<at::Tensor> mine = unflatten(model.parameters(), with_unused(p));
      const at::Tensor expected = mlp_.forward(unflatten(mlp_.parameters(), p), {}, data_.x);
      for (int i = 0; i < kCalls; ++i) {
        worst[t] =
            std::max(worst[t], (model.forward(mine, {}, data_.x) - expected).abs().max().item<double>());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double error : worst) EXPECT_LT(error, 1e-5);
  EXPECT_TRUE(at::equal(model.initial_parameters(1), with_unused(flat_)));
}

TEST_F(ScriptModelTest, TrainingModeUpdatesTheBuffersGivenAndNoOthers) {
  const ScriptModel model(path());
  const std::vector<at::Tensor> p = unflatten(model.parameters(), with_unused(flat_));
  std::vector<at::Tensor> buffers = model.initial_buffers();
  model.forward(p, buffers, data_.x, /*training=*/true);
  EXPECT_GT(buffers[0].abs().max().item<double>(), 0);
  EXPECT_EQ(model.initial_buffers()[0].abs().max().item<double>(), 0);
}

TEST_F(ScriptModelTest, ALossOfOnesOwnAgreesWithTheBuiltInOne) {
  Module module("Loss");
  module.register_buffer("weight", at::ones({2}));
  module.define(
      "def forward(self, outputs, targets):\n"
      "    return -torch.log_softmax(outputs, 1).gather(1, targets.unsqueeze(1)).mean() * "
      "self.weight.mean()\n");
  const std::string file = (folder_.path() / "loss.pt").string();
  module.save(file);
  const Loss loss(load_script_loss(file));
  const at::Tensor f = random_gaussian(1, Stream::test, 5, 0, 2, at::kDouble), y = at::arange(5).remainder(2),
                   u = random_gaussian(2, Stream::test, 15, 0, 2, at::kDouble).reshape({3, 5, 2});
  EXPECT_NEAR(loss_sum(loss, f, y).item<double>(), loss_sum(LossKind::cross_entropy, f, y).item<double>(),
              1e-13);
  EXPECT_LT((output_hessian_product(loss, f, y, u) - output_hessian_product(LossKind::cross_entropy, f, y, u))
                .abs()
                .max()
                .item<double>(),
            1e-13);
  EXPECT_SEIGH_ERROR(sampled_targets(loss, f, 1), "custom");
  EXPECT_SEIGH_ERROR(loss_sum(loss, f, y.slice(0, 1)), "loss.pt", "same samples");
}

TEST_F(ScriptModelTest, ProbeGivesTheClassesAndRefusesWhatDoesNotFit) {
  const ScriptModel model(path());
  const auto run = [&](const Loss& loss, const Dataset& data, at::ScalarType dtype = at::kFloat) {
    return probe(model, loss, data, model.initial_parameters(0), model.initial_buffers(), dtype, "net.pt");
  };
  EXPECT_EQ(run(LossKind::cross_entropy, data_), 2);
  EXPECT_EQ(run(LossKind::cross_entropy, data_, at::kDouble), 2);
  EXPECT_EQ(run(LossKind::mean_squared_error, {data_.x, at::zeros({8, 2}), 0}), 2);
  EXPECT_SEIGH_ERROR(run(LossKind::cross_entropy, {data_.x, data_.y + 1, 0}), "net.pt", "class 2");
  EXPECT_SEIGH_ERROR(run(LossKind::cross_entropy, {data_.x, at::zeros({8, 2}), 0}), "int64");
  EXPECT_SEIGH_ERROR(run(LossKind::mean_squared_error, {data_.x, at::zeros({8, 3}), 0}), "[4, 3]");
  EXPECT_SEIGH_ERROR(run(LossKind::cross_entropy, {at::zeros({8, 5}), data_.y, 0}), "net.pt",
                     "fails on this input");
}

TEST_F(ScriptModelTest, FilesThatAreNoModules) {
  const auto write = [&](const std::string& content) {
    const std::string file = (folder_.path() / "bad.pt").string();
    std::ofstream(file, std::ios::binary) << content;
    return file;
  };
  std::ifstream in(path(), std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(in), {}};
  EXPECT_SEIGH_ERROR(ScriptModel("/nowhere/net.pt"), "/nowhere/net.pt");
  EXPECT_SEIGH_ERROR(ScriptModel(write("")), "bad.pt", "no TorchScript file");
  EXPECT_SEIGH_ERROR(ScriptModel(write(good.substr(0, good.size() / 2))), "bad.pt", "cut short");
  EXPECT_SEIGH_ERROR(load_script_loss(write("text")), "bad.pt", "no TorchScript file");
}

}  // namespace
}  // namespace seigh
