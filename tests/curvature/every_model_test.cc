// Every model, loss and matrix: products against explicit Jacobians and differences of gradients, symmetry,
// linearity, blocks, mini-batches and threads.
#include "tests/support/every_model.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/util/accumulate.h>
#include <gtest/gtest.h>

#include "seigh/core/context.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/check.h"
#include "seigh/curvature/make.h"
#include "seigh/curvature/model_source.h"
#include "seigh/eigen/dense.h"
#include "seigh/nn/zoo.h"
#include "tests/support/expect_error.h"
#include "tests/support/second_derivative.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::relative_difference;

using test::every_model;
using test::make_data;
using test::running_statistics;
using Case = test::ModelCase;

// Products of the matrices from explicit Jacobians, one backward pass per output; the Hessian of the loss in
// the outputs and the gradients of single targets in closed form.
at::Tensor explicit_product(const Model& model, const at::Tensor& parameters,
                            const std::vector<at::Tensor>& buffers, const Dataset& data,
                            const CurvatureOptions& options, const at::Tensor& v) {
  const at::Tensor leaf = parameters.detach().clone().requires_grad_(true);
  std::vector<at::Tensor> exact;
  for (const at::Tensor& b : buffers) exact.push_back(b.to(at::kDouble));
  const at::Tensor x = data.x.is_floating_point() ? data.x.to(at::kDouble) : data.x;
  const at::Tensor outputs = model.forward(unflatten(model.parameters(), leaf), exact, x).flatten(0, -2);
  const at::Tensor y = data.y.flatten();
  const int64_t n = outputs.size(0), classes = outputs.size(1);
  const at::Tensor p = outputs.detach().softmax(1), one_hot = at::one_hot(y, classes).to(at::kDouble);
  const bool entropy = options.loss.kind == LossKind::cross_entropy;
  const double s = options.loss.label_smoothing;
  at::Tensor sum = at::zeros_like(v);
  for (int64_t i = 0; i < n; ++i) {
    std::vector<at::Tensor> rows;
    for (int64_t k = 0; k < classes; ++k) {
      rows.push_back(torch::autograd::grad({outputs[i][k]}, {leaf}, {}, /*retain_graph=*/true)[0]);
    }
    const at::Tensor j = at::stack(rows);
    at::Tensor inner;
    if (options.kind == CurvatureKind::ggn) {
      inner = entropy ? p[i].diag() - p[i].outer(p[i])
                      : at::eye(classes, at::kDouble) * (2.0 / static_cast<double>(classes));
    } else {
      const at::Tensor r = entropy ? p[i] - (1 - s) * one_hot[i] - s / static_cast<double>(classes)
                                   : 2 * (outputs[i].detach() - one_hot[i]) / static_cast<double>(classes);
      inner = r.outer(r);
    }
    sum += at::matmul(j.t(), at::matmul(inner, at::matmul(j, v))) / n;
  }
  return sum;
}

class EveryModel : public ::testing::TestWithParam<Case> {
 protected:
  const std::unique_ptr<Model> model_ = make_model(GetParam().model, GetParam().sample, GetParam().classes);
  const Dataset data_ = make_data(GetParam(), 7);
  const at::Tensor parameters_ = test::generic_point(*model_, 3);
  const std::vector<at::Tensor> buffers_ = running_statistics(*model_);
  const at::Tensor v_ = random_gaussian(5, Stream::test, model_->parameter_count(), 0, 4, at::kDouble);

  std::unique_ptr<CurvatureOperator> make(CurvatureOptions options) const {
    options.dtype = at::kDouble;
    return make_curvature_operator(*model_, parameters_, buffers_, data_, options, "test");
  }
  std::unique_ptr<AutogradCurvatureOperator> autograd(CurvatureOptions options) const {
    options.dtype = at::kDouble;
    return std::make_unique<AutogradCurvatureOperator>(*model_, parameters_, buffers_, data_, options);
  }
};

const Loss kLosses[] = {
    {LossKind::cross_entropy}, {LossKind::cross_entropy, 0.2}, {LossKind::mean_squared_error}};

TEST_P(EveryModel, HessianEqualsDifferencesOfGradients) {
  for (const Loss& loss : kLosses) {
    const at::Tensor v = v_.select(1, 0) / v_.select(1, 0).norm();
    // Truncation h^2, rounding eps / h, each times a ratio of derivatives; h is small because some 10^4 ReLUs
    // each have a kink, which the difference must not step over.
    const double h = 1e-6;
    const auto gradient = [&](double t) {
      return AutogradCurvatureOperator(*model_, parameters_ + t * v, buffers_, data_,
                                       {.loss = loss, .dtype = at::kDouble})
          .gradient();
    };
    const at::Tensor product = make({.loss = loss})->apply(v.unsqueeze(1)).select(1, 0);
    EXPECT_LT(relative_difference((gradient(h) - gradient(-h)) / (2 * h), product), 1e-6);
  }
}

// The other way of automatic differentiation: forward over reverse mode, vectors at once.
TEST_P(EveryModel, BatchedProductsAreThoseThroughAGraph) {
  for (const CurvatureKind kind : curvature_kinds()) {
    for (const Loss& loss : kLosses) {
      CurvatureOptions options{.kind = kind, .loss = loss, .l2 = 0.1, .draws = 2};
      options.products = Products::graph;
      const at::Tensor expected = autograd(options)->apply(v_);
      options.products = Products::batched;
      const auto op = autograd(options);
      EXPECT_GT(op->vectors_at_once(), 1);
      EXPECT_LT(relative_difference(op->apply(v_), expected), 1e-11) << to_string(kind);
      EXPECT_LT(relative_difference(op->apply(v_.narrow(1, 1, 1)), expected.narrow(1, 1, 1)), 1e-11);
      options.batch_size = 3;  // 3, 3, 1
      EXPECT_LT(relative_difference(autograd(options)->apply(v_), expected), 1e-11) << to_string(kind);
    }
  }
  // Of some tensors, the others fixed.
  CurvatureOptions some{.products = Products::graph, .parameters = {model_->parameters()[0].name}};
  const auto through = autograd(some);
  const at::Tensor v = v_.narrow(0, 0, through->size()).contiguous();
  some.products = Products::batched;
  EXPECT_LT(relative_difference(autograd(some)->apply(v), through->apply(v)), 1e-11);
}

TEST_P(EveryModel, GradientEqualsDifferencesOfLosses) {
  for (const Loss& loss : kLosses) {
    const at::Tensor v = v_.select(1, 1) / v_.select(1, 1).norm();
    const auto at_point = [&](double t) {
      return AutogradCurvatureOperator(*model_, parameters_ + t * v, buffers_, data_,
                                       {.loss = loss, .dtype = at::kDouble, .l2 = 0.1})
          .loss();
    };
    const auto op = make({.loss = loss, .l2 = 0.1});
    EXPECT_NEAR((at_point(1e-5) - at_point(-1e-5)) / 2e-5, at::dot(op->gradient(), v).item<double>(), 1e-7);
    EXPECT_NEAR(op->loss(), at_point(0), 1e-12);
  }
}

TEST_P(EveryModel, GaussNewtonAndEmpiricalFisherEqualExplicitJacobians) {
  for (const CurvatureKind kind : {CurvatureKind::ggn, CurvatureKind::empirical_fisher}) {
    for (const Loss& loss : kLosses) {
      const CurvatureOptions options{.kind = kind, .loss = loss};
      const at::Tensor expected = explicit_product(*model_, parameters_, buffers_, data_, options, v_);
      EXPECT_LT(relative_difference(make(options)->apply(v_), expected), 1e-11) << to_string(kind);
      EXPECT_LT(relative_difference(autograd(options)->apply(v_), expected), 1e-11) << to_string(kind);
    }
  }
}

TEST_P(EveryModel, MonteCarloFisherTendsToGaussNewton) {
  // The matrix of m draws deviates by about 1/sqrt(m) of itself times a factor below 3 for these sizes; 400
  // draws.
  const at::Tensor ggn = make({.kind = CurvatureKind::ggn})->apply(v_);
  const auto fisher = [&](uint64_t seed) {
    return make({.kind = CurvatureKind::mc_fisher, .draws = 400, .seed = seed})->apply(v_);
  };
  EXPECT_LT(relative_difference(fisher(1), ggn), 0.15);
  EXPECT_TRUE(at::equal(fisher(1), fisher(1)));
  EXPECT_FALSE(at::equal(fisher(1), fisher(2)));
  // Draws belong to targets, not to mini-batches.
  const CurvatureOptions small{.kind = CurvatureKind::mc_fisher, .batch_size = 2, .draws = 3},
      large{.kind = CurvatureKind::mc_fisher, .batch_size = 7, .draws = 3};
  EXPECT_LT(relative_difference(make(small)->apply(v_), make(large)->apply(v_)), 1e-12);
}

TEST_P(EveryModel, AreSymmetricLinearAndColumnwise) {
  const at::Tensor mix = random_gaussian(8, Stream::test, 4, 0, 2, at::kDouble);
  for (const CurvatureKind kind : curvature_kinds()) {
    const auto op = make({.kind = kind});
    const at::Tensor av = op->apply(v_), gram = at::matmul(v_.t(), av);
    EXPECT_LT(relative_difference(gram, gram.t()), 1e-12) << to_string(kind);
    EXPECT_LT(relative_difference(op->apply(as_block(at::matmul(v_, mix))), at::matmul(av, mix)), 1e-12);
    for (int64_t j = 0; j < 4; ++j) {
      EXPECT_LT(relative_difference(op->apply(v_.slice(1, j, j + 1)), av.slice(1, j, j + 1)), 1e-12);
    }
    EXPECT_NO_THROW(check_products(*op));
  }
}

TEST_P(EveryModel, MiniBatchesAndThreadsChangeRoundingAlone) {
  for (const CurvatureKind kind :
       {CurvatureKind::hessian, CurvatureKind::ggn, CurvatureKind::empirical_fisher}) {
    const at::Tensor whole = autograd({.kind = kind, .batch_size = 7})->apply(v_);
    for (const int64_t batch_size : {0, 1, 3}) {
      EXPECT_LT(relative_difference(autograd({.kind = kind, .batch_size = batch_size})->apply(v_), whole),
                1e-12);
    }
    at::set_num_threads(2);
    const auto op = autograd({.kind = kind, .batch_size = 3});
    const at::Tensor two = op->apply(v_);
    EXPECT_TRUE(at::equal(op->apply(v_), two));
    at::set_num_threads(1);
    EXPECT_LT(relative_difference(autograd({.kind = kind, .batch_size = 3})->apply(v_), two), 1e-12);
    at::set_num_threads(2);
  }
}

TEST_P(EveryModel, ASubsetIsAPartOfTheMatrix) {
  const ParameterSpec &first = model_->parameters().front(), &last = model_->parameters().back();
  const CurvatureOptions part{.parameters = {first.name, last.name}, .l2 = 0.5};
  const int64_t d = model_->parameter_count(), a = first.numel(), b = last.numel();
  const at::Tensor index = at::cat({at::arange(a), at::arange(d - b, d)});
  const at::Tensor small = v_.index_select(0, index);
  at::Tensor padded = at::zeros_like(v_);
  padded.index_copy_(0, index, small);
  for (const CurvatureKind kind : {CurvatureKind::hessian, CurvatureKind::ggn}) {
    CurvatureOptions options = part;
    options.kind = kind;
    const auto op = make(options);
    ASSERT_EQ(op->size(), a + b);
    const at::Tensor expected = make({.kind = kind})->apply(padded).index_select(0, index) + 0.5 * small;
    EXPECT_LT(relative_difference(op->apply(as_block(small)), expected), 1e-12);
    EXPECT_LT(relative_difference(autograd(options)->apply(as_block(small)), expected), 1e-12);
    EXPECT_EQ(op->gradient().numel(), a + b);
  }
  EXPECT_SEIGH_ERROR(make({.parameters = {"no.such.*"}}), "no parameter matches \"no.such.*\"");
}

TEST_P(EveryModel, PerSampleGradientsAverageToTheGradient) {
  const auto op = autograd({.batch_size = 3});
  const at::Tensor each = op->per_sample_gradients(0, 7);
  EXPECT_LT(relative_difference(each.mean(1), op->gradient()), 1e-12);
  EXPECT_LT(relative_difference(op->per_sample_gradients(4, 1).select(1, 0), each.select(1, 4)), 1e-12);
  if (data_.y.dim() == 1) {  // one target a sample: their outer products are the empirical Fisher matrix
    const at::Tensor expected = at::matmul(each, at::matmul(each.t(), v_)) / 7;
    EXPECT_LT(relative_difference(make({.kind = CurvatureKind::empirical_fisher})->apply(v_), expected),
              1e-11);
  }
  EXPECT_SEIGH_ERROR(op->per_sample_gradients(5, 3), "not within 0 to 7");
}

INSTANTIATE_TEST_SUITE_P(Zoo, EveryModel, ::testing::ValuesIn(every_model()),
                         [](const auto& c) { return c.param.name; });

// The convolution's double backward: strides, padding, dilation, groups and transposed ones, by differences.
TEST(ConvolutionDerivatives, HoldForEveryGeometry) {
  struct Geometry {
    int64_t stride, padding, dilation, groups;
    bool transposed;
  };
  struct OneConvolution : Model {
    Geometry g;
    explicit OneConvolution(Geometry geometry) : g(geometry) {
      parameters_ = {{"weight", {4, 4 / g.groups, 3, 3}}, {"bias", {4}}};
    }
    std::string description() const override { return "one convolution"; }
    at::Tensor initial_parameters(uint64_t seed) const override {
      return random_gaussian(seed, Stream::test, parameter_count(), 0, 1, at::kFloat).select(1, 0) * 0.3;
    }
    at::Tensor forward(const std::vector<at::Tensor>& p, const std::vector<at::Tensor>&, const at::Tensor& x,
                       bool) const override {
      // Twice, so that the inner one's input derivatives are needed.
      at::Tensor h = x;
      for (int i = 0; i < 2; ++i) {
        h = at::tanh(at::convolution(h, p[0], p[1], {g.stride, g.stride}, {g.padding, g.padding},
                                     {g.dilation, g.dilation}, g.transposed, {0, 0}, g.groups));
      }
      return h.sum({2, 3});
    }
  };
  for (const Geometry g :
       {Geometry{1, 0, 1, 1, false}, Geometry{2, 1, 1, 1, false}, Geometry{1, 2, 2, 1, false},
        Geometry{2, 1, 1, 2, false}, Geometry{1, 1, 1, 4, false}, Geometry{2, 1, 1, 1, true},
        Geometry{1, 1, 1, 2, true}}) {
    const OneConvolution model(g);
    const Dataset data{random_gaussian(2, Stream::test, 3 * 4 * 81, 0, 1, at::kFloat).reshape({3, 4, 9, 9}),
                       at::arange(3), 4};
    const at::Tensor p = model.initial_parameters(1).to(at::kDouble),
                     v = test::random_direction(p.numel(), 4);
    AutogradCurvatureOperator op(model, p, {}, data, {.dtype = at::kDouble, .batch_size = 2});
    EXPECT_LT(relative_difference(op.apply(v.unsqueeze(1)).select(1, 0),
                                  test::difference_product(model, p, data, LossKind::cross_entropy, v)),
              1e-6)
        << g.stride << g.padding << g.dilation << g.groups << g.transposed;
  }
}

TEST(Reproducibility, NamesWhatUsuallySpoilsIt) {
  struct Restless final : CurvatureOperator {
    double shift = 0;
    Restless() : CurvatureOperator({{"p", {3}}}, at::kDouble, {}, "restless", Context()) {}
    std::string way() const override { return "explicit"; }
    double loss() override { return 1; }
    at::Tensor gradient() override { return at::ones({3}, at::kDouble); }
    at::Tensor apply_impl(const at::Tensor& block) override { return block * (shift += 1); }
  } restless;
  EXPECT_SEIGH_ERROR(check_products(restless), "dropout left on");
  struct Skew final : CurvatureOperator {
    Skew() : CurvatureOperator({{"p", {3}}}, at::kDouble, {}, "skew", Context()) {}
    std::string way() const override { return "explicit"; }
    double loss() override { return 1; }
    at::Tensor gradient() override { return at::ones({3}, at::kDouble); }
    at::Tensor apply_impl(const at::Tensor& block) override { return block.roll(1, 0); }
  } skew;
  EXPECT_SEIGH_ERROR(check_products(skew), "not symmetric");
}

// In every way and thread; and never something else under that name.
TEST_P(EveryModel, RoundsToBfloat16WhereAsked) {
  const at::Tensor v = v_.to(at::kFloat);
  const auto bits = [](const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); };
  for (const CurvatureKind kind : curvature_kinds()) {
    CurvatureOptions options{.kind = kind, .batch_size = 3, .draws = 2};
    const auto make_here = [&](int threads) {
      return make_curvature_operator(*model_, parameters_, buffers_, data_, options, "test",
                                     Context({.threads = threads}));
    };
    options.products = Products::graph;
    const at::Tensor expected = make_here(1)->apply(v);
    for (const Products products : {Products::graph, Products::batched}) {
      const int threads = products == Products::graph ? 3 : 1;
      options.products = products;
      options.precision = Precision::bf16;
      const auto op = make_here(threads);
      const std::string what = text_of(to_string(kind), ", ", op->way());
      ASSERT_TRUE(op->rounds()) << what;
      const at::Tensor rounded = op->apply(v), full = op->in_full_precision().apply(v);
      const double off = relative_difference(rounded, expected);
      EXPECT_GT(off, 1e-4) << what;
      EXPECT_LT(off, 0.3) << what;
      EXPECT_FALSE(at::equal(bits(rounded), rounded)) << what << ": sums are of float32";
      EXPECT_LT(relative_difference(full, expected), 1e-5) << what;
      // Where sums in float32 differ by an ulp, a few operands round the other way.
      EXPECT_LT(relative_difference(op->apply(v), rounded), 1e-4) << what << ": after those in float32";
      const double each = (rounded - expected).norm().item<double>() / v.norm().item<double>();
      EXPECT_GT(op->product_error(), each / 4) << what;
      options.precision = Precision::float32;
      const auto plain = make_here(threads);
      EXPECT_LT(relative_difference(op->gradient(), plain->gradient()), 1e-5) << what;
      EXPECT_NEAR(op->loss(), plain->loss(), 1e-5) << what;
      EXPECT_TRUE(op->notes().empty() || kind != CurvatureKind::hessian || products != Products::graph);
    }
  }
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  EXPECT_TRUE(at::autocast::is_autocast_cache_enabled());
}

TEST(Bfloat16, IsOfFloat32Alone) {
  const Mlp model({5, 6, 4}, Activation::tanh);
  const Dataset data = test::gaussian_data(30, 5, 4);
  CurvatureOptions options{.dtype = at::kDouble, .precision = Precision::bf16};
  for (const Products products : {Products::automatic, Products::difference}) {
    options.products = products;
    const auto op = make_curvature_operator(model, model.initial_parameters(1), {}, data, options, "mlp");
    EXPECT_FALSE(op->rounds());
    ASSERT_EQ(op->notes().size(), 1U);
    EXPECT_NE(op->notes()[0].find("precision = \"bf16\" has no part in products "), std::string::npos);
  }
}

// With what was measured, and by checks that are those of products in float32.
TEST(Bfloat16, IsChecked) {
  const Mlp model({5, 6, 4}, Activation::tanh);
  const Dataset data = test::gaussian_data(30, 5, 4);
  const auto source = std::make_shared<ModelSource>(
      model, model.initial_parameters(1), std::vector<at::Tensor>(), data, Loss(), at::kFloat, "mlp");
  const auto op = make_checked_operator(source, {.precision = Precision::bf16}, "mlp");
  EXPECT_GT(op->product_error(), 1e-4);
  EXPECT_GT(op->in_full_precision().product_error(), 0);
  EXPECT_LT(op->in_full_precision().product_error(), 1e-5);
  EXPECT_TRUE(op->notes().empty()) << op->notes()[0];
  const at::Tensor g = random_gaussian(0, Stream::error_probe, op->size(), 0, 2, at::kFloat);
  EXPECT_TRUE(at::equal(op->known_products(0), op->apply(g)));
  EXPECT_TRUE(at::equal(op->in_full_precision().known_products(0), op->in_full_precision().apply(g)));
}

#if !defined(__SANITIZE_ADDRESS__)  // under which nothing is counted
class MemoryCeiling : public ::testing::Test {
 protected:
  AutogradCurvatureOperator make() const { return {model_, parameters_, {}, data_, {}, "3c3d", context_}; }
  // Takes memory until `left` bytes are available.
  void fill(int64_t left) {
    const Context::Scope scope(context_);
    while (context_.memory().available() > left) ballast_.push_back(at::empty({int64_t{4} << 20}, at::kByte));
  }
  const Context context_{{.threads = 2, .memory = int64_t{1} << 30}};
  const ThreeC3d model_{{3, 32, 32}, 10, {}};
  const Dataset data_{at::zeros({64, 3, 32, 32}), at::arange(64).remainder(10), 10};
  const at::Tensor parameters_ = model_.initial_parameters(1);
  std::vector<at::Tensor> ballast_;
};

TEST_F(MemoryCeiling, ChoosesMiniBatchesAndIsKept) {
  EXPECT_EQ(make().batch_size(), 32);  // half of the samples for each thread
  fill(int64_t{100} << 20);
  AutogradCurvatureOperator op = make();
  EXPECT_LT(op.batch_size(), 32);
  EXPECT_NO_THROW(op.apply(at::ones({1, op.size()}).t()));  // the pool refuses what exceeds the ceiling
}

TEST_F(MemoryCeiling, TooLowForOneSampleIsSaid) {
  fill(int64_t{16} << 20);
  EXPECT_SEIGH_ERROR(make(), "too l");  // for one sample, or already for measuring one
}
#endif

}  // namespace
}  // namespace seigh
