#include "seigh/curvature/batched_derivatives.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <stdexcept>
#include <utility>

#include "seigh/core/random.h"

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
  const at::Tensor maps = at::max_pool2d(at::conv2d(images(), x[0], x[1], {1, 1}, at::IntArrayRef{0, 0}).tanh(), 2);
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
  EXPECT_THROW(values_along([](const TensorList& at) { return at[0] * at::rand_like(at[0]); }, x, d), c10::Error);
  EXPECT_TRUE(gradients_along(loss, x, d, false)[0].isfinite().all().item<bool>());
}

}  // namespace
}  // namespace seigh
