// Balanced networks: the function stays, norms become equal, the curvature does not stay.
#include "seigh/nn/rescale.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "seigh/core/random.h"
#include "seigh/nn/zoo.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

struct Net {
  std::string name;
  std::unique_ptr<Model> model;
  std::vector<int64_t> input;
};

std::vector<Net> nets() {
  std::vector<Net> all;
  const auto add = [&](const ModelOptions& options, const std::vector<int64_t>& input) {
    all.push_back({options.kind, make_model(options, input, 5), input});
  };
  ModelOptions m{.kind = "mlp"};
  m.mlp = {{12, 10, 7}, Activation::relu};
  add(m, {1, 4, 4});
  ModelOptions c{.kind = "3c3d"};
  c.three_c3d = {{3, 4, 5}, {12, 8}};
  add(c, {2, 27, 30});  // 4 x 4 positions a channel when flattened
  ModelOptions a{.kind = "all-cnn-c"};
  a.all_cnn = {{4, 6}};
  add(a, {3, 16, 17});
  return all;
}

// float64, with biases that are not zero.
at::Tensor parameters_of(const Model& model) {
  const at::Tensor p = model.initial_parameters(3).to(at::kDouble);
  return p + 0.1 * random_gaussian(4, Stream::test, p.numel(), 0, 1, at::kDouble).flatten();
}

at::Tensor outputs(const Net& net, const at::Tensor& parameters) {
  std::vector<int64_t> shape = net.input;
  shape.insert(shape.begin(), 9);
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  const at::Tensor x = random_gaussian(5, Stream::test, n, 0, 1, at::kDouble).reshape(shape);
  return net.model->forward(unflatten(net.model->parameters(), parameters), {}, x);
}

TEST(Rescale, TheFunctionStays) {
  at::set_num_threads(1);
  for (const Net& net : nets()) {
    const at::Tensor p = parameters_of(*net.model), q = balanced(*net.model, p);
    EXPECT_GT((p - q).abs().max().item<double>(), 0.01) << net.name;
    const at::Tensor before = outputs(net, p), after = outputs(net, q);
    // Ten layers of sums of up to a thousand terms in float64.
    EXPECT_LT((before - after).abs().max().item<double>(), 1e-12 * before.abs().max().item<double>())
        << net.name;
  }
}

// Norms unit by unit, by loops over names and strides: of conv1 to dense3, conv1 to conv9, layers.0 to
// layers.3.
TEST(Rescale, IncomingAndOutgoingNormsAreEqual) {
  for (const Net& net : nets()) {
    const at::Tensor q = balanced(*net.model, parameters_of(*net.model));
    const std::vector<at::Tensor> pieces = unflatten(net.model->parameters(), q);
    int64_t units = 0;
    for (size_t t = 0; t + 2 < pieces.size(); t += 2) {
      const at::Tensor &w = pieces[t], &b = pieces[t + 1], &next = pieces[t + 2];
      const int64_t width = next.size(1) / w.size(0);
      for (int64_t u = 0; u < w.size(0); ++u, ++units) {
        const double in = std::hypot(w[u].norm().item<double>(), b[u].item<double>());
        double out = 0;
        for (int64_t column = u * width; column < (u + 1) * width; ++column)
          out = std::hypot(out, next.select(1, column).norm().item<double>());
        EXPECT_NEAR(in / out, 1, 1e-6) << net.name << " " << net.model->parameters()[t].name << " " << u;
      }
    }
    EXPECT_GT(units, 20);
  }
}

TEST(Rescale, OnceIsEnoughAndWhereTheUnitsWereDoesNotMatter) {
  for (const Net& net : nets()) {
    const at::Tensor p = parameters_of(*net.model), q = balanced(*net.model, p);
    EXPECT_TRUE(at::allclose(balanced(*net.model, q), q, 1e-6, 0)) << net.name;
    // The same function with other scales: unit 1 of the first layer times 7.
    std::vector<at::Tensor> pieces = unflatten(net.model->parameters(), p.clone());
    const int64_t width = pieces[2].size(1) / pieces[0].size(0);
    pieces[0][1].mul_(7);
    pieces[1][1].mul_(7);
    pieces[2].slice(1, width, 2 * width).div_(7);
    EXPECT_TRUE(at::allclose(balanced(*net.model, flatten(pieces)), q, 1e-5, 0)) << net.name;
  }
}

TEST(Rescale, ADeadUnitStaysAsItIsAndSoDoesTheDtype) {
  const Net net = std::move(nets()[0]);
  at::Tensor p = parameters_of(*net.model).to(at::kFloat);
  std::vector<at::Tensor> pieces = unflatten(net.model->parameters(), p);
  pieces[0][3].zero_();  // nothing comes in
  pieces[1][3].zero_();
  pieces[4].select(1, 2).zero_();  // nothing goes out
  const at::Tensor q = balanced(*net.model, p);
  EXPECT_EQ(q.scalar_type(), at::kFloat);
  EXPECT_TRUE(q.isfinite().all().item<bool>());
  const at::Tensor before = outputs(net, p.to(at::kDouble)), after = outputs(net, q.to(at::kDouble));
  EXPECT_LT((before - after).abs().max().item<double>(),
            1e-5 * before.abs().max().item<double>());  // float32
}

TEST(Rescale, TheLossStaysAndItsEigenvaluesDoNot) {
  const Mlp model({6, 5, 3}, Activation::relu);
  const Dataset data = test::gaussian_data(30, 6, 3);
  const at::Tensor p = parameters_of(model), q = balanced(model, p);
  const auto loss = [&](const at::Tensor& at) {
    return loss_sum({LossKind::cross_entropy},
                    model.forward(unflatten(model.parameters(), at), {}, data.x.to(at::kDouble)), data.y)
        .item<double>();
  };
  EXPECT_NEAR(loss(q), loss(p), 1e-12 * loss(p));
  const auto largest = [&](const at::Tensor& at) {
    std::vector<at::Tensor> columns;
    for (int64_t i = 0; i < at.numel(); ++i) {
      at::Tensor unit = at::zeros_like(at);
      unit[i] = 1;
      columns.push_back(test::difference_product(model, at, data, LossKind::cross_entropy, unit));
    }
    const at::Tensor h = at::stack(columns);
    return at::linalg_eigvalsh((h + h.t()) / 2).max().item<double>();
  };
  // Differences are exact to 1e-8 here.
  EXPECT_GT(std::abs(std::log(largest(q) / largest(p))), 0.01);
}

TEST(Rescale, RefusesOtherNetworks) {
  for (const Activation activation : {Activation::tanh, Activation::gelu}) {
    const Mlp model({6, 5, 3}, activation);
    EXPECT_SEIGH_ERROR(balanced(model, model.initial_parameters(1)), "curvature.rescaled",
                       to_string(activation), "ReLU");
  }
  const auto resnet = make_model({.kind = "resnet18", .resnet = {.width = 4}}, {3, 16, 16}, 5);
  EXPECT_SEIGH_ERROR(require_rescalable(*resnet), "curvature.rescaled", "resnet");
}

}  // namespace
}  // namespace seigh
