#include "seigh/curvature/mlp_steps.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cstring>

namespace seigh {
namespace {

// The loops below run along samples, which are contiguous; a plain loop over n is what compilers vectorise.

struct Shape {
  int64_t width, c, n;
  explicit Shape(const at::Tensor& stack) : width(stack.size(0)), c(stack.size(1)), n(stack.size(2)) {}
};

template <typename T>
void forward_loop(Shape s, const T* slope, const T* bend, T* ra, T* rh) {
  for (int64_t w = 0; w < s.width; ++w) {
    const T* __restrict phi = slope + w * s.n;
    for (int64_t j = 0; j < s.c; ++j) {
      T* __restrict a = ra + (w * s.c + j) * s.n;
      T* __restrict h = rh + (w * s.c + j) * s.n;
      for (int64_t i = 0; i < s.n; ++i) h[i] = phi[i] * a[i];
      if (!bend) continue;
      const T* __restrict b = bend + w * s.n;
      for (int64_t i = 0; i < s.n; ++i) a[i] *= b[i];
    }
  }
}

template <typename T>
void backward_loop(Shape s, const T* slope, const T* bend_term, T* rg) {
  for (int64_t w = 0; w < s.width; ++w) {
    const T* __restrict phi = slope + w * s.n;
    for (int64_t j = 0; j < s.c; ++j) {
      T* __restrict g = rg + (w * s.c + j) * s.n;
      if (bend_term) {
        const T* __restrict b = bend_term + (w * s.c + j) * s.n;
        for (int64_t i = 0; i < s.n; ++i) g[i] = phi[i] * g[i] + b[i];
      } else {
        for (int64_t i = 0; i < s.n; ++i) g[i] *= phi[i];
      }
    }
  }
}

template <typename T>
void softmax_loop(Shape s, const T* p, const int64_t* likeliest, T scale, T* r) {
  const int64_t classes = s.width, c = s.c, n = s.n;
  constexpr int64_t width = 128;
  T dot[width], shift[width];
  for (int64_t j = 0; j < c; ++j) {
    for (int64_t begin = 0; begin < n; begin += width) {
      const int64_t count = std::min(width, n - begin);
      std::fill(dot, dot + width, T(0));
      for (int64_t i = 0; i < count; ++i) shift[i] = r[(likeliest[begin + i] * c + j) * n + begin + i];
      for (int64_t k = 0; k < classes; ++k) {
        const T* __restrict pk = p + k * n + begin;
        T* __restrict rk = r + (k * c + j) * n + begin;
        for (int64_t i = 0; i < count; ++i) {
          rk[i] -= shift[i];
          dot[i] += pk[i] * rk[i];
        }
      }
      for (int64_t k = 0; k < classes; ++k) {
        const T* __restrict pk = p + k * n + begin;
        T* __restrict rk = r + (k * c + j) * n + begin;
        for (int64_t i = 0; i < count; ++i) rk[i] = scale * pk[i] * (rk[i] - dot[i]);
      }
    }
  }
}

// b[i * stride + o] (+)= a[o * in + i] for a [out, in]: a transposition in squares that fit the cache.
template <bool accumulate_into_a, typename A, typename B>
void transpose(int64_t out, int64_t in, A* a, B* b, int64_t stride) {
  constexpr int64_t side = 16;
  for (int64_t i0 = 0; i0 < in; i0 += side) {
    const int64_t i1 = std::min(i0 + side, in);
    for (int64_t o0 = 0; o0 < out; o0 += side) {
      const int64_t o1 = std::min(o0 + side, out);
      for (int64_t o = o0; o < o1; ++o) {
        for (int64_t i = i0; i < i1; ++i) {
          if constexpr (accumulate_into_a) {
            a[o * in + i] += b[i * stride + o];
          } else {
            b[i * stride + o] = a[o * in + i];
          }
        }
      }
    }
  }
}

template <typename T>
void pack_loop(int64_t d, int64_t c, const T* vectors, const MlpLayer& layer, T* packed, T* transposed) {
  const int64_t in = layer.in, out = layer.out;
  for (int64_t j = 0; j < c; ++j) {
    const T* const vector = vectors + j * d;
    for (int64_t o = 0; o < out; ++o) {
      T* const row = packed + (o * c + j) * (in + 1);
      if (layer.weight >= 0)
        std::memcpy(row, vector + layer.weight + o * in, sizeof(T) * static_cast<size_t>(in));
      else
        std::fill(row, row + in, T(0));
      row[in] = layer.bias >= 0 ? vector[layer.bias + o] : T(0);
    }
    if (!transposed) continue;
    T* const columns = transposed + j * out;
    if (layer.weight >= 0) {
      transpose<false>(out, in, vector + layer.weight, columns, c * out);
    } else {
      for (int64_t i = 0; i < in; ++i) std::fill(columns + i * c * out, columns + i * c * out + out, T(0));
    }
  }
}

template <typename T>
void unpack_loop(int64_t d, int64_t c, const T* packed, const T* transposed, const MlpLayer& layer,
                 T* products) {
  const int64_t in = layer.in, out = layer.out;
  for (int64_t j = 0; j < c; ++j) {
    T* const product = products + j * d;
    for (int64_t o = 0; o < out; ++o) {
      const T* const row = packed + (o * c + j) * (in + 1);
      if (layer.weight >= 0)
        std::memcpy(product + layer.weight + o * in, row, sizeof(T) * static_cast<size_t>(in));
      if (layer.bias >= 0) product[layer.bias + o] = row[in];
    }
    if (transposed && layer.weight >= 0)
      transpose<true>(out, in, product + layer.weight, transposed + j * out, c * out);
  }
}

template <typename Body>
void in_dtype(const at::Tensor& like, const Body& body) {
  like.scalar_type() == at::kFloat ? body(0.F) : body(0.0);
}

template <typename T>
T* data_or_null(const at::Tensor& x) {
  return x.defined() ? x.data_ptr<T>() : nullptr;
}

// The layer's weights of vectors [D, c] as [out, in, c], a view.
at::Tensor weights_of(const at::Tensor& vectors, const MlpLayer& layer) {
  return vectors.narrow(0, layer.weight, layer.out * layer.in).unflatten(0, {layer.out, layer.in});
}

}  // namespace

void forward_step(const at::Tensor& slope, const at::Tensor& bend, const at::Tensor& ra,
                  const at::Tensor& rh) {
  if (!ra.device().is_cpu()) {
    at::Tensor h = rh;
    at::mul_out(h, ra, slope.unsqueeze(1));
    if (bend.defined()) ra.mul_(bend.unsqueeze(1));
    return;
  }
  in_dtype(ra, [&](auto zero) {
    using T = decltype(zero);
    forward_loop(Shape(ra), slope.data_ptr<T>(), data_or_null<T>(bend), ra.data_ptr<T>(), rh.data_ptr<T>());
  });
}

void backward_step(const at::Tensor& slope, const at::Tensor& bend_term, const at::Tensor& rg) {
  if (!rg.device().is_cpu()) {
    at::Tensor g = rg;
    if (bend_term.defined())
      at::addcmul_out(g, bend_term, rg, slope.unsqueeze(1));
    else
      g.mul_(slope.unsqueeze(1));
    return;
  }
  in_dtype(rg, [&](auto zero) {
    using T = decltype(zero);
    backward_loop(Shape(rg), slope.data_ptr<T>(), data_or_null<T>(bend_term), rg.data_ptr<T>());
  });
}

void softmax_hessian(const at::Tensor& p, const at::Tensor& likeliest, double scale, const at::Tensor& r) {
  if (!r.device().is_cpu()) {
    const at::Tensor weights = p.unsqueeze(1);
    r.sub_(r.gather(0, likeliest.view({1, 1, -1}).expand({1, r.size(1), -1})));
    r.sub_((weights * r).sum(0, /*keepdim=*/true)).mul_(weights * scale);
    return;
  }
  in_dtype(r, [&](auto zero) {
    using T = decltype(zero);
    softmax_loop(Shape(r), p.data_ptr<T>(), likeliest.data_ptr<int64_t>(), static_cast<T>(scale),
                 r.data_ptr<T>());
  });
}

void pack(const at::Tensor& vectors, const MlpLayer& layer, const at::Tensor& packed,
          const at::Tensor& transposed) {
  if (vectors.device().is_cpu()) {
    return in_dtype(vectors, [&](auto zero) {
      using T = decltype(zero);
      pack_loop(vectors.size(0), vectors.size(1), vectors.data_ptr<T>(), layer, packed.data_ptr<T>(),
                data_or_null<T>(transposed));
    });
  }
  const at::Tensor weights = packed.narrow(2, 0, layer.in), biases = packed.select(2, layer.in);
  if (layer.weight >= 0)
    weights.copy_(weights_of(vectors, layer).transpose(1, 2));
  else
    weights.zero_();
  if (layer.bias >= 0)
    biases.copy_(vectors.narrow(0, layer.bias, layer.out));
  else
    biases.zero_();
  if (!transposed.defined()) return;
  if (layer.weight >= 0)
    transposed.copy_(weights_of(vectors, layer).permute({1, 2, 0}));
  else
    transposed.zero_();
}

void unpack(const at::Tensor& packed, const at::Tensor& transposed, const MlpLayer& layer,
            const at::Tensor& products) {
  if (products.device().is_cpu()) {
    return in_dtype(products, [&](auto zero) {
      using T = decltype(zero);
      unpack_loop(products.size(0), products.size(1), packed.data_ptr<T>(), data_or_null<T>(transposed),
                  layer, products.data_ptr<T>());
    });
  }
  if (layer.bias >= 0) products.narrow(0, layer.bias, layer.out).copy_(packed.select(2, layer.in));
  if (layer.weight < 0) return;
  const at::Tensor weights = weights_of(products, layer);
  weights.copy_(packed.narrow(2, 0, layer.in).transpose(1, 2));
  if (transposed.defined()) weights.add_(transposed.permute({2, 0, 1}));
}

}  // namespace seigh
