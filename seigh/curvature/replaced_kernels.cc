#include "seigh/curvature/replaced_kernels.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/_convolution_double_backward.h>
#include <ATen/ops/_convolution_double_backward_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/scaled_dot_product_attention_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <atomic>
#include <limits>
#include <utility>

#include "seigh/curvature/convolution.h"

namespace seigh {
namespace {

thread_local bool on = false;
std::atomic<long> attentions{0};

// A function that calls `ours` in a scope and `theirs` elsewhere, with the arguments of `theirs`.
template <auto ours, auto theirs>
struct Choice;
template <typename Result, typename... Arguments, Result (*ours)(Arguments...),
          Result (*theirs)(Arguments...)>
struct Choice<ours, theirs> {
  static Result call(Arguments... arguments) {
    return on ? ours(std::forward<Arguments>(arguments)...) : theirs(std::forward<Arguments>(arguments)...);
  }
};

using OptionalTensor = const std::optional<at::Tensor>&;

std::tuple<at::Tensor, at::Tensor, at::Tensor> their_double_backward(
    OptionalTensor ggx, OptionalTensor ggw, OptionalTensor ggb, const at::Tensor& g, const at::Tensor& w,
    const at::Tensor& x, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
    bool transposed, at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  return at::compositeimplicitautograd::_convolution_double_backward(
      ggx, ggw, ggb, g, w, x, stride, padding, dilation, transposed, output_padding, groups, mask);
}

at::Tensor their_convolution(const at::Tensor& x, const at::Tensor& w, OptionalTensor bias,
                             at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                             bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  return at::compositeexplicitautograd::convolution(x, w, bias, stride, padding, dilation, transposed,
                                                    output_padding, groups);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> their_backward(
    const at::Tensor& g, const at::Tensor& x, const at::Tensor& w, at::OptionalIntArrayRef bias_sizes,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  return at::compositeexplicitautograd::convolution_backward(g, x, w, bias_sizes, stride, padding, dilation,
                                                             transposed, output_padding, groups, mask);
}

at::Tensor our_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         OptionalTensor mask, double dropout, bool causal, std::optional<double> scale,
                         bool grouped) {
  attentions.fetch_add(1, std::memory_order_relaxed);
  // The kernel adds its mask; of a boolean one false means left out.
  std::optional<at::Tensor> added = mask;
  if (mask && mask->defined() && mask->scalar_type() == at::kBool)
    added = at::zeros_like(*mask, query.options())
                .masked_fill_(mask->logical_not(), -std::numeric_limits<double>::infinity());
  return std::get<0>(
      at::_scaled_dot_product_attention_math(query, key, value, added, dropout, causal, {}, scale, grouped));
}

at::Tensor their_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           OptionalTensor mask, double dropout, bool causal, std::optional<double> scale,
                           bool grouped) {
  return at::compositeimplicitautograd::scaled_dot_product_attention(query, key, value, mask, dropout, causal,
                                                                     scale, grouped);
}

}  // namespace

ReplacedKernels::ReplacedKernels() : before_(on) {
  // Never destroyed: tensors may outlive static objects.
  static const bool once = [] {
    const auto library = [](c10::DispatchKey key) {
      return new torch::Library(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
    };
    constexpr auto attention = &Choice<&our_attention, &their_attention>::call;
    torch::Library* const autograd_cpu = library(c10::DispatchKey::AutogradCPU);
    autograd_cpu->impl("_convolution_double_backward",
                       TORCH_FN((&Choice<&convolution_double_backward, &their_double_backward>::call)));
    autograd_cpu->impl("scaled_dot_product_attention", TORCH_FN(attention));
    library(c10::DispatchKey::AutogradCUDA)->impl("scaled_dot_product_attention", TORCH_FN(attention));
    torch::Library* const cpu = library(c10::DispatchKey::CPU);
    cpu->impl("convolution", TORCH_FN((&Choice<&fast_convolution, &their_convolution>::call)));
    cpu->impl("convolution_backward", TORCH_FN((&Choice<&fast_convolution_backward, &their_backward>::call)));
    return true;
  }();
  static_cast<void>(once);
  on = true;
}

ReplacedKernels::~ReplacedKernels() {
  on = before_;
}

long ReplacedKernels::attention_count() {
  return attentions.load(std::memory_order_relaxed);
}

}  // namespace seigh
