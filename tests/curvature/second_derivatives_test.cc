// Fused second derivatives against differences of gradients and against libtorch's own, in float64.
#include "seigh/curvature/second_derivatives.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/accumulate.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <functional>

#include "seigh/core/random.h"
#include "seigh/curvature/replaced_kernels.h"

namespace seigh {
namespace {

using Tensors = std::vector<at::Tensor>;

at::Tensor draw(const std::vector<int64_t>& shape, uint64_t seed) {
  return random_gaussian(seed, Stream::test, c10::multiply_integers(shape), 0, 1, at::kDouble).reshape(shape);
}

// An output that is differentiated with respect to those of `inputs` that `needed` marks.
struct Case {
  std::string name;
  Tensors inputs;
  std::function<at::Tensor(const Tensors&)> output;
  std::vector<bool> needed = {};

  Tensors leaves(double h = 0, const Tensors& along = {}) const {
    Tensors all;
    for (size_t i = 0, next = 0; i < inputs.size(); ++i) {
      const bool leaf = needed.empty() || needed[i];
      at::Tensor t = leaf && h != 0 ? inputs[i] + h * along[next] : inputs[i].detach();
      all.push_back(leaf ? t.requires_grad_(true) : t);
      next += leaf ? 1 : 0;
    }
    return all;
  }
  Tensors chosen(const Tensors& all) const {
    Tensors some;
    for (const at::Tensor& t : all)
      if (t.requires_grad()) some.push_back(t);
    return some;
  }
  // A scalar that is nonlinear in the output, so that gradients of the output depend on everything.
  at::Tensor scalar(const Tensors& all) const {
    const at::Tensor y = output(all);
    return ((y + 0.3).square() * draw(y.sizes().vec(), 11).to(y.scalar_type())).sum();
  }
  Tensors gradient(const Tensors& all, bool graph) const {
    return torch::autograd::grad({scalar(all)}, chosen(all), {}, true, graph, true);
  }
  Tensors directions() const {
    Tensors v;
    for (const at::Tensor& t : chosen(leaves()))
      v.push_back(draw(t.sizes().vec(), 20 + v.size()).to(t.scalar_type()));
    return v;
  }
  // H v and the gradient of |H v|^2.
  std::pair<Tensors, Tensors> second_and_third() const {
    const Tensors all = leaves(), some = chosen(all), v = directions();
    const Tensors g = gradient(all, true);
    const Tensors plain = torch::autograd::grad(g, some, v, true, false, true),
                  again = torch::autograd::grad(g, some, v, true, false, true),
                  graphed = torch::autograd::grad(g, some, v, true, true, true);
    at::Tensor square = at::zeros({}, v[0].options());
    for (size_t i = 0; i < plain.size(); ++i) {
      EXPECT_TRUE(at::equal(plain[i], again[i])) << name << ": another vector through the same graph";
      EXPECT_LE((plain[i] - graphed[i]).norm().item<double>(), 1e-12 * (1 + plain[i].norm().item<double>()))
          << name << ": with and without a graph";
      square = square + graphed[i].square().sum();
    }
    return {plain, torch::autograd::grad({square}, some, {}, true, false, true)};
  }
};

double difference(const Tensors& a, const Tensors& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i].to(at::kDouble) - b[i].to(at::kDouble)).square().sum().item<double>();
    size += b[i].to(at::kDouble).square().sum().item<double>();
  }
  return std::sqrt(error) / (size > 0 ? std::sqrt(size) : 1);
}

std::optional<at::Tensor> optional(const Tensors& of, size_t i) {
  return i < of.size() ? std::optional(of[i]) : std::nullopt;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const std::string& name, Tensors inputs, std::function<at::Tensor(const Tensors&)> f) {
    all.push_back({name, inputs, f});
    // Each input alone.
    for (size_t i = 0; inputs.size() > 1 && i < inputs.size(); ++i) {
      std::vector<bool> one(inputs.size());
      one[i] = true;
      all.push_back({name + ", input " + std::to_string(i) + " alone", inputs, f, one});
    }
  };
  for (const std::string how : {"none", "tanh"}) {
    const auto gelu = [how](const Tensors& of) { return at::gelu(of[0], how); };
    add("gelu " + how, {3 * draw({3, 7}, 1)}, gelu);
    add("gelu " + how + " transposed", {draw({5, 2, 3}, 1).transpose(0, 2)}, gelu);
  }
  add("silu", {3 * draw({4, 5}, 1)}, [](const Tensors& of) { return at::silu(of[0]); });
  add("silu of a scalar", {draw({1}, 1).squeeze()}, [](const Tensors& of) { return at::silu(of[0]); });
  add("gate", {draw({3, 5}, 1), draw({3, 5}, 2)},
      [](const Tensors& of) { return at::silu(of[0]) * at::silu(of[1]) * of[0]; });
  const auto norm = [](std::vector<int64_t> shape) {
    return [shape](const Tensors& of) {
      return at::layer_norm(of[0], shape, optional(of, 1), optional(of, 2), 1e-3);
    };
  };
  add("layer norm", {draw({3, 4, 7}, 1), draw({7}, 2), draw({7}, 3)}, norm({7}));
  add("layer norm of many rows", {draw({133, 5}, 1), draw({5}, 2), draw({5}, 3)}, norm({5}));
  add("layer norm over two dimensions", {draw({5, 3, 5}, 1), draw({3, 5}, 2), draw({3, 5}, 3)}, norm({3, 5}));
  add("layer norm without a bias", {draw({2, 3, 9}, 1), draw({9}, 2)}, norm({9}));
  add("layer norm without parameters", {draw({6, 8}, 1)}, norm({8}));
  add("layer norm, transposed", {draw({6, 4, 3}, 1).transpose(0, 2), draw({6}, 2), draw({6}, 3)}, norm({6}));
  add("layer norm of one number", {draw({4, 1}, 1), draw({1}, 2), draw({1}, 3)}, norm({1}));
  for (const int64_t dim : {-1, 2, 1, 0})
    add("softmax over dimension " + std::to_string(dim), {draw({2, 3, 5}, 1)},
        [dim](const Tensors& of) { return at::softmax(of[0], dim); });
  add("softmax, transposed", {draw({5, 3, 2}, 1).transpose(0, 2)},
      [](const Tensors& of) { return at::softmax(of[0], -1); });
  add("causal softmax", {draw({2, 6, 6}, 1)}, [](const Tensors& of) {
    const double inf = std::numeric_limits<double>::infinity();
    return at::softmax(of[0] + at::full({6, 6}, -inf, at::kDouble).triu(1), -1);
  });
  const auto linear = [](const Tensors& of) { return at::linear(of[0], of[1], optional(of, 2)); };
  add("linear", {draw({2, 3, 5}, 1), draw({4, 5}, 2), draw({4}, 3)}, linear);
  add("linear without a bias", {draw({3, 5}, 1), draw({4, 5}, 2)}, linear);
  add("linear of one vector", {draw({5}, 1), draw({4, 5}, 2), draw({4}, 3)}, linear);
  add("linear, transposed", {draw({5, 3, 2}, 1).transpose(0, 2), draw({5, 4}, 2).t(), draw({4}, 3)}, linear);
  add("linear of a shared weight", {draw({3, 4}, 1), draw({4, 4}, 2), draw({4}, 3)},
      [](const Tensors& of) { return at::linear(at::tanh(at::linear(of[0], of[1], of[2])), of[1], of[2]); });
  add("products", {draw({2, 3, 4}, 1), draw({2, 4, 5}, 2)},
      [](const Tensors& of) { return of[0].matmul(of[1]); });
  add("products of one tensor with itself", {draw({2, 3, 4}, 1)},
      [](const Tensors& of) { return of[0].bmm(of[0].transpose(1, 2)); });
  add("products of four dimensions", {draw({2, 3, 4, 5}, 1), draw({2, 3, 6, 5}, 2)},
      [](const Tensors& of) { return of[0].matmul(of[1].transpose(-2, -1)); });
  add("a layer of a transformer",
      {draw({2, 5, 6}, 1), draw({6}, 2), draw({6}, 3), draw({18, 6}, 4) / 3, draw({18}, 5),
       draw({6, 6}, 6) / 3},
      [](const Tensors& of) {
        const at::Tensor z = at::layer_norm(of[0], {6}, of[1], of[2]);
        const Tensors qkv = at::linear(z, of[3], of[4]).chunk(3, -1);
        const at::Tensor attention = (qkv[0].matmul(qkv[1].transpose(1, 2)) / 2).softmax(-1).matmul(qkv[2]);
        return of[0] + at::gelu(at::linear(attention, of[5]));
      });
  return all;
}

TEST(SecondDerivatives, EqualLibtorchsAndDifferencesOfGradients) {
  for (const Case& c : cases()) {
    const auto [theirs, their_third] = c.second_and_third();
    const ReplacedKernels replaced;
    const auto [ours, our_third] = c.second_and_third();
    // Sums of some hundred terms in another order.
    EXPECT_LT(difference(ours, theirs), 1e-12) << c.name;
    EXPECT_LT(difference(our_third, their_third), 1e-11) << c.name;
    // Central differences: h^2 = 1e-10 and eps / h = 2e-11, each times a ratio of derivatives.
    const double h = 1e-5;
    const Tensors v = c.directions(), above = c.gradient(c.leaves(h, v), false),
                  below = c.gradient(c.leaves(-h, v), false);
    Tensors differences;
    for (size_t i = 0; i < v.size(); ++i) differences.push_back((above[i] - below[i]) / (2 * h));
    EXPECT_LT(difference(ours, differences), 1e-6) << c.name;
  }
}

TEST(SecondDerivatives, OfFloat32AreThoseOfFloat64ToRounding) {
  for (const Case& c : cases()) {
    Case exact = c, single = c;
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      single.inputs[i] = c.inputs[i].to(at::kFloat);
      exact.inputs[i] = single.inputs[i].to(at::kDouble);
    }
    if (c.name.starts_with("causal")) continue;  // its mask is in float64
    const auto product = [](const Case& of) {
      const Tensors all = of.leaves();
      return torch::autograd::grad(of.gradient(all, true), of.chosen(all), of.directions(), true, false,
                                   true);
    };
    const Tensors truth = product(exact);
    const double theirs = difference(product(single), truth);
    const ReplacedKernels replaced;
    const double ours = difference(product(single), truth);
    // As near as libtorch's own, up to luck: both are of the order of eps = 6e-8 times what cancels.
    EXPECT_LT(ours, 3 * theirs + 2e-7) << c.name;
  }
}

TEST(SecondDerivatives, OfManyRowsDoNotDependOnThreads) {
  const Case norm{"norm", {draw({700, 40}, 1), draw({40}, 2), draw({40}, 3)}, [](const Tensors& of) {
                    return at::softmax(at::layer_norm(of[0], {40}, of[1], of[2]), -1);
                  }};
  const ReplacedKernels replaced;
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Tensors one = norm.second_and_third().first;
  at::set_num_threads(3);
  const Tensors three = norm.second_and_third().first;
  at::set_num_threads(before);
  EXPECT_LT(difference(three, one), 1e-13);
}

TEST(SecondDerivatives, OfNothing) {
  const std::vector<Case> empty{
      {"gelu", {at::zeros({0, 3}, at::kDouble)}, [](const Tensors& of) { return at::gelu(of[0]); }},
      {"norm",
       {at::zeros({0, 3}, at::kDouble), draw({3}, 1), draw({3}, 2)},
       [](const Tensors& of) { return at::layer_norm(of[0], {3}, of[1], of[2]); }},
      {"softmax", {at::zeros({0, 3}, at::kDouble)}, [](const Tensors& of) { return at::softmax(of[0], -1); }},
      {"linear", {at::zeros({0, 3}, at::kDouble), draw({2, 3}, 1), draw({2}, 2)}, [](const Tensors& of) {
         return at::linear(of[0], of[1], of[2]);
       }}};
  for (const Case& c : empty) {
    const auto product = [&] {
      const Tensors all = c.leaves();
      return torch::autograd::grad(c.gradient(all, true), c.chosen(all), c.directions(), true, false, true);
    };
    const Tensors theirs = product();
    const ReplacedKernels replaced;
    const Tensors ours = product();
    for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(at::equal(ours[i], theirs[i])) << c.name;
  }
}

// Of which operation's backward pass a result is, for libtorch's own and for ours.
std::string node(const at::Tensor& y) {
  return y.grad_fn()->name();
}

TEST(SecondDerivatives, AreLibtorchsOwnOutsideOfAScope) {
  const at::Tensor x = draw({2, 3, 4}, 1).requires_grad_(true), w = draw({5, 4}, 2).requires_grad_(true);
  const auto names = [&] {
    const at::Tensor g = x * 2;
    return std::vector<std::string>{node(at::gelu(x)), node(at::silu(x)), node(x.bmm(x.transpose(1, 2))),
                                    node(at::linear(x.flatten(0, 1), w, w.select(1, 0))),
                                    node(at::_softmax_backward_data(g, x, -1, at::kDouble))};
  };
  const std::vector<std::string> expected{"GeluBackward0", "SiluBackward0", "BmmBackward0", "AddmmBackward0",
                                          "SoftmaxBackwardDataBackward0"};
  EXPECT_EQ(names(), expected);
  {
    const ReplacedKernels replaced;
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NE(names()[i], expected[i]);
    const ReplacedKernels theirs(ReplacedKernels::Which::none);
    EXPECT_EQ(names(), expected);
  }
  EXPECT_EQ(names(), expected);
}

TEST(SecondDerivatives, SayWhatIsWrongAsBefore) {
  const ReplacedKernels replaced;
  const at::Tensor x = draw({2, 3, 4}, 1).requires_grad_(true);
  EXPECT_THROW(at::gelu(x, "cubic"), c10::Error);
  EXPECT_THROW(at::linear(x, draw({5, 3}, 2)), c10::Error);
  EXPECT_THROW(x.bmm(x), c10::Error);
  // Lower precision is libtorch's.
  EXPECT_EQ(node(at::gelu(x.to(at::kBFloat16))), "GeluBackward0");
}

}  // namespace
}  // namespace seigh
