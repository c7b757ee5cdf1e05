// Training and evaluation on another device, here a pretended one (tests/support/pretended_device.h), which
// computes by the CPU's own kernels: everything is to be as on the CPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "seigh/core/context.h"
#include "seigh/core/device.h"
#include "seigh/core/device_memory.h"
#include "seigh/run/data.h"
#include "seigh/train/train.h"
#include "tests/support/every_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/pretended_device.h"

namespace seigh {
namespace {

using test::PretendedDevice;

// Rounding of float32, which some kernels leave in another order for tensors that lie otherwise, after a few
// steps.
constexpr double kSame = 1e-5;

class TrainedOnADevice : public ::testing::TestWithParam<test::ModelCase> {
 protected:
  ~TrainedOnADevice() override { PretendedDevice::set_limit(int64_t{1} << 40); }

  DataSplits data() const {
    return {"tiny", "", test::make_data(GetParam(), 20), {}, test::make_data(GetParam(), 9)};
  }
  Checkpoint initial() const { return {0, 0, 0, model_->initial_parameters(2), model_->initial_buffers()}; }
  TrainOptions options() const {
    TrainOptions options;
    options.steps = 6;
    options.batch_size = 8;  // two an epoch, four samples left out
    options.learning_rate = 0.05;
    options.checkpoint_steps = {0, 3, 6};
    return options;
  }
  std::map<int64_t, Checkpoint> run(const c10::Device& device, const TrainOptions& options,
                                    const Checkpoint& start) const {
    std::map<int64_t, Checkpoint> saved;
    train(
        *model_, data(), options, start, [&](const Checkpoint& c) { saved[c.step] = c; },
        Context().on(device));
    return saved;
  }
  static void expect_close(const at::Tensor& there, const at::Tensor& here, double same) {
    EXPECT_TRUE(there.is_cpu());
    EXPECT_LE((there - here).norm().item<double>(), same * here.norm().item<double>());
  }
  static void expect_same(const Checkpoint& there, const Checkpoint& here) {
    expect_close(there.parameters, here.parameters, kSame);
    ASSERT_EQ(there.buffers.size(), here.buffers.size());
    for (size_t i = 0; i < here.buffers.size(); ++i) expect_close(there.buffers[i], here.buffers[i], kSame);
    ASSERT_EQ(there.optimizer.size(), here.optimizer.size());
    for (const auto& [name, tensor] : here.optimizer)
      expect_close(there.optimizer.at(name), tensor, 10 * kSame);
    EXPECT_NEAR(there.loss, here.loss, kSame * here.loss);
    EXPECT_NEAR(there.train_loss, here.train_loss, kSame * here.train_loss);
    EXPECT_EQ(there.test_accuracy, here.test_accuracy);
  }

  const c10::Device there_ = PretendedDevice::device();
  const std::unique_ptr<Model> model_ = make_model(GetParam().model, GetParam().sample, GetParam().classes);
};

std::vector<OptimizerOptions> all_optimizers() {
  return {{},
          {.momentum = 0.9, .weight_decay = 0.01},
          {.kind = OptimizerKind::adamw, .weight_decay = 0.1, .epsilon = 1e-3}};
}

TEST_P(TrainedOnADevice, EndsWhereItEndsOnTheCpu) {
  PretendedDevice::rounded_to_tf32();
  for (const OptimizerOptions& optimizer : all_optimizers()) {
    TrainOptions o = options();
    o.optimizer = optimizer;
    const auto here = run(c10::kCPU, o, initial()), there = run(there_, o, initial());
    ASSERT_EQ(there.size(), 3U);
    for (const auto& [step, checkpoint] : here) expect_same(there.at(step), checkpoint);
    EXPECT_TRUE(at::equal(there.at(0).parameters, here.at(0).parameters));
    // From one device to the other and back.
    expect_same(run(there_, o, here.at(3)).at(6), here.at(6));
    expect_same(run(c10::kCPU, o, there.at(3)).at(6), here.at(6));
  }
  EXPECT_FALSE(PretendedDevice::rounded_to_tf32());
}

TEST_P(TrainedOnADevice, PrunedParametersStayZero) {
  TrainOptions o = options();
  o.pruned = at::arange(model_->parameter_count()).remainder(3).eq(1);
  o.optimizer = {.momentum = 0.9};
  const Checkpoint end = run(there_, o, initial()).at(6);
  EXPECT_EQ(end.parameters.masked_select(o.pruned).count_nonzero().item<int64_t>(), 0);
  expect_same(end, run(c10::kCPU, o, initial()).at(6));
}

INSTANTIATE_TEST_SUITE_P(EveryModel, TrainedOnADevice, ::testing::ValuesIn(test::every_model()),
                         [](const auto& of) { return of.param.name; });

class MlpOnADevice : public TrainedOnADevice {};

// Data that lie there give the same as data that are brought there by mini-batches.
TEST_P(MlpOnADevice, TakesDataWhereTheyLie) {
  const Context context = Context().on(there_);
  const DataSplits there = placed(data(), context);
  EXPECT_EQ(there.train.x.device(), there_);
  EXPECT_EQ(there.test.y.device(), there_);
  std::vector<at::Tensor> ends;
  for (const DataSplits& splits : {data(), there})
    train(
        *model_, splits, options(), initial(), [&](const Checkpoint& c) { ends.push_back(c.parameters); },
        context);
  ASSERT_EQ(ends.size(), 6U);
  EXPECT_TRUE(at::equal(ends[2], ends[5]));
  const auto bytes = static_cast<int64_t>(data().train.x.nbytes());
  PretendedDevice::set_limit(PretendedDevice::held() + 4 * bytes);
  EXPECT_TRUE(placed(data(), context).train.x.is_cpu()) << "not where they leave little room";
  PretendedDevice::set_limit(int64_t{1} << 40);
  const Context little = Context({.device = there_, .device_memory = PretendedDevice::held() + 4 * bytes});
  EXPECT_TRUE(placed(data(), little).train.x.is_cpu()) << "nor beyond the ceiling";
  EXPECT_TRUE(placed(data(), Context()).train.x.is_cpu());
}

// Losses are looked at together; the step is named all the same, and nothing is saved after it.
TEST_P(MlpOnADevice, SaysAtWhichStepItDiverged) {
  TrainOptions o = options();
  o.steps = 200;
  o.checkpoint_steps = {200};
  o.loss = LossKind::mean_squared_error;
  o.learning_rate = 1e6;
  std::vector<std::string> said;
  for (const c10::Device& device : {c10::Device(c10::kCPU), there_}) {
    try {
      run(device, o, initial());
    } catch (const Diverged& error) {
      said.push_back(error.what());
    }
  }
  ASSERT_EQ(said.size(), 2U);
  EXPECT_EQ(said[0], said[1]);
  EXPECT_NE(said[0].find(" at step "), std::string::npos);
}

TEST_P(MlpOnADevice, SaysThatItHasTooLittleMemory) {
  PretendedDevice::set_limit(PretendedDevice::held() + 100);
  EXPECT_SEIGH_ERROR(run(there_, options(), initial()), "too little memory on pretended:0 to train");
  PretendedDevice::set_limit(int64_t{1} << 40);
  const Context little = Context({.device = there_, .device_memory = PretendedDevice::held() + 100});
  TrainOptions o = options();
  o.checkpoint_steps = {6};  // no evaluation before the first mini-batch
  EXPECT_SEIGH_ERROR(train(
                         *model_, data(), o, initial(), [](const Checkpoint&) {}, little),
                     "training with mini-batches of 8 samples takes ",
                     "(--device-memory); lower train.batch_size");
}

// Evaluation is cut to what there is, and to what is allowed, with the same result.
TEST_P(MlpOnADevice, EvaluatesInPiecesThatFit) {
  const Checkpoint c = initial();
  const at::Tensor there = c.parameters.to(there_);
  std::vector<at::Tensor> x(60, data().test.x), y(60, data().test.y);
  const Dataset many{at::cat(x), at::cat(y), data().test.classes};
  const double share = accuracy(*model_, c.parameters, {}, many),
               loss = mean_loss(*model_, LossKind::cross_entropy, c.parameters, {}, many);
  DeviceMemory memory(there_);
  memory.reset_peak();
  const int64_t held = memory.held();
  EXPECT_EQ(accuracy(*model_, there, {}, many), share);
  const int64_t whole = memory.most() - held;
  const Context half = Context({.device = there_, .device_memory = held + whole / 2});
  memory.reset_peak();
  EXPECT_EQ(accuracy(*model_, there, {}, many, half), share);
  EXPECT_LE(memory.most() - held, whole / 2);
  PretendedDevice::set_limit(held + whole / 2);
  EXPECT_EQ(accuracy(*model_, there, {}, many), share);
  PretendedDevice::set_limit(int64_t{1} << 40);
  EXPECT_NEAR(mean_loss(*model_, LossKind::cross_entropy, there, {}, many, half), loss, 1e-6);
  const Context little = Context({.device = there_, .device_memory = held + 8});
  EXPECT_SEIGH_ERROR(accuracy(*model_, there, {}, many, little), "a sample takes ", "; raise that");
}

TEST_P(MlpOnADevice, ReadsNoLossOfSteps) {
  // What is looked at: each fiftieth step's losses, and each checkpoint's.
  TrainOptions o = options();
  o.steps = 120;
  o.checkpoint_steps = {70, 120};
  const auto here = run(c10::kCPU, o, initial()), there = run(there_, o, initial());
  for (const int64_t step : {70, 120}) EXPECT_NEAR(there.at(step).loss, here.at(step).loss, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Mlp, MlpOnADevice, ::testing::Values(test::every_model()[0]),
                         [](const auto& of) { return of.param.name; });

TEST(UsableDevice, IsOneThatIsThere) {
  EXPECT_EQ(usable_device("cpu"), c10::Device(c10::kCPU));
  EXPECT_EQ(usable_device("cpu:0"), c10::Device(c10::kCPU));
  EXPECT_EQ(usable_device("pretended"), PretendedDevice::device());
  EXPECT_EQ(usable_device("pretended:0"), PretendedDevice::device());
  EXPECT_SEIGH_ERROR(
      usable_device("pretended:1"),
      "device \"pretended:1\": there is one here, number 0; name one that is there, or compute");
  EXPECT_SEIGH_ERROR(usable_device("cpu:3"), "there is one CPU; name it cpu");
  EXPECT_SEIGH_ERROR(usable_device("gpu"), "knows no such device; name one as cuda, cuda:1 or cpu");
  EXPECT_SEIGH_ERROR(usable_device("cuda:x"), "knows no such device");
  EXPECT_SEIGH_ERROR(usable_device(""), "knows no such device");
  EXPECT_SEIGH_ERROR(usable_device("meta"), "it computes nothing");
  EXPECT_SEIGH_ERROR(usable_device("hpu"), "was built without HPU; ");
}

// Within scopes of such a context, whatever thread, and as the caller had it afterwards.
TEST(Context, IsDeterministicWhereAsked) {
  const auto set = [] { return at::globalContext().deterministicAlgorithms(); };
  const Context plain, context = Context({.threads = 2}).with_determinism(true);
  for (const bool theirs : {false, true}) {
    at::globalContext().setDeterministicAlgorithms(theirs, /*warn_only=*/true);
    {
      const Context::Scope scope(plain);
      EXPECT_EQ(set(), theirs);
      const Context::Scope inner(context);
      EXPECT_TRUE(set());
      EXPECT_FALSE(at::globalContext().deterministicAlgorithmsWarnOnly());
      context.on(PretendedDevice::device()).run_workers(2, [&](int) { EXPECT_TRUE(set()); });
    }
    EXPECT_EQ(set(), theirs);
    EXPECT_TRUE(at::globalContext().deterministicAlgorithmsWarnOnly());
  }
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST(Context, OnAnotherDeviceIsTheSame) {
  const Context context({.threads = 2, .device_memory = 1000});
  const Context other = context.on(PretendedDevice::device());
  EXPECT_TRUE(context.device().is_cpu());
  EXPECT_EQ(other.device(), PretendedDevice::device());
  EXPECT_EQ(other.threads(), 2);
  EXPECT_EQ(other.device_memory(), 1000);
  EXPECT_EQ(&other.ranks(), &context.ranks());
  EXPECT_EQ(&other.memory(), &context.memory());
}

}  // namespace
}  // namespace seigh
