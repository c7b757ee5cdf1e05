#include "seigh/curvature/convolution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_compositeexplicitautograd_dispatch.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "seigh/curvature/small_maps.h"

namespace seigh {
namespace {

bool given(const std::optional<at::Tensor>& t) {
  return t.has_value() && t->defined();
}

}  // namespace

// aten::_convolution_double_backward: gradients of <grad_grad_x, grad_x> + <grad_grad_w, grad_w> +
// <grad_grad_b, grad_b> with respect to the gradient of the output, the input and the weight.
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_double_backward(
    const std::optional<at::Tensor>& grad_grad_x, const std::optional<at::Tensor>& grad_grad_w,
    const std::optional<at::Tensor>& grad_grad_b, const at::Tensor& grad_output, const at::Tensor& weight,
    const at::Tensor& x, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
    bool transposed, at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> output_mask) {
  const auto convolution = [&](const at::Tensor& input, const at::Tensor& w) {
    return at::convolution(input, w, {}, stride, padding, dilation, transposed, output_padding, groups);
  };
  const auto backward = [&](const at::Tensor& input, const at::Tensor& w, std::array<bool, 3> mask) {
    return at::convolution_backward(grad_output, input, w, std::nullopt, stride, padding, dilation,
                                    transposed, output_padding, groups, mask);
  };
  at::Tensor output_part, input_part, weight_part;
  if (output_mask[0]) {
    const auto add = [&](const at::Tensor& term) {
      output_part = output_part.defined() ? output_part + term : term;
    };
    if (given(grad_grad_x)) add(convolution(*grad_grad_x, weight));
    if (given(grad_grad_w)) add(convolution(x, *grad_grad_w));
    if (given(grad_grad_b)) {
      std::vector<int64_t> shape(static_cast<size_t>(grad_output.dim()), 1);
      shape[1] = grad_grad_b->numel();
      const at::Tensor bias = grad_grad_b->reshape(shape);
      add(output_part.defined() ? bias : bias.expand_as(grad_output));
    }
  }
  if (output_mask[1] && given(grad_grad_w))
    input_part = std::get<0>(backward(x, *grad_grad_w, {true, false, false}));
  if (output_mask[2] && given(grad_grad_x)) {
    weight_part = std::get<1>(backward(*grad_grad_x, weight, {false, true, false}));
  }
  return {output_part, input_part, weight_part};
}

namespace {

enum class Part { output, input_gradient, weight_gradient };

// Is this part of a convolution faster as matrix products? bench/convolutions.cc measured, against oneDNN in
// float32: where the output has at most 16 pixels they are 1.1 to 15 times as fast, in the weight
// gradient 1.4 to 100 times; at 36 to 64 pixels 1.1 to 1.4 times in the weight gradient, 0.7 to 1.2 times in
// the other parts. In float64, for which there is no oneDNN, 1.1 to 1.6 times at 64 pixels. Kernels of one
// pixel gain on at most
// 4. Fewer channels than 16 or multiplications than 2^16 a product leave most of the time to calls.
bool as_products(Part part, const at::Tensor& x, at::IntArrayRef w, int64_t pixels) {
  const bool everything = x.scalar_type() == at::kDouble;
  const int64_t most = w[2] * w[3] == 1 ? 4 : everything || part == Part::weight_gradient ? 64 : 16;
  return pixels <= most && std::min(w[0], w[1]) >= 16 && x.size(0) * w[0] * w[1] >= int64_t{1} << 16;
}

bool plain(const at::Tensor& t, at::ScalarType dtype) {
  return t.layout() == at::kStrided && t.device().is_cpu() && t.scalar_type() == dtype &&
         t.suggest_memory_format() == at::MemoryFormat::Contiguous;
}

// The convolution as SmallMapConvolution knows it; none when it is not of its kind.
struct Geometry {
  using Pair = std::array<int64_t, 2>;
  Pair stride{}, padding{}, dilation{};
  int64_t pixels = 1;  // of the output

  static std::optional<Geometry> of(const at::Tensor& x, const at::Tensor& w, at::IntArrayRef stride,
                                    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                                    int64_t groups) {
    const at::ScalarType dtype = x.scalar_type();
    const bool fits = x.dim() == 4 && w.dim() == 4 && !transposed && groups == 1 && x.size(1) == w.size(1) &&
                      x.numel() > 0 && w.numel() > 0 && (dtype == at::kFloat || dtype == at::kDouble) &&
                      plain(x, dtype) && plain(w, dtype);
    const auto one_or_two = [](at::IntArrayRef numbers) {
      return numbers.size() == 1 || numbers.size() == 2;
    };
    if (!fits || !one_or_two(stride) || !one_or_two(padding) || !one_or_two(dilation)) return std::nullopt;
    // One number stands for both dimensions.
    const auto pair = [](at::IntArrayRef numbers) { return Pair{numbers.front(), numbers.back()}; };
    Geometry g{pair(stride), pair(padding), pair(dilation)};
    for (size_t d = 0; d < 2; ++d) {
      const auto dim = static_cast<int64_t>(d) + 2;
      if (g.stride[d] < 1 || g.padding[d] < 0 || g.dilation[d] < 1) return std::nullopt;
      const int64_t span = x.size(dim) + 2 * g.padding[d] - g.dilation[d] * (w.size(dim) - 1) - 1;
      if (span < 0) return std::nullopt;
      g.pixels *= span / g.stride[d] + 1;
    }
    return g;
  }
  SmallMapConvolution products(const at::Tensor& x, const at::Tensor& w) const {
    return {x.sizes(), w.sizes(), stride, padding, dilation};
  }
};

}  // namespace

at::Tensor fast_convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                            bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  const auto geometry = Geometry::of(x, w, stride, padding, dilation, transposed, groups);
  const bool plain_bias =
      !given(bias) || (bias->dim() == 1 && bias->numel() == w.size(0) && plain(*bias, x.scalar_type()));
  if (geometry && plain_bias && as_products(Part::output, x, w.sizes(), geometry->pixels))
    return geometry->products(x, w).output(x, w, given(bias) ? *bias : at::Tensor());
  return at::compositeexplicitautograd::convolution(x, w, bias, stride, padding, dilation, transposed,
                                                    output_padding, groups);
}

// oneDNN leaves a weight gradient in bfloat16 unset where the kernel meets nothing but padding.
std::tuple<at::Tensor, at::Tensor, at::Tensor> sound_convolution_backward(
    const at::Tensor& grad_output, const at::Tensor& x, const at::Tensor& w,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> output_mask) {
  bool meets_padding_alone = false;
  for (int64_t i = 2; i < x.dim(); ++i)
    meets_padding_alone =
        meets_padding_alone || x.size(i) <= dilation[static_cast<size_t>(i - 2)] * (w.size(i) - 1);
  if (x.scalar_type() != at::kBFloat16 || !meets_padding_alone)
    return at::compositeexplicitautograd::convolution_backward(grad_output, x, w, bias_sizes, stride, padding,
                                                               dilation, transposed, output_padding, groups,
                                                               output_mask);
  auto [of_x, of_w, of_bias] = at::compositeexplicitautograd::convolution_backward(
      grad_output.to(at::kFloat), x.to(at::kFloat), w.to(at::kFloat), bias_sizes, stride, padding, dilation,
      transposed, output_padding, groups, output_mask);
  const auto back = [](const at::Tensor& g) { return g.defined() ? g.to(at::kBFloat16) : g; };
  return {back(of_x), back(of_w), back(of_bias)};
}

// What is no faster as products is left to libtorch.
std::tuple<at::Tensor, at::Tensor, at::Tensor> fast_convolution_backward(
    const at::Tensor& grad_output, const at::Tensor& x, const at::Tensor& w,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> output_mask) {
  std::array<at::Tensor, 3> gradients;
  std::array<bool, 3> rest = output_mask;
  const auto geometry = Geometry::of(x, w, stride, padding, dilation, transposed, groups);
  if (geometry && plain(grad_output, x.scalar_type()) &&
      grad_output.numel() == x.size(0) * w.size(0) * geometry->pixels) {
    const auto ours = [&](size_t i, Part part) {
      const bool chosen = output_mask[i] && as_products(part, x, w.sizes(), geometry->pixels);
      if (chosen) rest[i] = false;
      return chosen;
    };
    if (ours(0, Part::input_gradient)) gradients[0] = geometry->products(x, w).input_gradient(grad_output, w);
    if (ours(1, Part::weight_gradient))
      gradients[1] = geometry->products(x, w).weight_gradient(grad_output, x);
    if (output_mask[2] && rest != output_mask) {
      gradients[2] = grad_output.sum({0, 2, 3});
      rest[2] = false;
    }
  }
  if (rest[0] || rest[1] || rest[2]) {
    auto [of_x, of_w, of_bias] = sound_convolution_backward(
        grad_output, x, w, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, rest);
    if (rest[0]) gradients[0] = std::move(of_x);
    if (rest[1]) gradients[1] = std::move(of_w);
    if (rest[2]) gradients[2] = std::move(of_bias);
  }
  return {gradients[0], gradients[1], gradients[2]};
}

}  // namespace seigh
