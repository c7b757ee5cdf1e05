// Networks of about 10^4 parameters, one of each kind: the operators' matrices against the full matrix in
// float64 made another way.
//
// Hessian: the gradient of the mean loss over all samples at once, and for each basis vector e_i the gradient
// of its i-th entry, by libtorch's own double backward: none of the engine's mini-batches, threads or
// convolutions. It is made before the first operator, which installs those for the whole process; each test
// is therefore to run in a process of its own, as ctest does. Gauss-Newton matrix: J^T H_L J with the whole
// Jacobian, a backward pass for each output, and the loss's Hessian in closed form.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/accumulate.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "seigh/core/context.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/nn/zoo.h"
#include "tests/support/second_derivative.h"
#include "tests/support/spectra.h"
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

  // Leaves of their own, one for each tensor: the gradient of a slice of one flat leaf would fill all of it
  // with zeros.
  std::vector<at::Tensor> leaves() const {
    std::vector<at::Tensor> all;
    for (const at::Tensor& t : unflatten(model->parameters(), parameters))
      all.push_back(t.detach().clone().requires_grad_(true));
    return all;
  }
  at::Tensor outputs(const std::vector<at::Tensor>& leaves) const {
    return model->forward(leaves, buffers, data.x).flatten(0, -2);
  }
  void write(const std::vector<at::Tensor>& derivatives, const at::Tensor& row) const {
    const std::vector<at::Tensor> parts = unflatten(model->parameters(), row);
    for (size_t i = 0; i < parts.size(); ++i)
      derivatives[i].defined() ? parts[i].copy_(derivatives[i]) : parts[i].zero_();
  }
  // Row i is the gradient of entry i of the gradient.
  at::Tensor hessian() const {
    const at::Tensor h = at::empty({size(), size()}, at::kDouble);
    constexpr int kThreads = 2;  // a graph each
    Context().run_workers(kThreads, [&](int worker) {
      const std::vector<at::Tensor> theta = leaves();
      const at::Tensor loss = at::cross_entropy_loss(outputs(theta), data.y.flatten());
      const std::vector<at::Tensor> g = torch::autograd::grad({loss}, theta, {}, true, /*create_graph=*/true);
      const at::Tensor e = at::zeros({size()}, at::kDouble);
      const std::vector<at::Tensor> parts = unflatten(model->parameters(), e);
      for (int64_t i = worker; i < size(); i += kThreads) {
        e[i].fill_(1);
        write(torch::autograd::grad(g, theta, parts, /*retain_graph=*/true, false, /*allow_unused=*/true),
              h[i]);
        e[i].fill_(0);
      }
    });
    return h;
  }
  at::Tensor ggn() const {
    const std::vector<at::Tensor> theta = leaves();
    const at::Tensor f = outputs(theta), flat = f.flatten();
    const int64_t rows = flat.numel(), classes = f.size(1);
    const at::Tensor j = at::empty({rows, size()}, at::kDouble);
    for (int64_t i = 0; i < rows; ++i)
      write(torch::autograd::grad({flat[i]}, theta, {}, true, false, /*allow_unused=*/true), j[i]);
    const at::Tensor p = f.detach().softmax(1);
    const at::Tensor h = (at::diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)) / f.size(0);
    const at::Tensor hj = at::bmm(h, j.view({-1, classes, size()})).view({rows, size()});
    return at::matmul(j.t(), hj);
  }
  AutogradCurvatureOperator make(CurvatureKind kind) const {
    return {*model,
            parameters,
            buffers,
            data,
            {.kind = kind, .dtype = at::kDouble, .batch_size = (data.size() + 1) / 2}};
  }
};

// || (A - H) E || / || H E ||, E being every `stride`-th column of the identity.
double difference(CurvatureOperator& op, const at::Tensor& matrix, int64_t stride) {
  const at::Tensor identity = at::eye(op.size(), at::kDouble).slice(1, 0, op.size(), stride),
                   expected = matrix.slice(1, 0, op.size(), stride);
  double error = 0;
  for (int64_t begin = 0; begin < identity.size(1); begin += 500) {
    const at::Tensor d =
        op.apply(as_block(identity.slice(1, begin, begin + 500))) - expected.slice(1, begin, begin + 500);
    error += d.square().sum().item<double>();
  }
  return std::sqrt(error) / expected.norm().item<double>();
}

// Where the operator would take as long again for all columns, it is given every `stride`-th, and random
// vectors, which meet all of them.
void check(const Problem& p, int64_t stride) {
  at::set_num_threads(2);
  EXPECT_GT(p.size(), 7'000);
  EXPECT_LT(p.size(), 13'000);
  const at::Tensor hessian = p.hessian();  // before the first operator
  AutogradCurvatureOperator op = p.make(CurvatureKind::hessian);
  EXPECT_LT(difference(op, hessian, stride), kTolerance);
  const at::Tensor v = random_gaussian(7, Stream::test, p.size(), 0, 100, at::kDouble);
  EXPECT_LT(test::relative_difference(op.apply(v), at::matmul(hessian, v)), kTolerance);
  AutogradCurvatureOperator ggn = p.make(CurvatureKind::ggn);
  EXPECT_LT(test::relative_difference(ggn.apply(v), at::matmul(p.ggn(), v)), kTolerance);
}

TEST(FullMatrix, Convolution) {
  ModelOptions m;
  m.kind = "3c3d";
  m.three_c3d.channels = {6, 12, 16};
  m.three_c3d.hidden = {48, 24};
  check({m, {3, 20, 20}, 5, 2}, 1);
}

TEST(FullMatrix, BatchNorm) {
  ModelOptions m;
  m.kind = "resnet18";
  m.resnet.width = 3;
  m.resnet.blocks = {1, 1, 1, 1};
  check({m, {3, 8, 8}, 4, 2}, 20);
}

TEST(FullMatrix, Attention) {
  ModelOptions m;
  m.kind = "vit";
  m.vit = {.patch = 4, .width = 32, .depth = 1, .heads = 2, .mlp_ratio = 2};
  check({m, {3, 8, 8}, 4, 2}, 20);
}

TEST(FullMatrix, TiedWeights) {
  ModelOptions m;
  m.kind = "transformer";
  m.transformer = {.width = 28, .depth = 1, .heads = 2, .mlp_ratio = 3, .tied = true};
  check({m, {5}, 23, 2}, 20);
}

TEST(FullMatrix, Experts) {
  ModelOptions m;
  m.kind = "transformer";
  m.transformer = {.width = 20, .depth = 1, .heads = 2, .mlp_ratio = 2, .tied = false};
  m.transformer.experts = 4;
  m.transformer.chosen = 2;
  check({m, {5}, 23, 2}, 20);
}

// Convolutions large enough to become matrix products; some columns, for they are long.
TEST(FullMatrix, SmallMaps) {
  at::set_num_threads(2);
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
