// Operators work in whatever state their caller is in, and leave no trace in it.
#include "seigh/core/context.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <functional>
#include <thread>

#include "seigh/core/error.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/mlp_curvature.h"
#include "seigh/curvature/replaced_kernels.h"
#include "seigh/eigen/eigh.h"
#include "seigh/nn/convnets.h"
#include "seigh/nn/mlp.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::relative_difference;

// A network's matrix times a block, and its eigenvalues, made from nothing but a seed.
std::vector<at::Tensor> work(uint64_t seed, const Context& context) {
  const Mlp mlp({6, 5, 4, 3}, Activation::tanh);
  const Dataset data = test::gaussian_data(12, 6, 3, seed);
  const ThreeC3d convolutions({3, 32, 32}, 10, {.channels = {4, 4, 4}, .hidden = {6, 5}});
  Dataset images = test::gaussian_data(4, 3 * 32 * 32, 10, seed);
  images.x = images.x.reshape({4, 3, 32, 32});
  MlpCurvatureOperator stacked(mlp, mlp.initial_parameters(seed), data, {.dtype = at::kDouble}, "mlp",
                               context);
  AutogradCurvatureOperator automatic(convolutions, convolutions.initial_parameters(seed), {}, images,
                                      {.dtype = at::kDouble}, "3c3d", context);
  const auto v = [&](int64_t size) { return random_gaussian(seed, Stream::test, size, 0, 3, at::kDouble); };
  return {stacked.apply(v(stacked.size())), automatic.apply(v(automatic.size())),
          eigh(stacked, {.k = 4, .tolerance = 1e-8, .seed = seed, .probes = 0}, context).eigenvalues};
}

void expect_same(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  // Other numbers of threads: sums in another order.
  for (size_t i = 0; i < a.size(); ++i) EXPECT_LT(relative_difference(a[i], b[i]), 1e-10) << i;
}

TEST(CallersState, DoesNotMatter) {
  const Context context({.threads = 2});
  const std::vector<at::Tensor> expected = work(1, context);
  {
    const at::NoGradGuard no_grad;
    expect_same(work(1, context), expected);
    EXPECT_FALSE(at::GradMode::is_enabled());
  }
  {
    const c10::InferenceMode inference;
    expect_same(work(1, context), expected);
    EXPECT_TRUE(c10::InferenceMode::is_enabled());
  }
  at::autocast::set_autocast_enabled(at::kCPU, true);
  expect_same(work(1, context), expected);
  EXPECT_TRUE(at::autocast::is_autocast_enabled(at::kCPU));
  at::autocast::set_autocast_enabled(at::kCPU, false);
}

TEST(CallersState, TwoThreadsHaveTwoOperatorsAtOnce) {
  // One OpenMP thread each under the thread sanitizer, which does not know libgomp's barriers.
#if defined(__SANITIZE_THREAD__)
  const int threads = 1;
#else
  const int threads = 2;
#endif
  const Context alone({.threads = threads});
  const std::vector<at::Tensor> expected[] = {work(1, alone), work(2, alone)};
  std::vector<at::Tensor> found[2];
  std::vector<std::thread> both;
  for (size_t i = 0; i < 2; ++i) {
    both.emplace_back([&, i] {
      const at::NoGradGuard no_grad;
      const Context context({.threads = threads});
      for (int round = 0; round < 3; ++round) found[i] = work(i + 1, context);
    });
  }
  for (std::thread& thread : both) thread.join();
  for (size_t i = 0; i < 2; ++i) expect_same(found[i], expected[i]);
}

// A second derivative of attention, by the caller itself.
void differentiate_attention() {
  const at::Tensor q =
      random_gaussian(1, Stream::test, 2 * 1 * 8 * 4, 0, 1, at::kFloat).reshape({2, 1, 8, 4});
  const at::Tensor leaf = q.clone().requires_grad_(true);
  const at::Tensor y = at::scaled_dot_product_attention(leaf, leaf, leaf).square().sum();
  const at::Tensor g = torch::autograd::grad({y}, {leaf}, {}, true, /*create_graph=*/true)[0];
  torch::autograd::grad({g.sum()}, {leaf});
}

TEST(CallersState, IsLeftAsItWas) {
  at::set_num_threads(2);
  const Context context({.threads = 1});
  work(1, context);
  EXPECT_EQ(at::get_num_threads(), 2);
  // Not in the pool, not on the account.
  const int64_t held = context.memory().held();
  const at::Tensor mine = at::empty({1 << 22}, at::kByte);
  EXPECT_EQ(context.memory().held(), held);
  // libtorch's own kernels: its fused attention has no second derivative, ours has.
  EXPECT_THROW(differentiate_attention(), std::exception);
  {
    const ReplacedKernels replaced;
    EXPECT_NO_THROW(differentiate_attention());
    std::thread([] { EXPECT_THROW(differentiate_attention(), std::exception); }).join();
  }
  EXPECT_THROW(differentiate_attention(), std::exception);
}

TEST(Cancellation, StopsWithinAProduct) {
  const ThreeC3d convolutions({3, 32, 32}, 10, {.channels = {4, 4, 4}, .hidden = {6, 5}});
  const Dataset images{at::zeros({4, 3, 32, 32}), at::arange(4), 10};
  std::atomic<bool> stop = false;
  const Context context({.threads = 2, .cancelled = [&] { return stop.load(); }});
  AutogradCurvatureOperator op(convolutions, convolutions.initial_parameters(1), {}, images, {}, "3c3d",
                               context);
  const at::Tensor v = random_gaussian(1, Stream::test, op.size(), 0, 4, at::kFloat);
  const at::Tensor before = op.apply(v);
  stop = true;
  EXPECT_THROW(op.apply(v), Cancelled);
  stop = false;
  EXPECT_TRUE(at::equal(op.apply(v), before));  // as if nothing had been
}

}  // namespace
}  // namespace seigh
