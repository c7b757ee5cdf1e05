#include "seigh/curvature/second_derivatives.h"

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <c10/util/accumulate.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "seigh/curvature/replaced_kernels.h"

namespace seigh {

using torch::autograd::AutogradContext;
using Tensors = torch::autograd::variable_list;

bool have_second_derivatives(std::initializer_list<at::Tensor> arguments) {
  if (!at::GradMode::is_enabled()) return false;
  bool needed = false;
  std::optional<at::ScalarType> dtype;
  for (const at::Tensor& t : arguments) {
    if (!t.defined()) continue;
    if (t.layout() != at::kStrided || !t.device().is_cpu() || at::isTensorSubclassLike(t) ||
        t._is_zerotensor() || t.is_neg() || t._fw_grad(0).defined())
      return false;
    if (!dtype) dtype = t.scalar_type();
    if (t.scalar_type() != *dtype) return false;
    needed = needed || t.requires_grad();
  }
  return needed && (dtype == at::kFloat || dtype == at::kDouble);
}

namespace {

// The derivatives of `outputs(inputs)`, weighted by `weights`, by libtorch's own operators and with a graph.
// Aliases of the inputs, as one may depend on another: only what leads through `outputs` counts.
template <typename F>
Tensors derivatives_by_libtorch(const Tensors& inputs, const Tensors& weights, const F& outputs) {
  const ReplacedKernels theirs(ReplacedKernels::Which::none);
  Tensors aliases, wanted;
  for (const at::Tensor& t : inputs) {
    aliases.push_back(t.defined() ? t.view_as(t) : t);
    if (t.defined() && t.requires_grad()) wanted.push_back(aliases.back());
  }
  Tensors some, given;
  const Tensors all = outputs(aliases);
  for (size_t i = 0; i < all.size(); ++i) {
    if (!weights[i].defined()) continue;
    some.push_back(all[i]);
    given.push_back(weights[i]);
  }
  Tensors result(inputs.size());
  if (some.empty() || wanted.empty()) return result;
  const Tensors found = torch::autograd::grad(some, wanted, given, /*retain_graph=*/true,
                                              /*create_graph=*/true, /*allow_unused=*/true);
  for (size_t i = 0, next = 0; i < inputs.size(); ++i)
    if (inputs[i].defined() && inputs[i].requires_grad()) result[i] = found[next++];
  return result;
}

// ---- elementwise functions

enum Kind : int64_t { kGelu, kTanhGelu, kSilu };

at::Tensor value(const at::Tensor& x, int64_t kind) {
  return kind == kSilu ? at::silu(x) : at::gelu(x, kind == kGelu ? "none" : "tanh");
}
at::Tensor times_slope(const at::Tensor& g, const at::Tensor& x, int64_t kind) {
  if (kind != kSilu) return at::gelu_backward(g, x, kind == kGelu ? "none" : "tanh");
  if (!at::GradMode::is_enabled()) return at::silu_backward(g, x);
  const at::Tensor s = x.sigmoid();  // libtorch's has no derivative
  return g * (s * (1 + x * (1 - s)));
}

// f''(x).
//   GELU    phi(x) (2 - x^2), phi the density of the normal distribution
//   tanh    with u = k (x + c x^3), t = tanh u:  (1 - t^2) (u' + x u'' / 2 - x t u'^2)
//   SiLU    with s = sigmoid x:  s (1 - s) (2 + x (1 - 2 s))
at::Tensor bend(const at::Tensor& x, int64_t kind) {
  const at::Tensor square = x.square();
  if (kind == kGelu) return (square * -0.5).exp_().mul_(1 / std::sqrt(2 * M_PI)).mul_(2 - square);
  if (kind == kSilu) {
    const at::Tensor s = x.sigmoid();
    return x.neg().sigmoid_().mul_(s).mul_((1 - 2 * s).mul_(x).add_(2));
  }
  constexpr double c = 0.044715;
  const double k = std::sqrt(2 / M_PI);
  const at::Tensor u = (square * c).add_(1).mul_(x).mul_(k), t = u.tanh();
  const at::Tensor sech2 = (2 * u).sigmoid_().mul_((-2 * u).sigmoid_()).mul_(4);  // 1 - t^2 would cancel
  const at::Tensor slope = (square * (3 * c * k)).add_(k);
  return sech2 * (slope + square * (3 * c * k) - slope.square().mul_(t).mul_(x));
}

// g f'(x) with `slope` = f'(x), differentiable in g and x.
struct ElementwiseGradient : torch::autograd::Function<ElementwiseGradient> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& g, const at::Tensor& x,
                            const at::Tensor& slope, int64_t kind) {
    context->set_materialize_grads(false);
    context->save_for_backward({g, x});
    context->saved_data["kind"] = kind;
    context->saved_data["slope"] = slope;
    return g * slope;
  }
  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    const at::Tensor& a = weights[0];
    if (!a.defined()) return Tensors(4);
    if (at::GradMode::is_enabled()) {
      const int64_t kind = context->saved_data["kind"].toInt();
      Tensors all = derivatives_by_libtorch(context->get_saved_variables(), weights, [&](const Tensors& of) {
        return Tensors{times_slope(of[0], of[1], kind)};
      });
      all.resize(4);
      return all;
    }
    at::Tensor of_g, of_x;
    if (context->needs_input_grad(0)) of_g = a * context->saved_data["slope"].toTensor();
    if (context->needs_input_grad(1)) {
      if (context->saved_data.find("bend") == context->saved_data.end()) {
        const Tensors saved = context->get_saved_variables();
        context->saved_data["bend"] = bend(saved[1], context->saved_data["kind"].toInt()).mul_(saved[0]);
      }
      of_x = a * context->saved_data["bend"].toTensor();
    }
    return {of_g, of_x, at::Tensor(), at::Tensor()};
  }
};

struct Elementwise : torch::autograd::Function<Elementwise> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t kind) {
    context->set_materialize_grads(false);
    context->save_for_backward({x});
    context->saved_data["kind"] = kind;
    return value(x, kind);
  }
  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    const at::Tensor& g = weights[0];
    if (!g.defined()) return Tensors(2);
    const int64_t kind = context->saved_data["kind"].toInt();
    const auto kept = context->saved_data.find("slope");
    if (kept == context->saved_data.end()) {
      const at::Tensor x = context->get_saved_variables()[0];
      if (!at::GradMode::is_enabled()) return {times_slope(g, x, kind), at::Tensor()};
      const at::NoGradGuard no_grad;  // vectors will ask again
      context->saved_data["slope"] = times_slope(at::ones_like(x), x, kind);
    }
    const at::Tensor slope = context->saved_data["slope"].toTensor();
    if (!at::GradMode::is_enabled()) return {g * slope, at::Tensor()};
    const at::Tensor x = context->get_saved_variables()[0];
    if (!have_second_derivatives({g, x})) return {times_slope(g, x, kind), at::Tensor()};
    return {ElementwiseGradient::apply(g, x, slope, kind), at::Tensor()};
  }
};

// ---- rows

// What is done to rows, also for processors with wider vectors than those the program is compiled for.
#if defined(__x86_64__) && defined(__GNUC__)
template <typename Rows>
__attribute__((target("avx2,fma"))) void run_wide(const Rows& rows, int64_t begin, int64_t end) {
  rows(begin, end);
}
template <typename Rows>
void run(const Rows& rows, int64_t begin, int64_t end) {
  static const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  wide ? run_wide(rows, begin, end) : rows(begin, end);
}
#define SEIGH_INLINE __attribute__((always_inline))
#else
template <typename Rows>
void run(const Rows& rows, int64_t begin, int64_t end) {
  rows(begin, end);
}
#define SEIGH_INLINE
#endif

constexpr int64_t kRows = 64;  // together in one sum

template <typename T>
const T* data_of(const at::Tensor& t) {
  return t.const_data_ptr<T>();
}
at::Tensor contiguous(const at::Tensor& t) {
  return t.defined() ? t.contiguous() : t;
}

template <typename T>
struct SoftmaxRows {
  const T *g, *y, *a;
  T *of_g, *of_y;
  int64_t n;

  SEIGH_INLINE void operator()(int64_t begin, int64_t end) const {
    for (int64_t row = begin * n; row < end * n; row += n) {
      const T *const g_ = g + row, *const y_ = y + row, *const a_ = a + row;
      T *const of_g_ = of_g + row, *const of_y_ = of_y + row;
      T gy = 0, ay = 0;
#pragma omp simd reduction(+ : gy, ay)
      for (int64_t i = 0; i < n; ++i) {
        gy += g_[i] * y_[i];
        ay += a_[i] * y_[i];
      }
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        of_g_[i] = y_[i] * (a_[i] - ay);
        of_y_[i] = a_[i] * (g_[i] - gy) - g_[i] * ay;
      }
    }
  }
};

struct SoftmaxGradient : torch::autograd::Function<SoftmaxGradient> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& g, const at::Tensor& y) {
    context->set_materialize_grads(false);
    context->save_for_backward({g, y});
    return at::_softmax_backward_data(g, y, -1, y.scalar_type());
  }
  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    if (!weights[0].defined()) return Tensors(2);
    const Tensors saved = context->get_saved_variables();
    if (at::GradMode::is_enabled()) {
      return derivatives_by_libtorch(saved, weights, [](const Tensors& of) {
        return Tensors{at::_softmax_backward_data(of[0], of[1], -1, of[1].scalar_type())};
      });
    }
    const at::Tensor g = saved[0].contiguous(), y = saved[1].contiguous(), a = weights[0].contiguous();
    at::Tensor of_g = at::empty_like(g), of_y = at::empty_like(g);
    const int64_t n = y.size(-1), rows = n > 0 ? y.numel() / n : 0;
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "softmax", [&] {
      using T = scalar_t;
      const SoftmaxRows<T> all{data_of<T>(g),
                               data_of<T>(y),
                               data_of<T>(a),
                               of_g.mutable_data_ptr<T>(),
                               of_y.mutable_data_ptr<T>(),
                               n};
      at::parallel_for(0, rows, std::max<int64_t>(16384 / std::max<int64_t>(n, 1), 1),
                       [&](int64_t begin, int64_t end) { run(all, begin, end); });
    });
    return {of_g, of_y};
  }
};

template <typename T>
struct LayerNormRows {
  const T *g, *x, *mean, *r;
  const T *w, *a, *of_weight, *of_bias;  // of_weight: A, of_bias: what meets the gradient of the bias
  T *of_g, *of_x, *of_w;                 // of_w: [rows / kRows, n]
  int64_t n, rows;

  // Of groups of kRows.
  SEIGH_INLINE void operator()(int64_t begin, int64_t end) const {
    for (int64_t group = begin; group < end; ++group) {
      T* const sum = of_w + group * n;
      std::fill(sum, sum + n, T(0));
      for (int64_t row = group * kRows; row < std::min(rows, (group + 1) * kRows); ++row) one(row, sum);
    }
  }

  SEIGH_INLINE void one(int64_t row, T* sum) const {
    const T *const g_ = g + row * n, *const x_ = x + row * n, *const a_ = a + row * n;
    T *const of_g_ = of_g + row * n, *const of_x_ = of_x + row * n;
    const T m = mean[row], s = r[row], each = T(1) / static_cast<T>(n);
    // Sums of h, a and k = g A, and of their products with z and each other.
    T h1 = 0, hz = 0, a1 = 0, az = 0, ah = 0, k1 = 0, kz = 0;
#pragma omp simd reduction(+ : h1, hz, a1, az, ah, k1, kz)
    for (int64_t i = 0; i < n; ++i) {
      const T z = (x_[i] - m) * s, h = g_[i] * w[i], k = g_[i] * of_weight[i];
      h1 += h;
      hz += h * z;
      a1 += a_[i];
      az += a_[i] * z;
      ah += a_[i] * h;
      k1 += k;
      kz += k * z;
    }
    // P u and what is added to it, for u = a, and for u = k - (r/n) (a hz + h az).
    const T by = -s * each, a_mean = a1 * each, az_mean = az * each;
    const T u_mean = (k1 + by * (a1 * hz + h1 * az)) * each;
    const T of_z = (kz + by * 2 * az * hz) * each + s * each * (ah - each * (a1 * h1 + az * hz));
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const T z = (x_[i] - m) * s, pa = s * (a_[i] - a_mean - z * az_mean);
      const T u = g_[i] * of_weight[i] + by * (a_[i] * hz + g_[i] * w[i] * az);
      of_g_[i] = w[i] * pa + z * of_weight[i] + of_bias[i];
      of_x_[i] = s * (u - u_mean - z * of_z);
      sum[i] += g_[i] * pa;
    }
  }
};

struct LayerNormGradient : torch::autograd::Function<LayerNormGradient> {
  static Tensors present(const std::tuple<at::Tensor, at::Tensor, at::Tensor>& all,
                         std::array<bool, 3> mask) {
    Tensors some;
    if (mask[0]) some.push_back(std::get<0>(all));
    if (mask[1]) some.push_back(std::get<1>(all));
    if (mask[2]) some.push_back(std::get<2>(all));
    return some;
  }
  static std::array<bool, 3> bits(int64_t mask) {
    return {(mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0};
  }
  static std::optional<at::Tensor> optional(const at::Tensor& t) {
    return t.defined() ? std::optional(t) : std::nullopt;
  }

  // Only results that `mask` asks for.
  static Tensors forward(AutogradContext* context, const at::Tensor& g, const at::Tensor& x,
                         const std::optional<at::Tensor>& w, const std::optional<at::Tensor>& bias,
                         const at::Tensor& mean, const at::Tensor& r, std::vector<int64_t> shape,
                         int64_t mask) {
    context->set_materialize_grads(false);
    context->save_for_backward({g, x, w.value_or(at::Tensor()), bias.value_or(at::Tensor()), mean, r});
    context->saved_data["shape"] = shape;
    context->saved_data["mask"] = mask;
    return present(at::native_layer_norm_backward(g, x, shape, mean, r, w, bias, bits(mask)), bits(mask));
  }

  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    const Tensors saved = context->get_saved_variables();
    const auto shape = context->saved_data["shape"].toIntVector();
    const std::array<bool, 3> mask = bits(context->saved_data["mask"].toInt());
    Tensors result(8);
    if (at::GradMode::is_enabled()) {
      const Tensors found =
          derivatives_by_libtorch({saved[0], saved[1], saved[2]}, weights, [&](const Tensors& of) {
            return present(at::native_layer_norm_backward(of[0], of[1], shape, saved[4], saved[5],
                                                          optional(of[2]), optional(saved[3]), mask),
                           mask);
          });
      std::copy(found.begin(), found.end(), result.begin());
      return result;
    }
    std::array<at::Tensor, 3> given;  // what meets the gradients of x, w and the bias
    for (size_t i = 0, next = 0; i < 3; ++i)
      if (mask[i]) given[i] = contiguous(weights[next++]);
    if (!given[0].defined() && !given[1].defined() && !given[2].defined()) return result;
    const at::Tensor g = saved[0].contiguous(), x = saved[1].contiguous(), mean = saved[4].contiguous(),
                     r = saved[5].contiguous();
    const int64_t rows = mean.numel(), n = c10::multiply_integers(shape), groups = (rows + kRows - 1) / kRows;
    const at::Tensor w = saved[2].defined() ? saved[2].contiguous() : at::ones({n}, x.options());
    if (!given[0].defined()) given[0] = at::zeros_like(x);
    for (const size_t i : {1, 2})
      if (!given[i].defined()) given[i] = at::zeros({n}, x.options());
    const at::Tensor of_g = at::empty_like(g), of_x = at::empty_like(x),
                     of_w = at::empty({groups, n}, x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "layer_norm", [&] {
      using T = scalar_t;
      const LayerNormRows<T> all{data_of<T>(g),
                                 data_of<T>(x),
                                 data_of<T>(mean),
                                 data_of<T>(r),
                                 data_of<T>(w),
                                 data_of<T>(given[0]),
                                 data_of<T>(given[1]),
                                 data_of<T>(given[2]),
                                 of_g.mutable_data_ptr<T>(),
                                 of_x.mutable_data_ptr<T>(),
                                 of_w.mutable_data_ptr<T>(),
                                 n,
                                 rows};
      at::parallel_for(0, groups, std::max<int64_t>(16384 / std::max<int64_t>(n * kRows, 1), 1),
                       [&](int64_t begin, int64_t end) { run(all, begin, end); });
    });
    if (context->needs_input_grad(0)) result[0] = of_g;
    if (context->needs_input_grad(1)) result[1] = of_x;
    if (saved[2].defined() && context->needs_input_grad(2)) result[2] = of_w.sum(0).reshape(saved[2].sizes());
    return result;
  }
};

// ---- matrix products

at::Tensor as_matrix(const at::Tensor& t) {
  return t.reshape({-1, t.size(-1)});
}

// sum + left right; `sum` is the caller's own.
at::Tensor plus_product(const at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
  if (!sum.defined()) return left.dim() == 3 ? left.bmm(right) : left.mm(right);
  if (at::GradMode::is_enabled()) return sum + (left.dim() == 3 ? left.bmm(right) : left.mm(right));
  return left.dim() == 3 ? sum.baddbmm_(left, right) : sum.addmm_(left, right);
}

// Of y = x w^T and its bias, (gradient of x, of w, of the bias) for x [N, in], g [N, out]; those of `mask`.
struct LinearGradient : torch::autograd::Function<LinearGradient> {
  static Tensors forward(AutogradContext* context, const at::Tensor& g, const at::Tensor& x,
                         const at::Tensor& w, int64_t mask) {
    context->set_materialize_grads(false);
    context->save_for_backward({g, x, w});
    context->saved_data["mask"] = mask;
    return gradients(g, x, w, mask);
  }
  static Tensors gradients(const at::Tensor& g, const at::Tensor& x, const at::Tensor& w, int64_t mask) {
    Tensors some;
    if (mask & 1) some.push_back(g.mm(w));
    if (mask & 2) some.push_back(g.t().mm(x));
    if (mask & 4) some.push_back(g.sum(0));
    return some;
  }
  // All of it is made of differentiable operators.
  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &g = saved[0], &x = saved[1], &w = saved[2];
    const int64_t mask = context->saved_data["mask"].toInt();
    std::array<at::Tensor, 3> given;
    for (size_t i = 0, next = 0; i < 3; ++i)
      if (mask >> i & 1) given[i] = weights[next++];
    const auto& [a, of_weight, of_bias] = given;
    at::Tensor of_g, of_x, of_w;
    if (context->needs_input_grad(0)) {
      if (a.defined()) of_g = of_bias.defined() ? at::addmm(of_bias, a, w.t()) : a.mm(w.t());
      if (of_weight.defined()) of_g = plus_product(of_g, x, of_weight.t());
      if (!a.defined() && of_bias.defined()) of_g = of_g.defined() ? of_g + of_bias : of_bias.expand_as(g);
    }
    if (context->needs_input_grad(1) && of_weight.defined()) of_x = g.mm(of_weight);
    if (context->needs_input_grad(2) && a.defined()) of_w = g.t().mm(a);
    return {of_g, of_x, of_w, at::Tensor()};
  }
};

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& w,
                            const std::optional<at::Tensor>& bias) {
    context->set_materialize_grads(false);
    context->save_for_backward({x, w});
    context->saved_data["biased"] = bias.has_value();
    return at::linear(x, w, bias);
  }
  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    if (!weights[0].defined()) return Tensors(3);
    const Tensors saved = context->get_saved_variables();
    const at::Tensor g = as_matrix(weights[0]), x = as_matrix(saved[0]), &w = saved[1];
    const int64_t mask = context->needs_input_grad(0) + 2 * context->needs_input_grad(1) +
                         4 * (context->saved_data["biased"].toBool() && context->needs_input_grad(2));
    if (mask == 0) return Tensors(3);
    const Tensors found = have_second_derivatives({g, x, w}) ? LinearGradient::apply(g, x, w, mask)
                                                             : LinearGradient::gradients(g, x, w, mask);
    Tensors result(3);
    for (size_t i = 0, next = 0; i < 3; ++i)
      if (mask >> i & 1) result[i] = found[next++];
    if (result[0].defined()) result[0] = result[0].view(saved[0].sizes());
    return result;
  }
};

// Of y = x w in a batch.
struct ProductsGradient : torch::autograd::Function<ProductsGradient> {
  static Tensors forward(AutogradContext* context, const at::Tensor& g, const at::Tensor& x,
                         const at::Tensor& w) {
    context->set_materialize_grads(false);
    context->save_for_backward({g, x, w});
    return {g.bmm(w.transpose(1, 2)), x.transpose(1, 2).bmm(g)};
  }
  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &g = saved[0], &x = saved[1], &w = saved[2], &a = weights[0], &b = weights[1];
    at::Tensor of_g, of_x, of_w;
    if (context->needs_input_grad(0)) {
      if (a.defined()) of_g = plus_product(of_g, a, w);
      if (b.defined()) of_g = plus_product(of_g, x, b);
    }
    if (context->needs_input_grad(1) && b.defined()) of_x = g.bmm(b.transpose(1, 2));
    if (context->needs_input_grad(2) && a.defined()) of_w = a.transpose(1, 2).bmm(g);
    return {of_g, of_x, of_w};
  }
};

struct Products : torch::autograd::Function<Products> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& w) {
    context->set_materialize_grads(false);
    context->save_for_backward({x, w});
    return x.bmm(w);
  }
  static Tensors backward(AutogradContext* context, const Tensors& weights) {
    const at::Tensor& g = weights[0];
    if (!g.defined()) return Tensors(2);
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1];
    const bool both = context->needs_input_grad(0) && context->needs_input_grad(1);
    if (both && have_second_derivatives({g, x, w})) return ProductsGradient::apply(g, x, w);
    at::Tensor of_x, of_w;
    if (context->needs_input_grad(0)) of_x = g.bmm(w.transpose(1, 2));
    if (context->needs_input_grad(1)) of_w = x.transpose(1, 2).bmm(g);
    return {of_x, of_w};
  }
};

std::optional<at::Tensor> optional(const at::Tensor& t) {
  return t.defined() ? std::optional(t) : std::nullopt;
}

}  // namespace

at::Tensor twice_differentiable_gelu(const at::Tensor& x, std::string_view approximate) {
  return Elementwise::apply(x, static_cast<int64_t>(approximate == "tanh" ? kTanhGelu : kGelu));
}

at::Tensor twice_differentiable_silu(const at::Tensor& x) {
  return Elementwise::apply(x, static_cast<int64_t>(kSilu));
}

at::Tensor twice_differentiable_linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  return Linear::apply(x, w, optional(bias));
}

at::Tensor twice_differentiable_products(const at::Tensor& x, const at::Tensor& w) {
  return Products::apply(x, w);
}

at::Tensor differentiable_softmax_backward(const at::Tensor& g, const at::Tensor& y) {
  return SoftmaxGradient::apply(g, y);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> differentiable_layer_norm_backward(
    const at::Tensor& g, const at::Tensor& x, at::IntArrayRef shape, const at::Tensor& mean,
    const at::Tensor& r, const at::Tensor& w, const at::Tensor& bias, std::array<bool, 3> mask) {
  const int64_t bits = mask[0] + 2 * mask[1] + 4 * mask[2];
  const Tensors some =
      LayerNormGradient::apply(g, x, optional(w), optional(bias), mean, r, shape.vec(), bits);
  std::array<at::Tensor, 3> all;
  for (size_t i = 0, next = 0; i < 3; ++i)
    if (mask[i]) all[i] = some[next++];
  return {all[0], all[1], all[2]};
}

}  // namespace seigh
