// Networks of about 10^4 parameters, one of each kind: every column of the operators' matrices against the
// full matrix in float64 made another way.
//
// Hessian: the gradient of the mean loss over all samples at once, and for each basis vector e_i the gradient
// of its i-th entry, by libtorch's own double backward: none of the engine's mini-batches, threads or
// convolutions. It is made before the first operator, which installs those for the whole process; each test
// is therefore to run in a process of its own, as ctest does. Gauss-Newton matrix: J^T H_L J with the whole
// Jacobian, a backward pass for each output, and the loss's Hessian in closed form.
#include <ATen/ATen.h>
#include <c10/util/accumulate.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "seigh/base/parallel.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/problem/zoo.h"
#include "tests/support/second_derivative.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

constexpr double kTolerance = 1e-10;  // rounding of sums over samples and paths, some 10^5 eps, with room

struct Problem {
  std::unique_ptr<Model> model;
  Dataset data;
  at::Tensor parameters;
  std::vector<at::Tensor> buffers;

  Problem(ModelOptions options, const std::vector<int64_t>& sample, int64_t classes, int64_t n)
      : model(make_model(options, sample, classes)) {
    if (options.kind == "transformer") {
      const at::Tensor tokens =
          at::arange(n * (sample[0] + 1)).mul(5).remainder(31).remainder(classes).view({n, -1});
      data = {tokens.slice(1, 0, -1).contiguous(), tokens.slice(1, 1).contiguous(), classes};
    } else {
      data = test::gaussian_data(n, c10::multiply_integers(sample), classes);
      data.x = data.x.reshape({n, sample[0], sample[1], sample[2]}).to(at::kDouble);
    }
    parameters = test::generic_point(*model, 3);
    // Running statistics that are neither 0 nor 1.
    for (const at::Tensor& b : model->initial_buffers()) buffers.push_back(b.to(at::kDouble) * 1.3 + 0.1);
  }
  int64_t size() const { return parameters.numel(); }

  at::Tensor outputs(const at::Tensor& leaf) const {
    return model->forward(unflatten(model->parameters(), leaf), buffers, data.x).flatten(0, -2);
  }
  // Columns 0, 1, ... are gradients of entries of the gradient; the transpose, but the matrix is symmetric.
  at::Tensor hessian() const {
    const at::Tensor h = at::empty({size(), size()}, at::kDouble);
    constexpr int kThreads = 2;  // a graph each
    run_workers(kThreads, [&](int worker) {
      const at::Tensor leaf = parameters.clone().requires_grad_(true);
      const at::Tensor loss = at::cross_entropy_loss(outputs(leaf), data.y.flatten());
      const at::Tensor g = torch::autograd::grad({loss}, {leaf}, {}, true, /*create_graph=*/true)[0];
      at::Tensor e = at::zeros({size()}, at::kDouble);
      for (int64_t i = worker; i < size(); i += kThreads) {
        e[i] = 1;
        h[i].copy_(torch::autograd::grad({g}, {leaf}, {e}, /*retain_graph=*/true)[0]);
        e[i] = 0;
      }
    });
    return h;
  }
  at::Tensor ggn() const {
    const at::Tensor leaf = parameters.clone().requires_grad_(true), f = outputs(leaf), flat = f.flatten();
    const int64_t rows = flat.numel(), classes = f.size(1);
    const at::Tensor j = at::empty({rows, size()}, at::kDouble);
    for (int64_t i = 0; i < rows; ++i) j[i].copy_(torch::autograd::grad({flat[i]}, {leaf}, {}, true)[0]);
    const at::Tensor p = f.detach().softmax(1);
    const at::Tensor h = (at::diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)) / f.size(0);
    const at::Tensor hj = at::bmm(h, j.view({-1, classes, size()})).view({rows, size()});
    return at::matmul(j.t(), hj);
  }
  // || A - expected || / || expected || over all columns, A given by its operator.
  double difference(CurvatureKind kind, const at::Tensor& expected) const {
    AutogradCurvatureOperator op(*model, parameters, buffers, data,
                                 {.kind = kind, .dtype = at::kDouble, .batch_size = (data.size() + 1) / 2});
    const at::Tensor identity = at::eye(size(), at::kDouble);
    double error = 0;
    for (int64_t begin = 0; begin < size(); begin += 500) {
      const int64_t end = std::min(begin + 500, size());
      const at::Tensor d = op.apply(as_block(identity.slice(1, begin, end))) - expected.slice(1, begin, end);
      error += d.square().sum().item<double>();
    }
    return std::sqrt(error) / expected.norm().item<double>();
  }
};

void check(const Problem& p) {
  set_threads(2);
  EXPECT_GT(p.size(), 7'000);
  EXPECT_LT(p.size(), 13'000);
  EXPECT_LT(p.difference(CurvatureKind::hessian, p.hessian()), kTolerance);
  EXPECT_LT(p.difference(CurvatureKind::ggn, p.ggn()), kTolerance);
}

TEST(FullMatrix, Convolution) {
  ModelOptions m;
  m.kind = "3c3d";
  m.three_c3d.channels = {6, 12, 16};
  m.three_c3d.hidden = {48, 24};
  check({m, {3, 20, 20}, 5, 2});
}

TEST(FullMatrix, BatchNorm) {
  ModelOptions m;
  m.kind = "resnet18";
  m.resnet.width = 3;
  m.resnet.blocks = {1, 1, 1, 1};
  check({m, {3, 8, 8}, 4, 2});
}

TEST(FullMatrix, Attention) {
  ModelOptions m;
  m.kind = "vit";
  m.vit = {.patch = 4, .width = 32, .depth = 1, .heads = 2, .mlp_ratio = 2};
  check({m, {3, 8, 8}, 4, 3});
}

TEST(FullMatrix, TiedWeights) {
  ModelOptions m;
  m.kind = "transformer";
  m.transformer = {.width = 28, .depth = 1, .heads = 2, .mlp_ratio = 3, .tied = true};
  check({m, {5}, 23, 3});
}

TEST(FullMatrix, Experts) {
  ModelOptions m;
  m.kind = "transformer";
  m.transformer = {.width = 20, .depth = 1, .heads = 2, .mlp_ratio = 2, .tied = false};
  m.transformer.experts = 4;
  m.transformer.chosen = 2;
  check({m, {5}, 23, 3});
}

// Convolutions large enough to become matrix products; some columns, for they are long.
TEST(FullMatrix, SmallMaps) {
  set_threads(2);
  struct TwoConvolutions final : Model {
    TwoConvolutions() {
      parameters_ = {{"inner", {32, 32, 3, 3}}, {"outer", {32, 32, 3, 3}}, {"bias", {32}}};
    }
    std::string description() const override { return "two convolutions"; }
    at::Tensor initial_parameters(uint64_t seed) const override {
      return random_gaussian(seed, Stream::test, parameter_count(), 0, 1, at::kFloat).select(1, 0) * 0.1;
    }
    at::Tensor forward(const std::vector<at::Tensor>& p, const std::vector<at::Tensor>&, const at::Tensor& x,
                       bool) const override {
      return at::tanh(at::conv2d(at::tanh(at::conv2d(x, p[0], p[2], 1, 1)), p[1], {}, 2, 1)).sum({2, 3});
    }
  } model;
  const at::Tensor x =
      random_gaussian(1, Stream::test, 64 * 32 * 9, 0, 1, at::kDouble).reshape({64, 32, 3, 3});
  const Dataset data{x, at::arange(64).remainder(32), 32};
  const at::Tensor p = model.initial_parameters(1).to(at::kDouble);
  const at::Tensor v = random_gaussian(2, Stream::test, p.numel(), 0, 40, at::kDouble);
  const at::Tensor leaf = p.clone().requires_grad_(true);
  const at::Tensor loss =
      at::cross_entropy_loss(model.forward(unflatten(model.parameters(), leaf), {}, x, false), data.y);
  const at::Tensor g = torch::autograd::grad({loss}, {leaf}, {}, true, /*create_graph=*/true)[0];
  std::vector<at::Tensor> columns;
  for (int64_t j = 0; j < v.size(1); ++j)
    columns.push_back(torch::autograd::grad({g}, {leaf}, {v.select(1, j)}, true)[0]);
  const at::Tensor expected = at::stack(columns, 1);
  AutogradCurvatureOperator op(model, p, {}, data, {.dtype = at::kDouble, .batch_size = 64});
  const at::Tensor product = op.apply(v);
  EXPECT_LT(((product - expected).norm() / expected.norm()).item<double>(), kTolerance);
}

}  // namespace
}  // namespace seigh
