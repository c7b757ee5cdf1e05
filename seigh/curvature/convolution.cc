#include "seigh/curvature/convolution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <torch/library.h>

#include <array>
#include <tuple>
#include <vector>

namespace seigh {
namespace {

using OptionalTensor = c10::optional<at::Tensor>;

bool given(const OptionalTensor& t) {
  return t.has_value() && t->defined();
}

// aten::_convolution_double_backward: gradients of <grad_grad_x, grad_x> + <grad_grad_w, grad_w> +
// <grad_grad_b, grad_b> with respect to the gradient of the output, the input and the weight.
std::tuple<at::Tensor, at::Tensor, at::Tensor> double_backward(
    const OptionalTensor& grad_grad_x, const OptionalTensor& grad_grad_w, const OptionalTensor& grad_grad_b,
    const at::Tensor& grad_output, const at::Tensor& weight, const at::Tensor& x, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
    int64_t groups, std::array<bool, 3> output_mask) {
  const auto convolution = [&](const at::Tensor& input, const at::Tensor& w) {
    return at::convolution(input, w, {}, stride, padding, dilation, transposed, output_padding, groups);
  };
  const auto backward = [&](const at::Tensor& input, const at::Tensor& w, std::array<bool, 3> mask) {
    return at::convolution_backward(grad_output, input, w, c10::nullopt, stride, padding, dilation,
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

}  // namespace

void use_fast_convolution_derivatives() {
  static torch::Library* const library = [] {
    auto* const l =
        new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::AutogradCPU, __FILE__, __LINE__);
    l->impl("_convolution_double_backward", TORCH_FN(double_backward));
    return l;
  }();
  static_cast<void>(library);
}

}  // namespace seigh
