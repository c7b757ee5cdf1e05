// Convolutions as matrix products against libtorch's own kernels, in float64.
#include "seigh/curvature/small_maps.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_compositeexplicitautograd_dispatch.h>
#include <c10/util/accumulate.h>
#include <gtest/gtest.h>

#include "seigh/core/context.h"
#include "seigh/core/random.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/replaced_kernels.h"
#include "tests/support/second_derivative.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using Pair = std::array<int64_t, 2>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

at::Tensor draw(const std::vector<int64_t>& shape, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  return random_gaussian(seed, Stream::test, c10::multiply_integers(shape), 0, 1, dtype).reshape(shape);
}

struct Convolution {
  at::Tensor x, w, bias;
  Pair stride, padding, dilation;
  int64_t groups = 1;

  bool has_output() const {
    for (size_t d = 0; d < 2; ++d) {
      const auto dim = static_cast<int64_t>(d) + 2;
      if (x.size(dim) + 2 * padding[d] < dilation[d] * (w.size(dim) - 1) + 1) return false;
    }
    return true;
  }
  std::string text() const {
    std::ostringstream out;
    out << "x " << x.sizes() << ", w " << w.sizes() << ", stride " << stride[0] << stride[1] << ", padding "
        << padding[0] << padding[1] << ", dilation " << dilation[0] << dilation[1];
    return out.str();
  }
  // libtorch's own kernels, whatever is registered.
  at::Tensor original() const {
    const at::AutoDispatchBelowAutograd kernels;
    return at::compositeexplicitautograd::convolution(x, w, bias, stride, padding, dilation, false, {0, 0},
                                                      groups);
  }
  Gradients original_backward(const at::Tensor& g, std::array<bool, 3> mask) const {
    const at::AutoDispatchBelowAutograd kernels;
    return at::compositeexplicitautograd::convolution_backward(
        g, x, w, at::IntArrayRef(w.size(0)), stride, padding, dilation, false, {0, 0}, groups, mask);
  }
  at::Tensor registered() const {
    return at::convolution(x, w, bias, stride, padding, dilation, false, {0, 0}, groups);
  }
  Gradients registered_backward(const at::Tensor& g, std::array<bool, 3> mask) const {
    return at::convolution_backward(g, x, w, at::IntArrayRef(w.size(0)), stride, padding, dilation, false,
                                    {0, 0}, groups, mask);
  }
};

// Sums of at most 10^5 products in another order.
constexpr double kRounding = 1e-13;

void expect_close(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
  ASSERT_TRUE(a.defined() == b.defined()) << what;
  if (!a.defined()) return;
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  EXPECT_TRUE(a.is_contiguous()) << what;
  // A part that no tap touches is zero in both.
  EXPECT_LE((a - b).norm().item<double>(), kRounding * (b.norm().item<double>() + 1e-3)) << what;
}

TEST(SmallMapConvolution, EqualsTheOriginalForEveryGeometry) {
  int count = 0;
  for (const auto& [height, width] :
       {Pair{1, 1}, Pair{2, 2}, Pair{3, 5}, Pair{4, 4}, Pair{7, 2}, Pair{8, 8}}) {
    for (const auto& kernel : {Pair{1, 1}, Pair{3, 3}, Pair{5, 5}, Pair{7, 7}, Pair{2, 3}}) {
      for (const auto& stride : {Pair{1, 1}, Pair{2, 2}, Pair{3, 3}, Pair{1, 2}}) {
        for (const auto& padding : {Pair{0, 0}, Pair{1, 1}, Pair{2, 2}, Pair{3, 3}, Pair{0, 2}}) {
          for (const auto& dilation : {Pair{1, 1}, Pair{2, 2}, Pair{1, 3}}) {
            const bool with_bias = count % 2 == 0;
            const Convolution c{draw({3, 4, height, width}, 1),
                                draw({5, 4, kernel[0], kernel[1]}, 2),
                                with_bias ? draw({5}, 3) : at::Tensor(),
                                stride,
                                padding,
                                dilation};
            if (!c.has_output()) continue;
            const SmallMapConvolution products(c.x.sizes(), c.w.sizes(), stride, padding, dilation);
            const at::Tensor y = c.original(), g = draw(y.sizes().vec(), 4);
            const auto [gx, gw, gb] = c.original_backward(g, {true, true, false});
            expect_close(products.output(c.x, c.w, c.bias), y, "output: " + c.text());
            expect_close(products.input_gradient(g, c.w), gx, "input gradient: " + c.text());
            expect_close(products.weight_gradient(g, c.x), gw, "weight gradient: " + c.text());
            ++count;
          }
        }
      }
    }
  }
  EXPECT_GT(count, 900);
}

TEST(SmallMapConvolution, LeavesInputsInAnyLayout) {
  const at::Tensor x = draw({4, 4, 6, 3}, 1).permute({1, 3, 2, 0}),
                   w = draw({3, 3, 3, 5}, 2).permute({3, 2, 0, 1});
  const Convolution c{x, w, {}, {1, 1}, {1, 1}, {1, 1}};
  const SmallMapConvolution products(x.sizes(), w.sizes(), c.stride, c.padding, c.dilation);
  const at::Tensor y = c.original(), g = draw({1}, 3).expand_as(y);
  const auto [gx, gw, gb] = c.original_backward(g.contiguous(), {true, true, false});
  expect_close(products.output(x, w, {}), y.contiguous(), "output");
  expect_close(products.input_gradient(g, w), gx.contiguous(), "input gradient");
  expect_close(products.weight_gradient(g, x), gw.contiguous(), "weight gradient");
}

TEST(SmallMapConvolution, DoesNotDependOnThreadsInLayout) {
  const at::Tensor x = draw({70, 64, 4, 4}, 1), w = draw({64, 64, 3, 3}, 2);
  const SmallMapConvolution products(x.sizes(), w.sizes(), {1, 1}, {1, 1}, {1, 1});
  at::set_num_threads(1);
  const at::Tensor one = products.output(x, w, {});
  at::set_num_threads(2);
  const at::Tensor two = products.output(x, w, {});
  EXPECT_LT(test::relative_difference(two, one), kRounding);
  EXPECT_TRUE(at::equal(products.output(x, w, {}), two));
}

// As autograd calls them, above and below the sizes at which the products take over, and where they must not.
TEST(RegisteredConvolution, EqualsTheOriginalWithEveryMask) {
  const ReplacedKernels replaced;
  std::vector<Convolution> all;
  for (const int64_t map : {1, 2, 4, 8, 12}) {
    for (const int64_t kernel : {1, 3}) {
      for (const int64_t stride : {1, 2}) {
        all.push_back({draw({20, 60, map, map}, 1),
                       draw({64, 60, kernel, kernel}, 2),
                       draw({64}, 3),
                       {stride, stride},
                       {kernel / 2, kernel / 2},
                       {1, 1}});
      }
    }
  }
  all.push_back({draw({2, 4, 4, 4}, 1), draw({4, 4, 3, 3}, 2), {}, {1, 1}, {1, 1}, {1, 1}});
  all.push_back({draw({40, 64, 4, 4}, 1), draw({64, 32, 3, 3}, 2), draw({64}, 3), {1, 1}, {1, 1}, {1, 1}, 2});
  all.push_back({draw({40, 64, 4, 4}, 1).contiguous(at::MemoryFormat::ChannelsLast),
                 draw({64, 64, 3, 3}, 2),
                 {},
                 {1, 1},
                 {1, 1},
                 {1, 1}});
  for (const Convolution& c : all) {
    const at::Tensor y = c.original(), g = draw(y.sizes().vec(), 4);
    EXPECT_LT(test::relative_difference(c.registered(), y), kRounding) << c.text();
    for (int bits = 1; bits < 8; ++bits) {
      const std::array<bool, 3> mask{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
      const auto [ax, aw, ab] = c.registered_backward(g, mask);
      const auto [bx, bw, bb] = c.original_backward(g, mask);
      const auto same = [&](const at::Tensor& a, const at::Tensor& b) {
        return a.defined() == b.defined() && (!a.defined() || test::relative_difference(a, b) < kRounding);
      };
      EXPECT_TRUE(same(ax, bx) && same(aw, bw) && same(ab, bb)) << c.text() << " mask " << bits;
    }
  }
}

TEST(RegisteredConvolution, TakesOneNumberForBothDimensions) {
  const ReplacedKernels replaced;
  const at::Tensor x = draw({40, 64, 4, 4}, 1), w = draw({64, 64, 3, 3}, 2);
  const Convolution c{x, w, {}, {2, 2}, {1, 1}, {1, 1}};
  EXPECT_LT(test::relative_difference(at::conv2d(x, w, {}, 2, 1), c.original()), kRounding);
}

TEST(RegisteredConvolution, SaysWhatIsWrongAsBefore) {
  const ReplacedKernels replaced;
  const at::Tensor x = draw({40, 64, 4, 4}, 1), w = draw({64, 64, 3, 3}, 2);
  EXPECT_THROW(at::conv2d(x, draw({64, 32, 3, 3}, 2)), c10::Error);
  EXPECT_THROW(at::conv2d(x, w, draw({63}, 3)), c10::Error);
  EXPECT_THROW(at::conv2d(x, draw({64, 64, 5, 5}, 2)), c10::Error);
  EXPECT_THROW(at::conv2d(x, w.to(at::kFloat)), c10::Error);
  EXPECT_THROW(at::conv2d(x, w, {}, 0), c10::Error);
}

TEST(RegisteredConvolution, Float32AgreesWithFloat64) {
  const ReplacedKernels replaced;
  const Convolution exact{draw({40, 64, 4, 4}, 1, at::kFloat).to(at::kDouble),
                          draw({64, 64, 3, 3}, 2, at::kFloat).to(at::kDouble),
                          {},
                          {1, 1},
                          {1, 1},
                          {1, 1}};
  Convolution single = exact;
  single.x = exact.x.to(at::kFloat);
  single.w = exact.w.to(at::kFloat);
  const at::Tensor g = draw({40, 64, 4, 4}, 3, at::kFloat);
  const auto [gx, gw, gb] = single.registered_backward(g, {true, true, false});
  const auto [ex, ew, eb] = exact.registered_backward(g.to(at::kDouble), {true, true, false});
  // Sums of 576 and 640 products: eps times less than their square root, times a small factor.
  EXPECT_LT(test::relative_difference(single.registered().to(at::kDouble), exact.registered()), 1e-6);
  EXPECT_LT(test::relative_difference(gx.to(at::kDouble), ex), 1e-6);
  EXPECT_LT(test::relative_difference(gw.to(at::kDouble), ew), 1e-6);
}

// Second derivatives through the products, against differences of gradients.
TEST(RegisteredConvolution, HasRightSecondDerivatives) {
  struct TwoConvolutions final : Model {
    int64_t stride;
    explicit TwoConvolutions(int64_t s) : stride(s) {
      parameters_ = {{"inner", {48, 48, 3, 3}}, {"outer", {48, 48, 3, 3}}, {"bias", {48}}};
    }
    std::string description() const override { return "two convolutions"; }
    at::Tensor initial_parameters(uint64_t seed) const override {
      return random_gaussian(seed, Stream::test, parameter_count(), 0, 1, at::kFloat).select(1, 0) * 0.1;
    }
    at::Tensor forward(const std::vector<at::Tensor>& p, const std::vector<at::Tensor>&, const at::Tensor& x,
                       bool) const override {
      const at::Tensor h = at::tanh(at::conv2d(x, p[0], p[2], 1, 1));
      return at::tanh(at::conv2d(h, p[1], {}, stride, 1)).sum({2, 3});
    }
  };
  for (const int64_t map : {1, 2, 4, 8}) {
    const TwoConvolutions model(map % 4 == 0 ? 2 : 1);
    const Dataset data{draw({32, 48, map, map}, 2, at::kFloat), at::arange(32), 48};
    const at::Tensor p = model.initial_parameters(1).to(at::kDouble),
                     v = test::random_direction(p.numel(), 4);
    AutogradCurvatureOperator op(model, p, {}, data, {.dtype = at::kDouble, .batch_size = 32});
    // Truncation of the difference, h^2 = 1e-8 times a ratio of derivatives.
    EXPECT_LT(test::relative_difference(op.apply(v.unsqueeze(1)).select(1, 0),
                                        test::difference_product(model, p, data, LossKind::cross_entropy, v)),
              1e-6)
        << map;
  }
}

}  // namespace
}  // namespace seigh
