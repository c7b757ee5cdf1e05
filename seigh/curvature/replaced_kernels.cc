#include "seigh/curvature/replaced_kernels.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_convolution_double_backward.h>
#include <ATen/ops/_convolution_double_backward_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/_softmax_backward_data_ops.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/batch_norm_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/bmm_ops.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_ops.h>
#include <ATen/ops/gelu_ops.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/group_norm_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/layer_norm_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/linear_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/native_layer_norm_backward_ops.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/scaled_dot_product_attention_compositeimplicitautograd_dispatch.h>
#include <ATen/ops/silu_ops.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <atomic>
#include <limits>
#include <string_view>
#include <utility>

#include "seigh/curvature/convolution.h"
#include "seigh/curvature/dense_maps.h"
#include "seigh/curvature/second_derivatives.h"

namespace seigh {
namespace {

using Which = ReplacedKernels::Which;

thread_local Which which = Which::none;
bool on() {
  return which == Which::all;
}
std::atomic<long> attentions{0};

// A function that calls `ours` in a scope of `least` or more and `theirs` elsewhere, with the arguments of
// `theirs`.
template <auto ours, auto theirs, Which least = Which::all>
struct Choice;
template <typename Result, typename... Arguments, Result (*ours)(Arguments...),
          Result (*theirs)(Arguments...), Which least>
struct Choice<ours, theirs, least> {
  static Result call(Arguments... arguments) {
    return which >= least ? ours(std::forward<Arguments>(arguments)...)
                          : theirs(std::forward<Arguments>(arguments)...);
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
  const auto backward =
      which == Which::none ? at::compositeexplicitautograd::convolution_backward : sound_convolution_backward;
  return backward(g, x, w, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask);
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

// libtorch's own derivatives have no name to be called by, but are what all devices share: AutogradOther's
// are the same functions, and are not replaced.
c10::DispatchKeySet theirs(c10::DispatchKeySet keys) {
  return (keys & c10::after_autograd_keyset).add(c10::DispatchKey::AutogradOther);
}

at::Tensor device_convolution(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& w,
                              OptionalTensor bias, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                              c10::SymIntArrayRef dilation, bool transposed,
                              c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  if (which >= Which::transparent) {
    const at::IntArrayRef s = C10_AS_INTARRAYREF_SLOW(stride), p = C10_AS_INTARRAYREF_SLOW(padding),
                          d = C10_AS_INTARRAYREF_SLOW(dilation);
    if (worth_a_dense_matrix(x, w, s, p, d, transposed, groups.expect_int()))
      return dense_convolution(x, w, bias, s, p, d);
  }
  return at::_ops::convolution::redispatch(theirs(keys), x, w, bias, stride, padding, dilation, transposed,
                                           output_padding, std::move(groups));
}

at::Tensor gelu(c10::DispatchKeySet keys, const at::Tensor& x, std::string_view approximate) {
  const bool known = approximate == "none" || approximate == "tanh";
  if (on() && known && have_second_derivatives({x})) return twice_differentiable_gelu(x, approximate);
  return at::_ops::gelu::redispatch(theirs(keys), x, approximate);
}

at::Tensor silu(c10::DispatchKeySet keys, const at::Tensor& x) {
  if (on() && have_second_derivatives({x})) return twice_differentiable_silu(x);
  return at::_ops::silu::redispatch(theirs(keys), x);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& w, OptionalTensor bias) {
  const at::Tensor b = bias.value_or(at::Tensor());
  if (on() && x.dim() > 0 && w.dim() == 2 && have_second_derivatives({x, w, b}))
    return twice_differentiable_linear(x, w, b);
  return at::compositeimplicitautograd::linear(x, w, bias);
}

at::Tensor bmm(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& w) {
  if (on() && have_second_derivatives({x, w})) return twice_differentiable_products(x, w);
  return at::_ops::bmm::redispatch(theirs(keys), x, w);
}

at::Tensor softmax_backward(c10::DispatchKeySet keys, const at::Tensor& g, const at::Tensor& y, int64_t dim,
                            at::ScalarType dtype) {
  if (on() && y.dim() > 0 && (dim == -1 || dim == y.dim() - 1) && dtype == y.scalar_type() &&
      have_second_derivatives({g, y}))
    return differentiable_softmax_backward(g, y);
  return at::_ops::_softmax_backward_data::redispatch(theirs(keys), g, y, dim, dtype);
}

// Under autocast: libtorch's list for the CPU leaves norms in bfloat16, beside statistics in float32, which
// forward mode does not see through.
std::optional<at::Tensor> single(OptionalTensor x) {
  return x && x->defined() ? std::optional(x->to(at::kFloat)) : x;
}

at::Tensor single_group_norm(const at::Tensor& x, int64_t groups, OptionalTensor w, OptionalTensor bias,
                             double eps, bool cudnn) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return at::group_norm(x.to(at::kFloat), groups, single(w), single(bias), eps, cudnn);
}
at::Tensor their_group_norm(const at::Tensor& x, int64_t groups, OptionalTensor w, OptionalTensor bias,
                            double eps, bool cudnn) {
  return at::compositeimplicitautograd::group_norm(x, groups, w, bias, eps, cudnn);
}

at::Tensor single_layer_norm(const at::Tensor& x, at::IntArrayRef shape, OptionalTensor w,
                             OptionalTensor bias, double eps, bool cudnn) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return at::layer_norm(x.to(at::kFloat), shape, single(w), single(bias), eps, cudnn);
}
at::Tensor their_layer_norm(const at::Tensor& x, at::IntArrayRef shape, OptionalTensor w, OptionalTensor bias,
                            double eps, bool cudnn) {
  return at::compositeimplicitautograd::layer_norm(x, shape, w, bias, eps, cudnn);
}

at::Tensor single_batch_norm(const at::Tensor& x, OptionalTensor w, OptionalTensor bias, OptionalTensor mean,
                             OptionalTensor variance, bool training, double momentum, double eps,
                             bool cudnn) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return at::batch_norm(x.to(at::kFloat), single(w), single(bias), mean, variance, training, momentum, eps,
                        cudnn);
}
at::Tensor their_batch_norm(const at::Tensor& x, OptionalTensor w, OptionalTensor bias, OptionalTensor mean,
                            OptionalTensor variance, bool training, double momentum, double eps, bool cudnn) {
  return at::compositeimplicitautograd::batch_norm(x, w, bias, mean, variance, training, momentum, eps,
                                                   cudnn);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> layer_norm_backward(
    c10::DispatchKeySet keys, const at::Tensor& g, const at::Tensor& x, c10::SymIntArrayRef shape,
    const at::Tensor& mean, const at::Tensor& r, OptionalTensor w, OptionalTensor bias,
    std::array<bool, 3> mask) {
  const at::Tensor weight = w.value_or(at::Tensor()), b = bias.value_or(at::Tensor());
  if (on() && have_second_derivatives({g, x, weight, b, mean, r}))
    return differentiable_layer_norm_backward(g, x, C10_AS_INTARRAYREF_SLOW(shape), mean, r, weight, b, mask);
  return at::_ops::native_layer_norm_backward::redispatch(theirs(keys), g, x, shape, mean, r, w, bias, mask);
}

}  // namespace

ReplacedKernels::ReplacedKernels(Which replaced) : before_(which) {
  // Never destroyed: tensors may outlive static objects.
  static const bool once = [] {
    const auto library = [](c10::DispatchKey key) {
      return new torch::Library(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
    };
    constexpr auto attention = &Choice<&our_attention, &their_attention, Which::transparent>::call;
    torch::Library* const autograd_cpu = library(c10::DispatchKey::AutogradCPU);
    autograd_cpu->impl("_convolution_double_backward",
                       TORCH_FN((&Choice<&convolution_double_backward, &their_double_backward>::call)));
    autograd_cpu->impl("scaled_dot_product_attention", TORCH_FN(attention));
    autograd_cpu->impl("gelu", TORCH_FN(gelu));
    autograd_cpu->impl("silu", TORCH_FN(silu));
    autograd_cpu->impl("linear", TORCH_FN(linear));
    autograd_cpu->impl("bmm", TORCH_FN(bmm));
    autograd_cpu->impl("_softmax_backward_data", TORCH_FN(softmax_backward));
    autograd_cpu->impl("native_layer_norm_backward", TORCH_FN(layer_norm_backward));
    torch::Library* const autocast_cpu = library(c10::DispatchKey::AutocastCPU);
    autocast_cpu->impl("group_norm",
                       TORCH_FN((&Choice<&single_group_norm, &their_group_norm, Which::transparent>::call)));
    autocast_cpu->impl("batch_norm",
                       TORCH_FN((&Choice<&single_batch_norm, &their_batch_norm, Which::transparent>::call)));
    autocast_cpu->impl("layer_norm",
                       TORCH_FN((&Choice<&single_layer_norm, &their_layer_norm, Which::transparent>::call)));
    library(c10::DispatchKey::AutogradCUDA)->impl("scaled_dot_product_attention", TORCH_FN(attention));
    for (const c10::DispatchKey device :
         {c10::DispatchKey::AutogradCUDA, c10::DispatchKey::AutogradPrivateUse1})
      library(device)->impl("convolution", TORCH_FN(device_convolution));
    torch::Library* const cpu = library(c10::DispatchKey::CPU);
    cpu->impl("convolution", TORCH_FN((&Choice<&fast_convolution, &their_convolution>::call)));
    cpu->impl("convolution_backward", TORCH_FN((&Choice<&fast_convolution_backward, &their_backward>::call)));
    return true;
  }();
  static_cast<void>(once);
  which = replaced;
}

ReplacedKernels::~ReplacedKernels() {
  which = before_;
}

long ReplacedKernels::attention_count() {
  return attentions.load(std::memory_order_relaxed);
}

}  // namespace seigh
