#include "seigh/train/train.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "seigh/core/context.h"
#include "seigh/io/safetensors.h"
#include "seigh/nn/mlp.h"
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

std::vector<OptimizerOptions> all_optimizers() {
  return {{},
          {.weight_decay = 0.01},
          {.momentum = 0.9, .weight_decay = 0.01},
          {.kind = OptimizerKind::adamw, .weight_decay = 0.1}};
}

// From step 5 on with its optimizer's state, which would move every parameter.
TEST(Train, PrunedParametersStayZero) {
  const at::Tensor pruned = at::arange(kModel.parameter_count()).remainder(3).eq(1);
  for (const OptimizerOptions& optimizer : all_optimizers()) {
    TrainOptions options = tiny_options();
    options.optimizer = optimizer;
    const Checkpoint start = run(options, initial(uint64_t{1})).at(5);
    options.pruned = pruned;
    const at::Tensor end = run(options, start).at(12).parameters;
    EXPECT_EQ(end.masked_select(pruned).count_nonzero().item<int64_t>(), 0);
    EXPECT_GT((end - start.parameters).masked_select(~pruned).abs().min().item<double>(), 0);
    EXPECT_GT(start.parameters.masked_select(pruned).abs().min().item<double>(), 0);  // as it was
  }
}

TEST(Train, AStepOfAPrunedNetworkIsAStepOfItsOtherParameters) {
  TrainOptions options = tiny_options();
  options.steps = 1;
  options.checkpoint_steps = {1};
  options.pruned = at::arange(kModel.parameter_count()).remainder(3).eq(1);
  const at::Tensor left = kModel.initial_parameters(1).masked_fill(options.pruned, 0);
  const Dataset batch = tiny_splits().train.select(batch_indices(options, 60, 1));
  const at::Tensor gradient = test::plain_gradient(kModel, left, batch, LossKind::cross_entropy);
  const at::Tensor expected = left - options.learning_rate * gradient.masked_fill(options.pruned, 0);
  EXPECT_GT(gradient.masked_select(options.pruned).abs().max().item<double>(), 1e-3);
  EXPECT_LT((run(options, initial(kModel.initial_parameters(1))).at(1).parameters - expected)
                .abs()
                .max()
                .item<double>(),
            1e-6);
}

TEST(Train, ContinuingFromACheckpointFileRepeatsTheRunBitwise) {
  const test::TempFolder folder;
  for (const OptimizerOptions& optimizer : all_optimizers()) {
    TrainOptions options = tiny_options();
    options.optimizer = optimizer;
    options.learning_rate = 0.05;
    options.schedule = {.kind = Schedule::Kind::cosine, .warmup = 3, .steps = options.steps};
    const auto whole = run(options, initial(uint64_t{1}));
    write_checkpoint(folder / "5.safetensors", kModel, whole.at(5));
    const auto rest = run(options, read_checkpoint(folder / "5.safetensors", kModel));
    ASSERT_EQ(rest.size(), 1u);
    EXPECT_TRUE(at::equal(rest.at(12).parameters, whole.at(12).parameters));
    EXPECT_EQ(rest.at(12).loss, whole.at(12).loss);
    EXPECT_EQ(rest.at(12).optimizer.size(), whole.at(12).optimizer.size());
    for (const auto& [name, tensor] : whole.at(12).optimizer)
      EXPECT_TRUE(at::equal(rest.at(12).optimizer.at(name), tensor)) << name;
  }
}

TEST(Train, OptimizersDifferAndTheirStateIsNeeded) {
  std::vector<at::Tensor> ends;
  for (const OptimizerOptions& optimizer : all_optimizers()) {
    TrainOptions options = tiny_options();
    options.optimizer = optimizer;
    options.learning_rate = 0.05;
    auto saved = run(options, initial(uint64_t{1}));
    for (const at::Tensor& other : ends) EXPECT_FALSE(at::equal(saved.at(12).parameters, other));
    ends.push_back(saved.at(12).parameters);
    EXPECT_TRUE(saved.at(0).optimizer.empty());  // known without a file
    const bool remembers = !saved.at(5).optimizer.empty();
    EXPECT_EQ(remembers, optimizer.momentum > 0 || optimizer.kind == OptimizerKind::adamw);
    saved.at(5).optimizer.clear();
    if (remembers) EXPECT_SEIGH_ERROR(run(options, saved.at(5)), "step 5 lacks the optimizer's");
  }
}

TEST(Train, PlainSgdIsBitwiseTheLoopByHand) {
  TrainOptions options = tiny_options();
  options.steps = 3;
  options.checkpoint_steps = {3};
  at::Tensor parameters = kModel.initial_parameters(1);
  for (int64_t step = 1; step <= 3; ++step) {
    const Dataset batch = tiny_splits().train.select(batch_indices(options, 60, step));
    const at::Tensor leaf = parameters.detach().requires_grad_(true);
    const at::Tensor loss =
        loss_sum(options.loss, kModel.forward(unflatten(kModel.parameters(), leaf), {}, batch.x), batch.y) /
        25;
    parameters = parameters.sub(torch::autograd::grad({loss}, {leaf})[0], 0.3);
  }
  EXPECT_TRUE(at::equal(run(options, initial(uint64_t{1})).at(3).parameters, parameters));
}

TEST(Train, LabelSmoothingChangesTheLoss) {
  TrainOptions options = tiny_options();
  const double plain = run(options, initial(uint64_t{1})).at(0).loss;
  options.loss = {LossKind::cross_entropy, 0.5};
  const auto smoothed = run(options, initial(uint64_t{1}));
  const Dataset batch = tiny_splits().train.select(batch_indices(options, 60, 1));
  const at::Tensor outputs =
      kModel.forward(unflatten(kModel.parameters(), kModel.initial_parameters(1)), {}, batch.x);
  EXPECT_FLOAT_EQ(smoothed.at(0).loss, (loss_sum(options.loss, outputs, batch.y) / 25).item<double>());
  EXPECT_NE(smoothed.at(0).loss, plain);
}

TEST(Train, MiniBatchesDependOnSeedAndStepAlone) {
  const TrainOptions options = tiny_options();
  at::set_num_threads(1);
  const at::Tensor one = batch_indices(options, 60, 7);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(one, batch_indices(options, 60, 7)));
  // The two mini-batches of an epoch share no sample; the next epoch is shuffled anew.
  const at::Tensor epoch = at::cat({batch_indices(options, 60, 1), batch_indices(options, 60, 2)});
  EXPECT_EQ(std::get<0>(at::_unique(epoch)).numel(), 50);
  EXPECT_FALSE(at::equal(batch_indices(options, 60, 1), batch_indices(options, 60, 3)));
}

TEST(Train, DivergenceIsAnErrorThatNamesTheStep) {
  for (const OptimizerOptions& optimizer : all_optimizers()) {
    TrainOptions options = tiny_options();
    options.optimizer = optimizer;
    options.learning_rate = 3e38;
    std::vector<int64_t> kept;
    EXPECT_SEIGH_ERROR(train(kModel, tiny_splits(), options, initial(uint64_t{1}),
                             [&](const Checkpoint& c) { kept.push_back(c.step); }),
                       "diverged", "at step", "train.learning_rate");
    EXPECT_EQ(kept, std::vector<int64_t>{0});  // what came before stays
  }
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
  options = tiny_options();
  options.optimizer.momentum = 1;
  EXPECT_SEIGH_ERROR(options.validate(60), "momentum");
  options = tiny_options();
  options.schedule.warmup = -1;
  EXPECT_SEIGH_ERROR(options.validate(60), "warm-up");
  options = tiny_options();
  options.loss = {LossKind::mean_squared_error, 0.1};
  EXPECT_SEIGH_ERROR(options.validate(60), "label smoothing");
}

TEST(Accuracy, CountsByHand) {
  // One output wins everywhere: a bias and no weights.
  at::Tensor parameters = at::zeros({kModel.parameter_count()});
  parameters[-2] = 1;                                  // bias of class 1
  const Dataset data = test::gaussian_data(10, 6, 3);  // classes 0 1 2 0 1 2 0 1 2 0: three of class 1
  EXPECT_DOUBLE_EQ(accuracy(kModel, parameters, {}, data), 0.3);
}

TEST(Accuracy, OfSequencesCountsTokens) {
  // A "sequence" model whose outputs are its inputs one-hot: right where y equals x.
  class Copy final : public Model {
   public:
    std::string description() const override { return "copy"; }
    at::Tensor initial_parameters(uint64_t) const override { return at::zeros({0}); }
    at::Tensor forward(const std::vector<at::Tensor>&, const std::vector<at::Tensor>&, const at::Tensor& x,
                       bool) const override {
      return at::one_hot(x, 4).to(at::kFloat);
    }
  };
  const at::Tensor x = at::arange(12).remainder(4).reshape({3, 4});
  at::Tensor y = x.clone();
  y[1][2] = 0;
  y[2][0] = 1;
  y[2][3] = 0;
  EXPECT_DOUBLE_EQ(accuracy(Copy(), at::zeros({0}), {}, {x, y, 4}), 9.0 / 12);
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

TEST(Checkpoint, HoldsTheOptimizersStateByParameter) {
  const test::TempFolder folder;
  Checkpoint c{7, 0.1, 0.5, kModel.initial_parameters(2), {}};
  write_checkpoint(folder / "plain.safetensors", kModel, c);
  EXPECT_TRUE(read_checkpoint(folder / "plain.safetensors", kModel).optimizer.empty());
  EXPECT_EQ(read_safetensors(folder / "plain.safetensors").tensors.size(), 4u);
  c.optimizer = {{"first_moment", kModel.initial_parameters(3)},
                 {"second_moment", kModel.initial_parameters(4)}};
  write_checkpoint(folder / "c.safetensors", kModel, c);
  const Checkpoint back = read_checkpoint(folder / "c.safetensors", kModel);
  ASSERT_EQ(back.optimizer.size(), 2u);
  for (const auto& [name, tensor] : c.optimizer) EXPECT_TRUE(at::equal(back.optimizer.at(name), tensor));
  EXPECT_TRUE(at::equal(back.parameters, c.parameters));
  NamedTensors content = read_safetensors(folder / "c.safetensors");
  const at::Tensor* weight = content.find("optimizer.first_moment.layers.1.weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->sizes(), at::IntArrayRef({3, 5}));
  content.tensors.pop_back();
  write_safetensors(folder / "c.safetensors", content);
  EXPECT_SEIGH_ERROR(read_checkpoint(folder / "c.safetensors", kModel), "c.safetensors",
                     "optimizer.second_moment.layers.1.bias is missing");
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
