#include "seigh/problem/train.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "seigh/base/parallel.h"
#include "seigh/problem/mlp.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

DataSplits tiny_splits() {
  return {"tiny", "", test::gaussian_data(60, 6, 3, 1), test::gaussian_data(6, 6, 3, 2),
          test::gaussian_data(30, 6, 3, 3)};
}

const Mlp kModel({6, 5, 3}, Activation::tanh);

Checkpoint initial(const at::Tensor& parameters) {
  return {0, 0, 0, parameters, {}};
}
Checkpoint initial(uint64_t seed) {
  return initial(kModel.initial_parameters(seed));
}

TrainOptions tiny_options() {
  TrainOptions options;
  options.steps = 12;
  options.batch_size = 25;  // two whole mini-batches an epoch, ten samples left out
  options.checkpoint_steps = {0, 5, 12};
  return options;
}

std::map<int64_t, Checkpoint> run(const TrainOptions& options, Checkpoint start) {
  std::map<int64_t, Checkpoint> saved;
  train(kModel, tiny_splits(), options, std::move(start), [&](const Checkpoint& c) { saved[c.step] = c; });
  return saved;
}

TEST(Train, KeepsTheCheckpointsAskedForAndLearns) {
  const auto saved = run(tiny_options(), initial(uint64_t{1}));
  ASSERT_EQ(saved.size(), 3u);
  EXPECT_TRUE(at::equal(saved.at(0).parameters, kModel.initial_parameters(1)));
  EXPECT_NEAR(saved.at(0).loss, std::log(3.0), 0.5);
  TrainOptions longer = tiny_options();
  longer.steps = 300;
  longer.checkpoint_steps = {300};
  EXPECT_LT(run(longer, initial(uint64_t{1})).at(300).loss, 0.7 * saved.at(0).loss);
}

TEST(Train, OneStepIsOneStepOfGradientDescent) {
  TrainOptions options = tiny_options();
  options.steps = 1;
  options.checkpoint_steps = {1};
  const at::Tensor start = kModel.initial_parameters(1);
  const Dataset batch = tiny_splits().train.select(batch_indices(options, 60, 1));
  const at::Tensor expected =
      start - options.learning_rate * test::plain_gradient(kModel, start, batch, LossKind::cross_entropy);
  // Float32 training against a float64 gradient.
  EXPECT_LT((run(options, initial(start)).at(1).parameters - expected).abs().max().item<double>(), 1e-6);
}

TEST(Train, ContinuingFromACheckpointRepeatsTheRun) {
  const auto whole = run(tiny_options(), initial(uint64_t{1}));
  const auto rest = run(tiny_options(), whole.at(5));
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_TRUE(at::equal(rest.at(12).parameters, whole.at(12).parameters));
  EXPECT_EQ(rest.at(12).loss, whole.at(12).loss);
}

TEST(Train, MiniBatchesDependOnSeedAndStepAlone) {
  const TrainOptions options = tiny_options();
  set_threads(1);
  const at::Tensor one = batch_indices(options, 60, 7);
  set_threads(2);
  EXPECT_TRUE(at::equal(one, batch_indices(options, 60, 7)));
  // The two mini-batches of an epoch share no sample; the next epoch is shuffled anew.
  const at::Tensor epoch = at::cat({batch_indices(options, 60, 1), batch_indices(options, 60, 2)});
  EXPECT_EQ(std::get<0>(at::_unique(epoch)).numel(), 50);
  EXPECT_FALSE(at::equal(batch_indices(options, 60, 1), batch_indices(options, 60, 3)));
}

TEST(Train, DivergenceIsAnErrorThatNamesTheStep) {
  TrainOptions options = tiny_options();
  options.learning_rate = 3e38;
  EXPECT_SEIGH_ERROR(run(options, initial(uint64_t{1})), "diverged");
}

TEST(Train, RefusesImpossibleOptions) {
  TrainOptions options = tiny_options();
  options.batch_size = 61;
  EXPECT_SEIGH_ERROR(options.validate(60), "batch_size");
  options = tiny_options();
  options.learning_rate = -1;
  EXPECT_SEIGH_ERROR(options.validate(60), "learning_rate");
  options = tiny_options();
  options.checkpoint_steps = {13};
  EXPECT_SEIGH_ERROR(options.validate(60), "outside 0..12");
}

TEST(Accuracy, CountsByHand) {
  // One output wins everywhere: a bias and no weights.
  at::Tensor parameters = at::zeros({kModel.parameter_count()});
  parameters[-2] = 1;                                  // bias of class 1
  const Dataset data = test::gaussian_data(10, 6, 3);  // classes 0 1 2 0 1 2 0 1 2 0: three of class 1
  EXPECT_DOUBLE_EQ(accuracy(kModel, parameters, {}, data), 0.3);
}

TEST(Checkpoint, RoundTrip) {
  const test::TempFolder folder;
  const Checkpoint c{7, 0.1, 1.0 / 3, kModel.initial_parameters(2), {}};
  write_checkpoint(folder.path() / "c.safetensors", kModel, c);
  const Checkpoint back = read_checkpoint(folder.path() / "c.safetensors", kModel);
  EXPECT_EQ(back.step, 7);
  EXPECT_EQ(back.loss, 0.1);
  EXPECT_EQ(back.test_accuracy, 1.0 / 3);
  EXPECT_TRUE(at::equal(back.parameters, c.parameters));
  EXPECT_EQ(step_name(100), "step_000100");
}

TEST(Checkpoint, OfAnotherModelIsRefused) {
  const test::TempFolder folder;
  const Checkpoint c = initial(uint64_t{2});
  write_checkpoint(folder.path() / "c.safetensors", kModel, c);
  EXPECT_SEIGH_ERROR(read_checkpoint(folder.path() / "c.safetensors", Mlp({6, 4, 3}, Activation::tanh)),
                     "has shape");
  EXPECT_SEIGH_ERROR(read_checkpoint(folder.path() / "c.safetensors", Mlp({6, 5, 3, 3}, Activation::tanh)),
                     "missing");
}

TEST(Mlp, HasThePublishedSizeAndInitialisation) {
  const Mlp model({256, 20, 20, 20, 20, 20, 10}, Activation::tanh);
  EXPECT_EQ(model.parameter_count(), 7030);
  const at::Tensor p = model.initial_parameters(12345);
  EXPECT_TRUE(at::equal(p, model.initial_parameters(12345)));
  EXPECT_FALSE(at::equal(p, model.initial_parameters(12346)));
  const auto pieces = unflatten(model.parameters(), p);
  // Uniform in +-1/sqrt(fan_in): bounds for all, and the variance of 5120 weights to 5 standard errors (0.9
  // of it each sqrt(4/5)/sqrt(5120)).
  for (size_t i = 0; i < pieces.size(); ++i) {
    const double bound = 1 / std::sqrt(i < 2 ? 256.0 : 20.0);
    EXPECT_LE(pieces[i].abs().max().item<double>(), bound * (1 + 1e-6));
    EXPECT_GT(pieces[i].abs().max().item<double>(), 0.7 * bound);
  }
  EXPECT_NEAR(pieces[0].to(at::kDouble).square().mean().item<double>() * 3 * 256, 1,
              5 * std::sqrt(0.8 / 5120));
}

TEST(Mlp, ForwardByHand) {
  const Mlp model({2, 2, 1}, Activation::relu);
  const at::Tensor p = at::tensor({1.0, 2.0, -1.0, 1.0, 0.5, -0.5, 2.0, 3.0, 0.25}, at::kDouble);
  // h = relu([1 + 4 + .5, -1 + 2 - .5]) = [5.5, .5]; out = 11 + 1.5 + .25
  const at::Tensor out = model.forward(unflatten(model.parameters(), p), {},
                                       at::tensor({1.0, 2.0}, at::kDouble).reshape({1, 2}));
  EXPECT_DOUBLE_EQ(out.item<double>(), 12.75);
  EXPECT_SEIGH_ERROR(model.forward(unflatten(model.parameters(), p), {}, at::ones({1, 3}, at::kDouble)),
                     "first width is 2");
}

TEST(Mlp, RefusesImpossibleWidths) {
  EXPECT_SEIGH_ERROR(Mlp({5}, Activation::tanh), "at least an input and an output");
  EXPECT_SEIGH_ERROR(Mlp({5, 0, 2}, Activation::tanh), "width of 0");
  EXPECT_SEIGH_ERROR(parse_activation("sigmoid"), "choose tanh");
}

}  // namespace
}  // namespace seigh
