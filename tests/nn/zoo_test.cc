#include "seigh/nn/zoo.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "seigh/core/random.h"
#include "seigh/nn/hidden_units.h"
#include "tests/support/expect_error.h"
#include "tests/support/second_derivative.h"

namespace seigh {
namespace {

using Shape = std::vector<int64_t>;

// The networks are tiny: more threads would only wait for each other.
class Zoo : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

at::Tensor gaussian(Shape shape, uint64_t seed = 5) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return random_gaussian(seed, Stream::test, n, 0, 1, at::kFloat).reshape(shape);
}

// Whole numbers 0..classes-1, uniform.
at::Tensor tokens(Shape shape, int64_t classes, uint64_t seed = 6) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return (random_uniform(seed, Stream::test, n) * classes).floor().to(at::kLong).reshape(shape);
}

at::Tensor outputs(const Model& model, const at::Tensor& parameters, const at::Tensor& x) {
  return model.forward(unflatten(model.parameters(), parameters), model.initial_buffers(), x);
}

// A tiny network of some kind with inputs and targets for it.
struct Tiny {
  std::string name;
  std::unique_ptr<Model> model;
  at::Tensor x, y;
};

std::vector<Tiny> tiny_models() {
  std::vector<Tiny> all;
  const auto add = [&](const std::string& name, const ModelOptions& options, const Shape& shape,
                       int64_t classes) {
    Shape batch = shape;
    batch.insert(batch.begin(), 4);
    const bool text = options.kind == "transformer";
    all.push_back({name, make_model(options, shape, classes), text ? tokens(batch, classes) : gaussian(batch),
                   text ? tokens(batch, classes, 7) : tokens({4}, classes, 7)});
  };
  for (const Activation activation : {Activation::tanh, Activation::relu, Activation::gelu}) {
    ModelOptions mlp{.kind = "mlp"};
    mlp.mlp = {{12, 10}, activation};
    add("mlp " + to_string(activation), mlp, {1, 8, 8}, 5);
  }
  ModelOptions c{.kind = "3c3d"};
  c.three_c3d = {{3, 4, 5}, {12, 8}};
  add("3c3d", c, {3, 32, 32}, 5);
  add("3c3d odd", c, {1, 27, 30}, 5);
  ModelOptions a{.kind = "all-cnn-c"};
  a.all_cnn = {{4, 6}};
  add("all-cnn-c", a, {3, 16, 17}, 5);
  for (const auto stem : {ResNetOptions::Stem::cifar, ResNetOptions::Stem::imagenet}) {
    for (const auto norm :
         {ResNetOptions::Norm::batch, ResNetOptions::Norm::group, ResNetOptions::Norm::none}) {
      ModelOptions r{.kind = "resnet18"};
      r.resnet = {.stem = stem, .norm = norm, .groups = 2, .width = 4, .blocks = {2, 2, 2, 2}};
      const bool small = stem == ResNetOptions::Stem::cifar;
      add(std::string("resnet18 ") + (small ? "cifar" : "imagenet") +
              (norm == ResNetOptions::Norm::batch   ? " batch"
               : norm == ResNetOptions::Norm::group ? " group"
                                                    : " no norm"),
          r, {3, small ? 16 : 40, small ? 16 : 40}, 5);
    }
  }
  ModelOptions v{.kind = "vit"};
  v.vit = {.patch = 4, .width = 12, .depth = 2, .heads = 3, .mlp_ratio = 2};
  add("vit", v, {3, 8, 12}, 5);
  for (const int64_t experts : {0, 1, 3}) {
    for (const bool tied : {true, false}) {
      ModelOptions t{.kind = "transformer"};
      t.transformer = {.width = 12,
                       .depth = 2,
                       .heads = 3,
                       .mlp_ratio = 2,
                       .tied = tied,
                       .experts = experts,
                       .chosen = experts == 1 || (experts == 3 && tied) ? 1 : 2};
      add("transformer " + std::to_string(experts) + (tied ? " tied" : ""), t, {6}, 7);
    }
  }
  return all;
}

TEST_F(Zoo, HiddenUnitsMayChangePlaces) {
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    const std::vector<ParameterSpec>& specs = tiny.model->parameters();
    // Away from what the initial values have in common.
    const at::Tensor theta =
        tiny.model->initial_parameters(1) + .1 * gaussian({tiny.model->parameter_count()}, 9);
    const at::Tensor y = outputs(*tiny.model, theta, tiny.x);
    std::vector<at::Tensor> pieces = unflatten(specs, theta.clone());
    std::vector<char> moved(specs.size());
    const std::vector<HiddenUnits> groups = tiny.model->hidden_units();
    for (size_t g = 0; g < groups.size(); ++g) {
      ASSERT_GE(groups[g].count, 2);
      const at::Tensor places = random_permutation(3, Stream::test, groups[g].count, static_cast<int64_t>(g));
      for (const HiddenUnits::Block& block : groups[g].blocks) {
        at::Tensor& piece = pieces[block.tensor];
        piece = piece.reshape({block.outer, groups[g].count, block.inner})
                    .index_select(1, places)
                    .reshape(specs[block.tensor].shape);
        moved[block.tensor] = 1;
      }
    }
    const at::Tensor other = flatten(pieces);
    EXPECT_GT((other - theta).norm().item<double>(), .1 * theta.norm().item<double>());
    EXPECT_TRUE(
        at::allclose(outputs(*tiny.model, other, tiny.x), y, 1e-3, 1e-4 * y.abs().max().item<double>()));
    // What no unit has a part in is the bias of the outputs alone.
    for (size_t t = 0; t < specs.size(); ++t) {
      const bool last = t + 1 == specs.size() && specs[t].name.ends_with(".bias") && specs[t].shape[0] == 5;
      EXPECT_EQ(moved[t] == 0, last) << specs[t].name;
    }
  }
}

TEST_F(Zoo, HiddenUnitsAreKeptAsText) {
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    std::vector<ParameterSpec> specs = tiny.model->parameters();
    for (ParameterSpec& spec : specs) spec.parts = 1;
    const std::vector<HiddenUnits> units = tiny.model->hidden_units();
    const std::vector<HiddenUnits> again = read_units_text(units_text(*tiny.model), specs);
    ASSERT_EQ(again.size(), units.size());
    for (size_t g = 0; g < units.size(); ++g) {
      EXPECT_EQ(again[g].count, units[g].count);
      ASSERT_EQ(again[g].blocks.size(), units[g].blocks.size());
      for (size_t b = 0; b < units[g].blocks.size(); ++b) {
        EXPECT_EQ(again[g].blocks[b].tensor, units[g].blocks[b].tensor);
        EXPECT_EQ(again[g].blocks[b].outer, units[g].blocks[b].outer);
        EXPECT_EQ(again[g].blocks[b].inner, units[g].blocks[b].inner);
      }
    }
    for (size_t t = 0; t < specs.size(); ++t) EXPECT_EQ(specs[t].parts, tiny.model->parameters()[t].parts);
  }
  std::vector<ParameterSpec> specs{{"a.weight", {4, 3}}, {"a.bias", {4}}};
  EXPECT_TRUE(read_units_text("", specs).empty());
  EXPECT_SEIGH_ERROR(read_units_text("{", specs), "damaged");
  EXPECT_SEIGH_ERROR(read_units_text("[3]", specs), "damaged");
  EXPECT_SEIGH_ERROR(read_units_text(R"({"units": 7})", specs), "damaged");
  EXPECT_SEIGH_ERROR(read_units_text(R"({"units": [[4, [[7, 1, 3]]]]})", specs), "not there");
  EXPECT_SEIGH_ERROR(read_units_text(R"({"units": [[5, [[0, 1, 3]]]]})", specs), "a.weight", "5 units");
  EXPECT_SEIGH_ERROR(read_units_text(R"({"units": [[0, [[0, 1, 3]]]]})", specs), "a.weight");
  EXPECT_SEIGH_ERROR(read_units_text(R"({"tensors": [[0, 5, 0]]})", specs), "a.weight", "5 parts");
}

TEST_F(Zoo, ParameterCountsAreThePublishedOnes) {
  const Shape cifar = {3, 32, 32}, imagenet = {3, 224, 224};
  const auto count = [](const ModelOptions& options, const Shape& shape, int64_t classes) {
    return make_model(options, shape, classes)->parameter_count();
  };
  EXPECT_EQ(count({.kind = "mlp"}, {1, 16, 16}, 10), 7030);
  EXPECT_EQ(count({.kind = "3c3d"}, cifar, 10), 895'210);
  EXPECT_EQ(count({.kind = "all-cnn-c"}, cifar, 100), 1'387'108);
  EXPECT_EQ(count({.kind = "resnet18"}, cifar, 10), 11'173'962);
  ModelOptions options{.kind = "resnet18"};
  options.resnet.norm = ResNetOptions::Norm::group;
  EXPECT_EQ(count(options, cifar, 10), 11'173'962);
  options.resnet = {.stem = ResNetOptions::Stem::imagenet};
  EXPECT_EQ(count(options, imagenet, 1000), 11'689'512);
  EXPECT_EQ(count({.kind = "vit"}, cifar, 10), 811'146);  // the formula of transformer.h by hand
  EXPECT_EQ(count({.kind = "transformer"}, {64}, 65), 809'856);
  options = {.kind = "transformer"};
  options.transformer.experts =
      4;  // per block: a gate of 4 x 128 and three more networks of 2 x 128 x 512 + 512 + 128
  EXPECT_EQ(count(options, {64}, 65), 809'856 + 4 * (4 * 128 + 3 * (2 * 128 * 512 + 512 + 128)));
  options.transformer = {.tied = false};
  EXPECT_EQ(count(options, {64}, 65), 809'856 + 65 * 128);
}

TEST_F(Zoo, OutputsAreOneRowOfClassesPerSampleOrToken) {
  std::set<std::string> kinds;
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    EXPECT_GE(tiny.model->parameter_count(), 500);
    EXPECT_LE(tiny.model->parameter_count(), 60'000);
    const at::Tensor y = outputs(*tiny.model, tiny.model->initial_parameters(1), tiny.x);
    const bool text = tiny.x.dim() == 2;
    EXPECT_EQ(y.sizes(), text ? at::IntArrayRef({4, 6, 7}) : at::IntArrayRef({4, 5}));
    EXPECT_EQ(y.scalar_type(), at::kFloat);
    EXPECT_TRUE(y.isfinite().all().item<bool>());
    // Samples differ, so the outputs must: nothing on the way forgets the input.
    EXPECT_GT((y[0] - y[1]).abs().max().item<double>(), 1e-6);
    std::set<std::string> names;
    for (const ParameterSpec& p : tiny.model->parameters())
      EXPECT_TRUE(names.insert(p.name).second) << p.name;
    kinds.insert(tiny.model->description().substr(0, tiny.model->description().find_first_of(" ,")));
  }
  EXPECT_EQ(kinds, std::set<std::string>(model_kinds().begin(), model_kinds().end()));
}

TEST_F(Zoo, SecondDerivativesAgreeWithDifferencesOfGradients) {
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    // 1e-9 or less where the difference crosses no kink of a ReLU or maximum; a wrong term would be of the
    // order 1.
    EXPECT_LT(test::second_derivative_error(*tiny.model, tiny.x, tiny.y, 3), 1e-6);
    // Some hundred roundings of 6e-8 through a dozen layers and back twice.
    EXPECT_LT(test::single_precision_error(*tiny.model, tiny.x, tiny.y, 3), 1e-3);
  }
}

TEST_F(Zoo, EveryParameterMatters) {
  for (const Tiny& tiny : tiny_models()) {
    const at::Tensor g =
        test::MeanLoss(*tiny.model, tiny.x, tiny.y).gradient(test::generic_point(*tiny.model, 3));
    const std::vector<at::Tensor> pieces = unflatten(tiny.model->parameters(), g);
    for (size_t i = 0; i < pieces.size(); ++i) {
      const std::string& name = tiny.model->parameters()[i].name;
      // With one expert its gate has nothing to decide: the softmax over one logit is 1.
      const bool idle = tiny.name.find("transformer 1") == 0 && name.find("gate") != std::string::npos;
      EXPECT_EQ(pieces[i].abs().max().item<double>() == 0, idle) << tiny.name << ": " << name;
    }
  }
}

TEST_F(Zoo, InitialParametersDependOnTheSeedAlone) {
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    const at::Tensor a = tiny.model->initial_parameters(1);
    EXPECT_EQ(a.scalar_type(), at::kFloat);
    EXPECT_EQ(a.sizes(), at::IntArrayRef({tiny.model->parameter_count()}));
    EXPECT_TRUE(at::equal(a, tiny.model->initial_parameters(1)));
    EXPECT_FALSE(at::equal(a, tiny.model->initial_parameters(2)));
  }
}

// Standard deviations, means and bounds of single tensors. A sample standard deviation of n normal entries
// has relative standard error 1/sqrt(2n), less for a uniform; 5 of them fail with probability 6e-7 a tensor,
// and the seed is fixed.
TEST_F(Zoo, InitializationsHaveTheirDistributions) {
  const auto check = [](const Model& model, const std::string& name, double std, bool uniform) {
    SCOPED_TRACE(name);
    const std::vector<at::Tensor> pieces = unflatten(model.parameters(), model.initial_parameters(12345));
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (model.parameters()[i].name != name) continue;
      const at::Tensor w = pieces[i].to(at::kDouble);
      const auto n = static_cast<double>(w.numel());
      EXPECT_NEAR(w.square().mean().sqrt().item<double>(), std, 5 * std / std::sqrt(2 * n));
      EXPECT_NEAR(w.mean().item<double>(), 0, 5 * std / std::sqrt(n));
      const double largest = w.abs().max().item<double>();
      // A uniform ends at sqrt(3) std; n normal numbers stay below that with probability 0.917^n.
      EXPECT_EQ(largest <= std * std::sqrt(3) * (1 + 1e-6), uniform);
      return;
    }
    ADD_FAILURE() << "no such parameter";
  };
  const auto constant = [](const Model& model, const std::string& ending, float value) {
    const std::vector<at::Tensor> pieces = unflatten(model.parameters(), model.initial_parameters(1));
    int found = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (!model.parameters()[i].name.ends_with(ending)) continue;
      EXPECT_TRUE(pieces[i].eq(value).all().item<bool>()) << model.parameters()[i].name;
      ++found;
    }
    EXPECT_GT(found, 0) << ending;
  };
  const auto conv = make_model({.kind = "3c3d"}, {3, 32, 32}, 10);
  check(*conv, "conv1.weight", std::sqrt(2.0 / (75 + 1600)), false);
  check(*conv, "conv3.weight", std::sqrt(2.0 / (9 * (96 + 128))), false);
  check(*conv, "dense1.weight", std::sqrt(2.0 / (1152 + 512)), true);
  constant(*conv, ".bias", 0);
  const auto all = make_model({.kind = "all-cnn-c"}, {3, 32, 32}, 100);
  check(*all, "conv9.weight", std::sqrt(2.0 / (192 + 100)), false);
  constant(*all, ".bias", 0.1f);
  ModelOptions narrow{.kind = "resnet18"};
  narrow.resnet.width = 16;
  const auto resnet = make_model(narrow, {3, 32, 32}, 10);
  check(*resnet, "conv1.weight", std::sqrt(2.0 / (9 * 16)), false);
  check(*resnet, "layer2.0.downsample.0.weight", std::sqrt(2.0 / 32), false);
  check(*resnet, "fc.weight", 1 / std::sqrt(3.0 * 128), true);
  constant(*resnet, "bn1.weight", 1);
  constant(*resnet, "downsample.1.bias", 0);
  const auto vit = make_model({.kind = "vit"}, {3, 32, 32}, 10);
  check(*vit, "pos_embed", 0.02, false);
  check(*vit, "patch_embed.proj.weight", 1 / std::sqrt(48.0), false);
  constant(*vit, "norm1.weight", 1);
  const auto gpt = make_model({.kind = "transformer"}, {64}, 65);
  check(*gpt, "transformer.wte.weight", 0.02, false);
  check(*gpt, "transformer.h.3.mlp.c_proj.weight", 0.02 / std::sqrt(8.0), false);
  constant(*gpt, ".bias", 0);
}

// 3x3 maximum of stride 2 by loops over TensorFlow's rule: ceil(n/2) outputs, total padding max((ceil(n/2) -
// 1) 2 + 3 - n, 0), the smaller half before.
at::Tensor max_pool_by_hand(const at::Tensor& x) {
  const int64_t height = x.size(2), width = x.size(3), rows = (height + 1) / 2, columns = (width + 1) / 2;
  const int64_t top = std::max<int64_t>((rows - 1) * 2 + 3 - height, 0) / 2;
  const int64_t left = std::max<int64_t>((columns - 1) * 2 + 3 - width, 0) / 2;
  at::Tensor result = at::empty({x.size(0), x.size(1), rows, columns}, x.options());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t r0 = 2 * r - top, c0 = 2 * c - left;
      const at::Tensor window = x.slice(2, std::max<int64_t>(r0, 0), std::min(r0 + 3, height))
                                    .slice(3, std::max<int64_t>(c0, 0), std::min(c0 + 3, width));
      result.select(2, r).select(2, c).copy_(window.amax({2, 3}));
    }
  }
  return result;
}

TEST(Layers, MaxPoolSamePadsAsTensorFlow) {
  for (const Shape& shape : {Shape{2, 3, 28, 28}, {1, 2, 7, 10}, {1, 2, 10, 7}, {1, 1, 3, 2}, {1, 1, 1, 1}}) {
    const at::Tensor x = gaussian(shape) - 3;  // mostly negative: padding by zeros would be seen
    EXPECT_TRUE(at::equal(max_pool_3x3_stride_2_same(x), max_pool_by_hand(x))) << x.sizes();
  }
}

TEST(Layers, StridedConvolutionSamePadsAsTensorFlow) {
  // The sum over each window of an image that is 1 everywhere counts the pixels inside: with an even side the
  // padding is after the last pixel, with an odd one on both sides.
  const std::vector<at::Tensor> ones = {at::ones({1, 1, 3, 3}), at::zeros({1})};
  const auto sums = [&](int64_t height, int64_t width) {
    ParameterReader reader(ones, {}, false);
    return conv_3x3_stride_2_same(reader, at::ones({1, 1, height, width}))[0][0];
  };
  const auto outer = [](std::vector<float> a, std::vector<float> b) {
    return at::outer(at::tensor(a), at::tensor(b));
  };
  EXPECT_TRUE(at::equal(sums(6, 6), outer({3, 3, 2}, {3, 3, 2})));
  EXPECT_TRUE(at::equal(sums(5, 4), outer({2, 3, 2}, {3, 2})));
}

// What 3c3d computes, written out again with padded copies.
TEST_F(Zoo, ThreeC3dForwardByHand) {
  const ThreeC3d model({3, 32, 32}, 5, {{3, 4, 5}, {12, 8}});
  const std::vector<at::Tensor> p = unflatten(model.parameters(), test::generic_point(model, 1));
  at::Tensor h = gaussian({2, 3, 32, 32}).to(at::kDouble);
  const at::Tensor y = model.forward(p, {}, h);
  for (int i = 0; i < 3; ++i) {
    h = at::conv2d(i == 2 ? at::constant_pad_nd(h, {1, 1, 1, 1}) : h, p[2 * i], p[2 * i + 1]).clamp_min(0);
    EXPECT_EQ(h.size(2), std::vector<int64_t>({28, 12, 6})[i]);
    h = max_pool_by_hand(h);
  }
  h = h.reshape({2, 45});
  for (int i = 3; i < 6; ++i) {
    h = at::matmul(h, p[2 * i].t()) + p[2 * i + 1];
    if (i < 5) h = h.clamp_min(0);
  }
  EXPECT_LT((y - h).norm().item<double>(),
            1e-12 * h.norm().item<double>());  // double rounding over sums of hundreds
}

TEST_F(Zoo, AllCnnForwardByHand) {
  const AllCnn model({3, 32, 32}, 5, {{4, 6}});
  const std::vector<at::Tensor> p = unflatten(model.parameters(), test::generic_point(model, 1));
  at::Tensor h = gaussian({2, 3, 32, 32}).to(at::kDouble);
  const at::Tensor y = model.forward(p, {}, h);
  const std::vector<int64_t> sides = {32, 32, 16, 16, 16, 8, 6, 6, 6};
  for (int i = 0; i < 9; ++i) {
    const bool halves = i == 2 || i == 5;
    if (halves) h = at::constant_pad_nd(h, {0, 1, 0, 1});
    h = at::conv2d(h, p[2 * i], p[2 * i + 1], halves ? 2 : 1, i < 6 && !halves ? 1 : 0).clamp_min(0);
    EXPECT_EQ(h.size(2), sides[i]);
  }
  EXPECT_LT((y - h.mean({2, 3})).norm().item<double>(), 1e-12 * y.norm().item<double>());
  EXPECT_GE(y.min().item<double>(), 0);  // the last ReLU
}

TEST(Layers, BatchNormEvaluationIsTheLibrarys) {
  const at::Tensor x = gaussian({4, 3, 5, 2}).to(at::kDouble);
  const std::vector<at::Tensor> parameters = {gaussian({3}, 8).to(at::kDouble),
                                              gaussian({3}, 9).to(at::kDouble)};
  const std::vector<at::Tensor> buffers = {gaussian({3}, 10).to(at::kDouble),
                                           gaussian({3}, 11).abs().to(at::kDouble)};
  ParameterReader reader(parameters, buffers, false);
  const at::Tensor expected =
      at::batch_norm(x, parameters[0], parameters[1], buffers[0], buffers[1], false, 0.1, 1e-5, false);
  EXPECT_LT((batch_norm(reader, x) - expected).norm().item<double>(), 1e-13 * expected.norm().item<double>());
}

TEST(Layers, BatchNormTrainingUpdatesItsBuffersByHand) {
  const at::Tensor x = gaussian({4, 3, 5, 2}).to(at::kDouble) * 2 + 1;
  const std::vector<at::Tensor> parameters = {at::ones({3}, at::kDouble), at::zeros({3}, at::kDouble)};
  const std::vector<at::Tensor> buffers = {at::full({3}, 0.5, at::kDouble), at::full({3}, 2.0, at::kDouble)};
  ParameterReader reader(parameters, buffers, true);
  const at::Tensor y = batch_norm(reader, x);
  const at::Tensor rows = x.transpose(0, 1).reshape({3, 40}), mean = rows.mean(1);
  const at::Tensor squares = (rows - mean.unsqueeze(1)).square().sum(1);
  const double close = 1e-13;  // double rounding over sums of 40 numbers of order 1
  EXPECT_LT((buffers[0] - (0.9 * 0.5 + 0.1 * mean)).norm().item<double>(), close);
  EXPECT_LT((buffers[1] - (0.9 * 2.0 + 0.1 * squares / 39)).norm().item<double>(), close);
  const at::Tensor expected = (rows - mean.unsqueeze(1)) / (squares / 40 + 1e-5).sqrt().unsqueeze(1);
  EXPECT_LT((y.transpose(0, 1).reshape({3, 40}) - expected).norm().item<double>(), 10 * close);
}

TEST_F(Zoo, TrainingModeMovesBuffersAndEvaluationDoesNot) {
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    const std::vector<at::Tensor> p = unflatten(tiny.model->parameters(), tiny.model->initial_parameters(1));
    std::vector<at::Tensor> buffers = tiny.model->initial_buffers();
    ASSERT_EQ(buffers.size(), tiny.model->buffers().size());
    EXPECT_EQ(!buffers.empty(), tiny.name.find("batch") != std::string::npos);
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(buffers[i].sizes(), at::IntArrayRef(tiny.model->buffers()[i].shape));
      EXPECT_TRUE(tiny.model->buffers()[i].name.ends_with(i % 2 == 0 ? ".running_mean" : ".running_var"));
    }
    const at::Tensor before = tiny.model->forward(p, buffers, tiny.x, false);
    const std::vector<at::Tensor> initial = tiny.model->initial_buffers();
    for (size_t i = 0; i < buffers.size(); ++i) EXPECT_TRUE(at::equal(buffers[i], initial[i]));
    tiny.model->forward(p, buffers, tiny.x, true);
    for (size_t i = 0; i < buffers.size(); ++i)
      EXPECT_FALSE(at::equal(buffers[i], initial[i])) << tiny.model->buffers()[i].name;
    EXPECT_EQ(at::equal(tiny.model->forward(p, buffers, tiny.x, false), before), buffers.empty());
  }
}

// ResNet-18 of the CIFAR kind, written out again by the names of the parameters.
TEST_F(Zoo, ResNetForwardByName) {
  for (const auto stem : {ResNetOptions::Stem::cifar, ResNetOptions::Stem::imagenet}) {
    const ResNet model({3, 40, 40}, 5, {.stem = stem, .width = 4, .blocks = {2, 1, 2, 1}});
    const std::vector<at::Tensor> p = unflatten(model.parameters(), test::generic_point(model, 1));
    std::vector<at::Tensor> b;
    for (const at::Tensor& buffer : model.initial_buffers())
      b.push_back((buffer + gaussian(buffer.sizes().vec()).abs()).to(at::kDouble));
    const auto find = [](const std::vector<ParameterSpec>& specs, const std::vector<at::Tensor>& values,
                         const std::string& name) {
      for (size_t i = 0; i < specs.size(); ++i) {
        if (specs[i].name == name) return values[i];
      }
      fail("no ", name);
    };
    const auto parameter = [&](const std::string& name) { return find(model.parameters(), p, name); };
    const auto conv_norm = [&](const at::Tensor& x, const std::string& conv, const std::string& norm,
                               int64_t stride, int64_t padding) {
      return at::batch_norm(at::conv2d(x, parameter(conv + ".weight"), {}, stride, padding),
                            parameter(norm + ".weight"), parameter(norm + ".bias"),
                            find(model.buffers(), b, norm + ".running_mean"),
                            find(model.buffers(), b, norm + ".running_var"), false, 0.1, 1e-5, false);
    };
    const at::Tensor x = gaussian({2, 3, 40, 40}).to(at::kDouble);
    const bool small = stem == ResNetOptions::Stem::cifar;
    at::Tensor h = conv_norm(x, "conv1", "bn1", small ? 1 : 2, small ? 1 : 3).relu();
    if (!small) h = at::max_pool2d(h, 3, 2, 1);
    for (const std::string block : {"layer1.0", "layer1.1", "layer2.0", "layer3.0", "layer3.1", "layer4.0"}) {
      const bool halves = block[7] == '0' && block[5] != '1';
      at::Tensor inner = conv_norm(h, block + ".conv1", block + ".bn1", halves ? 2 : 1, 1).relu();
      inner = conv_norm(inner, block + ".conv2", block + ".bn2", 1, 1);
      if (halves) h = conv_norm(h, block + ".downsample.0", block + ".downsample.1", 2, 0);
      h = (inner + h).relu();
    }
    EXPECT_EQ(h.size(2), small ? 5 : 2);
    const at::Tensor expected = at::matmul(h.mean({2, 3}), parameter("fc.weight").t()) + parameter("fc.bias");
    // Double rounding through a dozen layers of sums of hundreds.
    EXPECT_LT((model.forward(p, b, x) - expected).norm().item<double>(),
              1e-11 * expected.norm().item<double>());
  }
}

// Attention by loops over samples, heads and tokens.
TEST(Layers, SelfAttentionByHand) {
  const int64_t n = 2, length = 5, width = 6, heads = 2, head = 3;
  const std::vector<at::Tensor> p = {gaussian({18, 6}, 1).to(at::kDouble), gaussian({18}, 2).to(at::kDouble),
                                     gaussian({6, 6}, 3).to(at::kDouble), gaussian({6}, 4).to(at::kDouble)};
  const at::Tensor x = gaussian({n, length, width}).to(at::kDouble);
  for (const bool causal : {false, true}) {
    ParameterReader reader(p, {}, false);
    const at::Tensor y = self_attention(reader, x, heads, causal);
    for (int64_t i = 0; i < n; ++i) {
      const at::Tensor qkv = at::matmul(x[i], p[0].t()) + p[1];
      for (int64_t t = 0; t < length; ++t) {
        at::Tensor mixed = at::zeros({width}, at::kDouble);
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t seen = causal ? t + 1 : length;
          const at::Tensor q = qkv[t].narrow(0, h * head, head);
          const at::Tensor k = qkv.narrow(0, 0, seen).narrow(1, width + h * head, head);
          const at::Tensor v = qkv.narrow(0, 0, seen).narrow(1, 2 * width + h * head, head);
          const at::Tensor e = (at::mv(k, q) / std::sqrt(3.0)).exp();
          mixed.narrow(0, h * head, head).copy_(at::mv(v.t(), e / e.sum()));
        }
        const at::Tensor expected = at::mv(p[2], mixed) + p[3];
        EXPECT_LT((y[i][t] - expected).norm().item<double>(), 1e-13 * (1 + expected.norm().item<double>()));
      }
    }
  }
}

TEST_F(Zoo, LaterTokensLeaveEarlierOutputsUnchanged) {
  int checked = 0;
  for (const Tiny& tiny : tiny_models()) {
    if (tiny.name.find("transformer") != 0) continue;
    SCOPED_TRACE(tiny.name);
    const at::Tensor p = test::generic_point(*tiny.model, 1);
    const at::Tensor before = outputs(*tiny.model, p, tiny.x);
    for (int64_t t = 0; t < 6; ++t) {
      at::Tensor changed = tiny.x.clone();
      changed.select(1, t).add_(1).remainder_(7);
      const at::Tensor difference = (outputs(*tiny.model, p, changed) - before).abs().amax({0, 2});
      // Later tokens have weights of exactly 0; what is left is rounding.
      if (t > 0) {
        EXPECT_LT(difference.narrow(0, 0, t).max().item<double>(), 1e-12);
      }
      EXPECT_GT(difference.narrow(0, t, 6 - t).min().item<double>(), 1e-6);
    }
    ++checked;
  }
  EXPECT_EQ(checked, 6);
}

TEST_F(Zoo, PrefixesNeedNoPaddingAndLongerSequencesAreRefused) {
  const Transformer model({4}, 7, {.context = 6, .width = 12, .depth = 2, .heads = 3});
  const at::Tensor p = test::generic_point(model, 1), x = tokens({3, 6}, 7);
  const at::Tensor all = outputs(model, p, x), prefix = outputs(model, p, x.slice(1, 0, 2));
  EXPECT_LT((all.slice(1, 0, 2) - prefix).norm().item<double>(), 1e-12);  // rounding
  EXPECT_TRUE(at::equal(outputs(model, p, x.to(at::kFloat)), all));       // whole numbers in a floating type
  EXPECT_SEIGH_ERROR(outputs(model, p, tokens({1, 7}, 7)), "up to 6", "[1, 7]");
}

TEST_F(Zoo, TiedWeightsEqualAnUntiedCopy) {
  const Transformer tied({6}, 7, {.width = 12, .depth = 1, .heads = 3}),
      untied({6}, 7, {.width = 12, .depth = 1, .heads = 3, .tied = false});
  const at::Tensor p = test::generic_point(tied, 1), x = tokens({3, 6}, 7);
  const at::Tensor q = at::cat({p, p.slice(0, 0, 7 * 12)});  // the embedding comes first, lm_head last
  EXPECT_EQ(untied.parameters().back().name, "lm_head.weight");
  EXPECT_TRUE(at::equal(outputs(tied, p, x), outputs(untied, q, x)));
}

// Mixture of experts against one expert at a time: the output depends on the chosen experts alone, weighed as
// documented.
TEST_F(Zoo, MixtureWeighsTheChosenExperts) {
  for (const int64_t chosen : {1, 2}) {
    SCOPED_TRACE(chosen);
    const TransformerOptions plain_options{.width = 6, .depth = 1, .heads = 2, .mlp_ratio = 2};
    TransformerOptions options = plain_options;
    options.experts = 3;
    options.chosen = chosen;
    const Transformer mixture({5}, 7, options), plain({5}, 7, plain_options);
    const std::vector<at::Tensor> p = unflatten(mixture.parameters(), test::generic_point(mixture, 1));
    ASSERT_EQ(mixture.parameters()[10].name, "transformer.h.0.mlp.gate.weight");
    // The block written out again; attention has a test of its own.
    const at::Tensor x = tokens({2, 5}, 7);
    const at::Tensor h0 = p[0].index_select(0, x.flatten()).reshape({2, 5, 6}) + p[1];
    const auto norm = [](const at::Tensor& v, const at::Tensor& w, const at::Tensor& b) {
      const at::Tensor centred = v - v.mean(-1, true);
      return centred / (centred.square().mean(-1, true) + 1e-5).sqrt() * w + b;
    };
    const std::vector<at::Tensor> attention = {p[4], p[5], p[6], p[7]};
    ParameterReader reader(attention, {}, false);
    const at::Tensor h1 = h0 + self_attention(reader, norm(h0, p[2], p[3]), 2, true);
    const at::Tensor n = norm(h1, p[8], p[9]);
    at::Tensor h2 = h1.clone();
    std::set<int64_t> used;
    for (int64_t i = 0; i < 2; ++i) {
      for (int64_t t = 0; t < 5; ++t) {
        const at::Tensor logits = at::mv(p[10], n[i][t]), order = logits.argsort(0, true);
        const at::Tensor e = logits.exp();
        const at::Tensor all = chosen == 1 ? e.sum() : e.index_select(0, order.slice(0, 0, 2)).sum();
        for (int64_t j = 0; j < chosen; ++j) {
          const int64_t expert = order[j].item<int64_t>(), first = 11 + 4 * expert;
          used.insert(expert);
          const at::Tensor hidden = at::mv(p[first], n[i][t]) + p[first + 1];
          const at::Tensor active = hidden * 0.5 * (1 + at::erf(hidden / std::sqrt(2.0)));
          h2[i][t] += e[expert] / all * (at::mv(p[first + 2], active) + p[first + 3]);
        }
      }
    }
    EXPECT_GT(used.size(), 1u);  // otherwise the gate was not tested
    const at::Tensor expected = at::matmul(norm(h2, p[23], p[24]), p[0].t());
    const at::Tensor y = mixture.forward(p, {}, x);
    EXPECT_LT((y - expected).norm().item<double>(),
              1e-12 * expected.norm().item<double>());  // double rounding
  }
}

TEST_F(Zoo, VitKnowsPatchesByTheirPositionsAlone) {
  // Attention treats all patches alike, so moving two of them together with their positions changes nothing.
  const Vit model({2, 8, 12}, 5, {.patch = 4, .width = 12, .depth = 1, .heads = 3});
  std::vector<at::Tensor> p = unflatten(model.parameters(), test::generic_point(model, 1).clone());
  const at::Tensor x = gaussian({3, 2, 8, 12}).to(at::kDouble);
  const at::Tensor y = model.forward(p, {}, x);
  // The second patch (row 0, column 1) and the fourth (row 1, column 0) change places; their positions are
  // tokens 2 and 4.
  at::Tensor swapped = x.clone();
  swapped.slice(2, 0, 4).slice(3, 4, 8).copy_(x.slice(2, 4, 8).slice(3, 0, 4));
  swapped.slice(2, 4, 8).slice(3, 0, 4).copy_(x.slice(2, 0, 4).slice(3, 4, 8));
  EXPECT_GT((model.forward(p, {}, swapped) - y).norm().item<double>(), 1e-4);
  at::Tensor positions = p[1].clone();
  positions.select(1, 2).copy_(p[1].select(1, 4));
  positions.select(1, 4).copy_(p[1].select(1, 2));
  p[1] = positions;
  EXPECT_LT((model.forward(p, {}, swapped) - y).norm().item<double>(), 1e-12 * y.norm().item<double>());
}

TEST_F(Zoo, VitForwardByName) {
  const Vit model({2, 8, 12}, 5, {.patch = 4, .width = 12, .depth = 1, .heads = 3});
  const std::vector<at::Tensor> p = unflatten(model.parameters(), test::generic_point(model, 1));
  const at::Tensor x = gaussian({3, 2, 8, 12}).to(at::kDouble);
  const auto norm = [](const at::Tensor& v, const at::Tensor& w, const at::Tensor& b) {
    const at::Tensor centred = v - v.mean(-1, true);
    return centred / (centred.square().mean(-1, true) + 1e-6).sqrt() * w + b;
  };
  const at::Tensor embedded = at::conv2d(x, p[2], p[3], 4).flatten(2).transpose(1, 2);  // [3, 6, 12]
  at::Tensor h = at::cat({p[0].expand({3, 1, 12}), embedded}, 1) + p[1];
  const std::vector<at::Tensor> attention = {p[6], p[7], p[8], p[9]};
  ParameterReader reader(attention, {}, false);
  h = h + self_attention(reader, norm(h, p[4], p[5]), 3, false);
  const at::Tensor hidden = at::matmul(norm(h, p[10], p[11]), p[12].t()) + p[13];
  h = h + at::matmul(hidden * 0.5 * (1 + at::erf(hidden / std::sqrt(2.0))), p[14].t()) + p[15];
  const at::Tensor expected = at::matmul(norm(h.select(1, 0), p[16], p[17]), p[18].t()) + p[19];
  EXPECT_LT((model.forward(p, {}, x) - expected).norm().item<double>(),
            1e-12 * expected.norm().item<double>());
}

TEST_F(Zoo, BadOptionsAreNamed) {
  const auto make = [](const std::string& kind, const Shape& shape, int64_t classes = 10) {
    return make_model({.kind = kind}, shape, classes);
  };
  EXPECT_SEIGH_ERROR(make("lenet", {1, 28, 28}), "lenet", "mlp, 3c3d, all-cnn-c, resnet18, vit, transformer");
  for (const std::string kind : {"3c3d", "all-cnn-c", "vit"}) {
    EXPECT_SEIGH_ERROR(make(kind, {784}), kind, "[channels, height, width]", "[784]");
    EXPECT_SEIGH_ERROR(make(kind, {3, 32, 32}, 0), kind, "not 0");
  }
  EXPECT_SEIGH_ERROR(make("resnet18", {64}), "resnet", "[channels, height, width]", "[64]");
  EXPECT_SEIGH_ERROR(make("3c3d", {3, 9, 32}), "at least 10", "[3, 9, 32]");
  EXPECT_SEIGH_ERROR(make("all-cnn-c", {3, 32, 8}), "at least 9");
  EXPECT_SEIGH_ERROR(make("transformer", {3, 32, 32}), "[tokens]", "[3, 32, 32]");
  EXPECT_SEIGH_ERROR(make("mlp", {}), "mlp");
  EXPECT_SEIGH_ERROR(make("vit", {3, 30, 32}), "side 4", "30 x 32");
  EXPECT_SEIGH_ERROR(Vit({3, 32, 32}, 10, {.heads = 5}), "5 heads", "128");
  EXPECT_SEIGH_ERROR(Transformer({8}, 10, {.context = 4}), "8 tokens", "context, 4");
  EXPECT_SEIGH_ERROR(Transformer({8}, 10, {.experts = 4, .chosen = 3}), "4 experts", "not 3");
  EXPECT_SEIGH_ERROR(Transformer({8}, 10, {.experts = 1, .chosen = 2}), "1 experts", "not 2");
  EXPECT_SEIGH_ERROR(ResNet({3, 32, 32}, 10, {.norm = ResNetOptions::Norm::group, .groups = 3}), "3 groups",
                     "64");
  EXPECT_SEIGH_ERROR(ResNet({3, 32, 32}, 10, {.blocks = {2, 0, 2, 2}}), "0 blocks");
  EXPECT_SEIGH_ERROR(AllCnn({3, 32, 32}, 10, {{96, 0}}), "width of 0");
  EXPECT_SEIGH_ERROR(parse_stem("vgg"), "vgg", "imagenet");
  EXPECT_SEIGH_ERROR(parse_norm("layer"), "layer", "group");
}

// The smallest images each network takes still give an output.
TEST_F(Zoo, SmallestImages) {
  const auto finite = [](const Model& model, const Shape& shape) {
    return outputs(model, model.initial_parameters(1), gaussian(shape)).isfinite().all().item<bool>();
  };
  EXPECT_TRUE(finite(ThreeC3d({1, 10, 10}, 3, {{2, 3, 4}, {5, 6}}), {2, 1, 10, 10}));
  EXPECT_TRUE(finite(AllCnn({1, 9, 9}, 3, {{2, 3}}), {2, 1, 9, 9}));
  EXPECT_TRUE(finite(ResNet({1, 1, 1}, 3, {.width = 2}), {2, 1, 1, 1}));
}

}  // namespace
}  // namespace seigh
