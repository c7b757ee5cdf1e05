#include "seigh/curvature/batched_derivatives.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <array>
#include <functional>
#include <stdexcept>
#include <utility>

#include "seigh/core/random.h"
#include "seigh/curvature/dense_maps.h"

namespace seigh {
namespace {

at::Tensor normal(int64_t column, at::IntArrayRef shape) {
  return random_gaussian(3, Stream::test, c10::multiply_integers(shape), column, 1, at::kDouble)
      .reshape(shape);
}

const at::Tensor& images() {  // made outside of the layers, as data are
  static const at::Tensor all = normal(0, {4, 2, 6, 6});
  return all;
}

// A convolution, a maximum, a product of two tensors of x, a sum that does not know of the last.
at::Tensor network(const TensorList& x) {
  const at::Tensor maps =
      at::max_pool2d(at::conv2d(images(), x[0], x[1], {1, 1}, at::IntArrayRef{0, 0}).tanh(), 2);
  return at::log_softmax(at::matmul(maps.flatten(1), x[2]), 1);
}
at::Tensor loss(const TensorList& x) {
  return -network(x).select(1, 1).sum();
}
TensorList parameters() {
  images();
  return {normal(1, {3, 2, 3, 3}), normal(2, {3}), normal(3, {12, 5}), normal(4, {2})};
}
TensorList directions(int64_t b) {
  return {normal(5, {b, 3, 2, 3, 3}), normal(6, {b, 3}), normal(7, {b, 12, 5}), normal(8, {b, 2})};
}

TensorList leaves() {
  TensorList all = parameters();
  for (at::Tensor& x : all) x.requires_grad_(true);
  return all;
}

TEST(BatchedDerivatives, AreThoseOfDoubleBackward) {
  for (const auto& [b, differentiable] : {std::pair{1, false}, {3, false}, {3, true}}) {
    const TensorList d = directions(b);
    const TensorList found = gradients_along(loss, parameters(), d, differentiable);
    ASSERT_EQ(found.size(), 4U);
    EXPECT_FALSE(found[3].defined());
    const TensorList x = leaves();
    const TensorList used(x.begin(), x.begin() + 3);
    const TensorList g = torch::autograd::grad({loss(x)}, used, {}, true, true);
    for (int j = 0; j < b; ++j) {
      const TensorList h = torch::autograd::grad(g, used, {d[0][j], d[1][j], d[2][j]}, true);
      for (size_t i = 0; i < h.size(); ++i) {
        EXPECT_LT((found[i][j] - h[i]).norm().item<double>(), 1e-12 * h[i].norm().item<double>());
        EXPECT_FALSE(found[i].requires_grad());
      }
    }
  }
}

TEST(BatchedDerivatives, OfValuesAndBackAgain) {
  const TensorList d = directions(3), x = leaves();
  const at::Tensor jv = values_along(network, parameters(), d);
  EXPECT_EQ(jv.sizes(), at::IntArrayRef({3, 4, 5}));
  const at::Tensor f = network(x), u = normal(9, {3, 4, 5});
  const TensorList used(x.begin(), x.begin() + 3);
  const TensorList jtu = for_each_slice(
      [&](const at::Tensor& slice) { return torch::autograd::grad({f}, used, {slice}, true); }, u);
  // <u, J d> = <J^T u, d>
  const at::Tensor there = (u * jv).flatten(1).sum(1);
  at::Tensor back = at::zeros_like(there);
  for (size_t i = 0; i < used.size(); ++i) back += (jtu[i] * d[i]).flatten(1).sum(1);
  EXPECT_LT((there - back).norm().item<double>(), 1e-12 * there.norm().item<double>());
}

// Of all geometries that are worth it, and derivatives of theirs.
TEST(DenseMaps, AreConvolutions) {
  struct Case {
    int64_t h, w, kernel, stride, padding, dilation;
    bool worth;
  };
  for (const Case& c :
       {Case{1, 1, 3, 1, 1, 1, true}, Case{2, 2, 3, 1, 1, 1, true}, Case{2, 2, 3, 2, 1, 1, true},
        Case{1, 2, 3, 1, 1, 1, true}, Case{2, 2, 3, 1, 2, 2, true}, Case{3, 2, 5, 3, 2, 1, true},
        Case{1, 1, 1, 1, 0, 1, false}, Case{4, 4, 3, 1, 1, 1, false}, Case{4, 4, 3, 2, 1, 1, false},
        Case{2, 2, 3, 1, 0, 1, false}}) {
    const at::Tensor x = normal(20, {4, 3, c.h, c.w}), w = normal(21, {5, 3, c.kernel, c.kernel}),
                     bias = normal(22, {5});
    const std::array<int64_t, 2> stride{c.stride, c.stride}, padding{c.padding, c.padding},
        dilation{c.dilation, c.dilation};
    ASSERT_EQ(worth_a_dense_matrix(x, w, stride, padding, dilation, false, 1), c.worth) << c.h << c.kernel;
    EXPECT_FALSE(worth_a_dense_matrix(x, w, stride, padding, dilation, true, 1));
    if (!c.worth) continue;
    const at::Tensor expected = at::conv2d(x, w, bias, stride, at::IntArrayRef(padding), dilation);
    const at::Tensor found = dense_convolution(x, w, bias, stride, padding, dilation);
    ASSERT_EQ(found.sizes(), expected.sizes());
    EXPECT_LT((found - expected).norm().item<double>(), 1e-14 * expected.norm().item<double>());
    const TensorList at = {w, bias}, d = {normal(23, {2, 5, 3, c.kernel, c.kernel}), normal(24, {2, 5})};
    const auto loss = [&](bool dense) {
      return gradients_along(
          [&](const TensorList& p) {
            const at::Tensor y = dense
                                     ? dense_convolution(x, p[0], p[1], stride, padding, dilation)
                                     : at::conv2d(x, p[0], p[1], stride, at::IntArrayRef(padding), dilation);
            return y.tanh().sum();
          },
          at, d, false);
    };
    const TensorList ours = loss(true), theirs = loss(false);
    for (size_t i = 0; i < 2; ++i)
      EXPECT_LT((ours[i] - theirs[i]).norm().item<double>(), 1e-13 * theirs[i].norm().item<double>());
  }
}

// Backward passes whose forward derivatives are formulas of ours where there is no Python.
TEST(BatchedDerivatives, KnowWhatLibtorchLacks) {
  const at::Tensor x = normal(30, {6, 4, 3}), running = normal(31, {4}),
                   spread = normal(32, {4}).square() + 0.5;
  const std::vector<std::function<at::Tensor(const TensorList&)>> functions = {
      [&](const TensorList& p) {
        return at::log_softmax(x * p[0].view({1, 4, 1}), 1) * x;
      },
      [&](const TensorList& p) {
        return at::softmax(x * p[0].view({1, 4, 1}), 1) * x;
      },
      [&](const TensorList& p) {
        return at::layer_norm((x * p[0].view({1, 4, 1})).transpose(1, 2), {4}, p[1], p[0]);
      },
      [&](const TensorList& p) {
        return at::layer_norm((x * p[0].view({1, 4, 1})).transpose(1, 2), {4});
      },
      [&](const TensorList& p) {
        return at::batch_norm(x * p[0].view({1, 4, 1}), p[1], p[0], running, spread, false, 0.1, 1e-5, false);
      },
      [&](const TensorList& p) {
        return at::batch_norm(x * p[0].view({1, 4, 1}), p[1], p[0], {}, {}, true, 0.1, 1e-5, false);
      },
  };
  const TensorList at = {normal(33, {4}), normal(34, {4})}, d = {normal(35, {2, 4}), normal(36, {2, 4})};
  for (size_t f = 0; f < functions.size(); ++f) {
    const auto value = [&](const TensorList& p) { return functions[f](p).tanh().sum(); };
    const TensorList found = gradients_along(value, at, d, false);
    TensorList leaves = {at[0].clone().requires_grad_(true), at[1].clone().requires_grad_(true)};
    const TensorList g = torch::autograd::grad({value(leaves)}, leaves, {}, true, true, true);
    for (int j = 0; j < 2; ++j) {
      TensorList outputs, weights;
      for (size_t i = 0; i < 2; ++i) {
        if (!g[i].defined()) continue;
        outputs.push_back(g[i]);
        weights.push_back(d[i][j]);
      }
      const TensorList h = torch::autograd::grad(outputs, leaves, weights, true, false, true);
      for (size_t i = 0; i < 2; ++i) {
        if (!h[i].defined()) continue;
        EXPECT_LT((found[i][j] - h[i]).norm().item<double>(), 1e-11 * h[i].norm().item<double>()) << f << i;
      }
    }
  }
}

TEST(BatchedDerivatives, OfNothing) {
  const TensorList d = {normal(1, {2, 3})}, x = {normal(2, {3})};
  EXPECT_FALSE(values_along([](const TensorList&) { return at::ones({2}); }, x, d).defined());
  // A linear function has a gradient that depends on nothing.
  const TensorList found = gradients_along([](const TensorList& at) { return at[0].sum(); }, x, d, false);
  EXPECT_TRUE(!found[0].defined() || found[0].abs().max().item<double>() == 0);
}

TEST(BatchedDerivatives, LeaveLibtorchAsItWas) {
  const TensorList d = directions(2), x = parameters();
  const auto fails = [](const TensorList&) -> at::Tensor { throw std::runtime_error("in the network"); };
  EXPECT_THROW(gradients_along(fails, x, d, false), std::runtime_error);
  EXPECT_THROW(values_along(fails, x, d), std::runtime_error);
  // No random numbers within: a batch of vectors would see different networks.
  EXPECT_THROW(values_along([](const TensorList& at) { return at[0] * at::rand_like(at[0]); }, x, d),
               c10::Error);
  EXPECT_TRUE(gradients_along(loss, x, d, false)[0].isfinite().all().item<bool>());
}

}  // namespace
}  // namespace seigh
