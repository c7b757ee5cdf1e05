#include "seigh/curvature/mlp_curvature.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/core/error.h"

namespace seigh {
namespace {

constexpr double pi = 3.14159265358979323846;

struct ActivationValues {
  at::Tensor h, slope, second;  // phi, phi', phi'' at a; phi'' is undefined where it vanishes
};

ActivationValues activate(Activation activation, const at::Tensor& a) {
  switch (activation) {
    case Activation::tanh: {
      const at::Tensor h = at::tanh(a), slope = 1 - h.square();
      return {h, slope, -2 * h * slope};
    }
    case Activation::relu:
      return {at::relu(a), (a > 0).to(a.scalar_type()), {}};
    case Activation::gelu: {  // a Phi(a); phi' = Phi + a p, phi'' = (2 - a^2) p with p the normal density
      const at::Tensor density = at::exp(a.square() * -0.5) / std::sqrt(2 * pi);
      const at::Tensor distribution = 0.5 * at::erfc(a * -std::sqrt(0.5));
      return {a * distribution, distribution + a * density, (2 - a.square()) * density};
    }
  }
  fail("activation out of range");
}

// The loops below run along samples, which are contiguous; a plain loop over n is what compilers vectorise.

// R h = phi' R a, and in the place of R a the term phi'' g R a of R delta (if `bend`). All [width, c, n] but
// slope and bend [width, n].
template <typename T>
void forward_step(int64_t width, int64_t c, int64_t n, const T* slope, const T* bend, T* ra, T* rh) {
  for (int64_t w = 0; w < width; ++w) {
    const T* __restrict s = slope + w * n;
    for (int64_t j = 0; j < c; ++j) {
      T* __restrict a = ra + (w * c + j) * n;
      T* __restrict h = rh + (w * c + j) * n;
      for (int64_t i = 0; i < n; ++i) h[i] = s[i] * a[i];
      if (!bend) continue;
      const T* __restrict b = bend + w * n;
      for (int64_t i = 0; i < n; ++i) a[i] *= b[i];
    }
  }
}

// R delta = phi' R g (+ the bend term, if any), in the place of R g.
template <typename T>
void backward_step(int64_t width, int64_t c, int64_t n, const T* slope, const T* bend_term, T* rg) {
  for (int64_t w = 0; w < width; ++w) {
    const T* __restrict s = slope + w * n;
    for (int64_t j = 0; j < c; ++j) {
      T* __restrict g = rg + (w * c + j) * n;
      if (bend_term) {
        const T* __restrict b = bend_term + (w * c + j) * n;
        for (int64_t i = 0; i < n; ++i) g[i] = s[i] * g[i] + b[i];
      } else {
        for (int64_t i = 0; i < n; ++i) g[i] *= s[i];
      }
    }
  }
}

// l'' of the softmax cross-entropy, (diag(p) - p p^T) / N, applied in place to r [classes, c, n]; p is
// [classes, n]. Each row of r first loses its entry at the sample's likeliest class, which changes nothing,
// and where that class's p is nearly 1 saves the digits of the product.
template <typename T>
void softmax_hessian(int64_t classes, int64_t c, int64_t n, const T* p, const int64_t* likeliest, T scale,
                     T* r) {
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

at::Tensor matrix(const at::Tensor& buffer, int64_t rows, int64_t columns) {
  return buffer.as_strided({rows, columns}, {columns, 1});
}

// y = x w + beta y.
void multiply(at::Tensor y, const at::Tensor& x, const at::Tensor& w, double beta) {
  at::addmm_out(y, y, x, w, beta);
}

}  // namespace

struct MlpCurvatureOperator::Tile {
  int64_t samples = 0;
  std::vector<at::Tensor> inputs;     // of each layer: h_{l-1} with a row of ones below, [in + 1, n]
  std::vector<at::Tensor> slopes;     // phi'(a_l) [out, n], hidden layers
  std::vector<at::Tensor> bends;      // phi''(a_l) g_l [out, n], hidden layers
  std::vector<at::Tensor> deltas;     // dL/da_l [out, n]
  at::Tensor probabilities;           // softmax of the outputs [classes, n]
  at::Tensor likeliest;               // their largest entry's class, int64 [n]
  std::vector<at::Tensor> residuals;  // Fisher kinds: dl/da_last [classes, n], one per draw
};

struct MlpCurvatureOperator::Workspace {
  int64_t c = 0, capacity = 0;              // vectors in the present chunk, and what the buffers hold
  std::vector<at::Tensor> vectors;          // (V_l, v_l) as [out, c, in + 1]
  std::vector<at::Tensor> transposed;       // V_l as [in, c, out]
  std::vector<at::Tensor> sums;             // of R delta_l (h_{l-1}, 1)^T: [out, c, in + 1]
  std::vector<at::Tensor> transposed_sums;  // of R h_{l-1} delta_l^T: [in, c, out]
  std::vector<at::Tensor> ra, rh;           // hidden layers, [out, c, n]
  at::Tensor r[2];                          // R delta of a layer and of the one below, [widest, c, n]
};

bool MlpCurvatureOperator::supports(const Model& model, const Loss& loss) {
  return dynamic_cast<const Mlp*>(&model) != nullptr &&
         (loss.kind == LossKind::cross_entropy || loss.kind == LossKind::mean_squared_error);
}

MlpCurvatureOperator::MlpCurvatureOperator(const Model& model, const at::Tensor& parameters,
                                           const Dataset& data, const CurvatureOptions& options,
                                           std::string name, const Context& context,
                                           int64_t vectors_per_chunk)
    : CurvatureOperator(model.parameters(), options.dtype, options, std::move(name), context),
      vectors_per_chunk_(vectors_per_chunk),
      chosen_(model.parameters().size(), false) {
  const Context::Scope scope(context);
  require(data.size() > 0, this->name(), ": the data set is empty");
  require(parameters.isfinite().all().item<bool>(), this->name(), ": the parameters hold NaN or infinity");
  require(data.x.isfinite().all().item<bool>(), this->name(), ": the inputs hold NaN or infinity");
  require(supports(model, options_.loss), this->name(),
          ": a fully connected network and a loss by name are needed, not ", model.description());
  for (const size_t i : subset_.tensors) chosen_[i] = true;
  const Mlp* mlp = dynamic_cast<const Mlp*>(&model);
  widths_ = mlp->widths();
  activation_ = mlp->activation();
  require(data.x.numel() == data.size() * widths_[0], this->name(), ": the first width is ", widths_[0],
          " but a sample has ", data.x.numel() / data.size(), " numbers");
  if (data.y.is_floating_point()) {  // loss_sum() looks at their shape
    require(data.y.isfinite().all().item<bool>(), this->name(), ": the targets hold NaN or infinity");
  } else {
    const int64_t lowest = data.y.min().item<int64_t>(), highest = data.y.max().item<int64_t>();
    require(lowest >= 0 && highest < widths_.back(), this->name(), ": targets run from ", lowest, " to ",
            highest, " but the network has ", widths_.back(), " outputs");
  }

  const at::NoGradGuard no_grad;
  samples_ = data.size();
  choose_sizes();
  const at::Tensor theta = parameters.detach().to(at::kDouble);
  const std::vector<at::Tensor> exact = unflatten(model.parameters(), theta);
  for (size_t l = 0; l < layers(); ++l) weights_.push_back(exact[2 * l].to(dtype()).contiguous());
  const at::Tensor gradient = at::zeros_like(theta);
  for (int64_t begin = 0; begin < data.size(); begin += options_.batch_size) {
    const int64_t end = std::min(begin + options_.batch_size, data.size());
    tiles_.push_back(make_tile(exact, data, begin, end, unflatten(model.parameters(), gradient)));
  }
  const at::Tensor chosen = subset_.gather(model.parameters(), theta);
  loss_ += options_.l2 / 2 * chosen.square().sum().item<double>();
  gradient_ = subset_.gather(model.parameters(), gradient) + options_.l2 * chosen;
}

MlpCurvatureOperator::~MlpCurvatureOperator() = default;

void MlpCurvatureOperator::choose_sizes() {
  if (options_.batch_size == 0) options_.batch_size = 512;
  options_.batch_size = std::min(options_.batch_size, samples_);
  if (vectors_per_chunk_ == 0) {
    // Wide enough for large matrix products, while one thread's activations stay near the size of its caches.
    // Measured flat within 10 % for wide layers; for 256-20-...-10 with 500 samples 4 vectors beat 16 by 10
    // %, and 2 by 15 % in float64.
    constexpr int64_t kBudget = int64_t{2} << 20;
    const int64_t numbers =
        2 * options_.batch_size * std::accumulate(widths_.begin() + 1, widths_.end(), int64_t{0});
    const int64_t bytes = numbers * static_cast<int64_t>(c10::elementSize(dtype()));
    vectors_per_chunk_ = std::clamp<int64_t>(kBudget / bytes, 2, 32);
  }
  // Of the memory, a quarter for a block, its product and what the caller makes of them, and half for the
  // workspaces, which hold a chunk's vectors and sums packed in up to two ways.
  const int64_t budget = std::max<int64_t>(context_.memory().available() - options_.reserve, 0);
  const int64_t vector = size() * static_cast<int64_t>(c10::elementSize(dtype()));
  preferred_block_ = std::clamp<int64_t>(budget / 4 / (3 * vector), 1, 256);
  vectors_per_chunk_ =
      std::clamp<int64_t>(budget / 2 / (4 * vector * context_.threads()), 1, vectors_per_chunk_);
}

MlpCurvatureOperator::Tile MlpCurvatureOperator::make_tile(const std::vector<at::Tensor>& parameters,
                                                           const Dataset& data, int64_t begin, int64_t end,
                                                           const std::vector<at::Tensor>& gradient) {
  const at::Tensor x = data.x.slice(0, begin, end), y = data.y.slice(0, begin, end);
  const auto keep = [&](const at::Tensor& t) { return t.to(dtype()).contiguous(); };
  Tile tile;
  tile.samples = x.size(0);
  const at::Tensor ones = at::ones({1, tile.samples}, at::kDouble);
  std::vector<ActivationValues> hidden;
  at::Tensor a, h = x.to(at::kDouble).flatten(1).t();
  for (size_t l = 0; l < layers(); ++l) {
    tile.inputs.push_back(keep(at::cat({h, ones})));
    a = at::addmm(parameters[2 * l + 1].unsqueeze(1), parameters[2 * l], h);
    if (l + 1 == layers()) break;
    hidden.push_back(activate(activation_, a));
    h = hidden.back().h;
    tile.slopes.push_back(keep(hidden.back().slope));
  }

  const at::Tensor outputs = a.t();
  loss_ += loss_sum(options_.loss, outputs, y).item<double>() / static_cast<double>(samples_);
  at::Tensor delta = output_gradient(options_.loss, outputs, y).t();
  if (options_.loss.kind == LossKind::cross_entropy) {
    tile.probabilities = keep(at::softmax(a, 0));
    tile.likeliest = a.argmax(0);
  }
  if (options_.kind == CurvatureKind::empirical_fisher) tile.residuals = {keep(delta)};
  if (options_.kind == CurvatureKind::mc_fisher) {
    for (int64_t draw = 0; draw < options_.draws; ++draw) {
      tile.residuals.push_back(
          keep(sampled_output_gradient(options_.loss, outputs, options_.seed, draw, begin).t()));
    }
  }
  delta = delta / static_cast<double>(samples_);
  tile.deltas.resize(layers());
  tile.bends.resize(layers() - 1);
  for (size_t l = layers() - 1;; --l) {
    gradient[2 * l].add_(at::mm(delta, (l > 0 ? hidden[l - 1].h : x.to(at::kDouble).flatten(1).t()).t()));
    gradient[2 * l + 1].add_(delta.sum(1));
    if (hessian()) tile.deltas[l] = keep(delta);
    if (l == 0) return tile;
    const at::Tensor g = at::mm(parameters[2 * l].t(), delta);
    if (curved()) tile.bends[l - 1] = keep(hidden[l - 1].second * g);
    delta = hidden[l - 1].slope * g;
  }
}

at::Tensor MlpCurvatureOperator::apply_impl(const at::Tensor& block) {
  const Context::Scope scope(context_);
  const at::Tensor vectors = as_block(block);
  at::Tensor products = empty_block(size(), block.size(1), dtype());
  const int64_t b = block.size(1);
  if (b == 0) return products;
  // As many chunks as the limit on their width asks for, or a multiple of the threads, of nearly equal width.
  const int64_t workers = std::min<int64_t>(context_.threads(), b);
  const int64_t rounds = (b + workers * vectors_per_chunk_ - 1) / (workers * vectors_per_chunk_);
  const int64_t c = (b + workers * rounds - 1) / (workers * rounds);
  while (static_cast<int64_t>(workspaces_.size()) < workers)
    workspaces_.push_back(std::make_unique<Workspace>());
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    context_.run_workers(static_cast<int>(workers), [&](int worker) {
      const at::NoGradGuard no_grad;
      for (int64_t begin = worker * c; begin < b; begin += workers * c) {
        context_.check_cancelled();
        Workspace& work = *workspaces_[static_cast<size_t>(worker)];
        resize(work, std::min(c, b - begin));
        apply_chunk(vectors.data_ptr<T>() + begin * size(), products.data_ptr<T>() + begin * size(), work);
      }
    });
  };
  dtype() == at::kFloat ? run(0.F) : run(0.0);
  if (options_.l2 > 0) products.add_(vectors, options_.l2);
  return products;
}

void MlpCurvatureOperator::resize(Workspace& work, int64_t c) const {
  if (work.c == c) return;
  const auto buffer = [&](int64_t numbers) { return at::empty({numbers}, dtype()); };
  const int64_t n = options_.batch_size;
  if (c > work.capacity) {
    work = Workspace();
    work.capacity = c;
    for (size_t l = 0; l < layers(); ++l) {
      const int64_t in = widths_[l], out = widths_[l + 1];
      work.vectors.push_back(buffer(out * c * (in + 1)));
      work.sums.push_back(buffer(out * c * (in + 1)));
      const bool two_terms = hessian() && l > 0;
      work.transposed.push_back(buffer(two_terms ? in * c * out : 0));
      work.transposed_sums.push_back(buffer(two_terms ? in * c * out : 0));
      if (l + 1 < layers()) {
        work.ra.push_back(buffer(out * c * n));
        work.rh.push_back(buffer(out * c * n));
      }
    }
    const int64_t widest = *std::max_element(widths_.begin() + 1, widths_.end());
    for (at::Tensor& r : work.r) r = buffer(widest * c * n);
  }
  work.c = c;
}

template <typename T>
void MlpCurvatureOperator::apply_chunk(const T* vectors, T* products, Workspace& work) const {
  pack(vectors, work);
  for (size_t i = 0; i < tiles_.size(); ++i) apply_tile<T>(tiles_[i], i == 0, work);
  unpack(work, products);
}

template <typename T>
void MlpCurvatureOperator::pack(const T* vectors, Workspace& work) const {
  const int64_t c = work.c;
  for (int64_t j = 0; j < c; ++j) {
    const T* weight = vectors + j * size();
    for (size_t l = 0; l < layers(); ++l) {
      const int64_t in = widths_[l], out = widths_[l + 1];
      const bool with_weight = chosen_[2 * l], with_bias = chosen_[2 * l + 1];
      const T* bias = with_weight ? weight + out * in : weight;
      T* packed = work.vectors[l].data_ptr<T>();
      for (int64_t o = 0; o < out; ++o) {
        T* row = packed + (o * c + j) * (in + 1);
        if (with_weight) {
          std::memcpy(row, weight + o * in, sizeof(T) * in);
        } else {
          std::fill(row, row + in, T(0));
        }
        row[in] = with_bias ? bias[o] : T(0);
      }
      if (hessian() && l > 0) {
        T* columns = work.transposed[l].data_ptr<T>() + j * out;
        if (with_weight) {
          transpose<false>(out, in, weight, columns, c * out);
        } else {
          for (int64_t i = 0; i < in; ++i)
            std::fill(columns + i * c * out, columns + i * c * out + out, T(0));
        }
      }
      weight = with_bias ? bias + out : bias;
    }
  }
}

template <typename T>
void MlpCurvatureOperator::unpack(const Workspace& work, T* products) const {
  const int64_t c = work.c;
  for (int64_t j = 0; j < c; ++j) {
    T* weight = products + j * size();
    for (size_t l = 0; l < layers(); ++l) {
      const int64_t in = widths_[l], out = widths_[l + 1];
      const bool with_weight = chosen_[2 * l], with_bias = chosen_[2 * l + 1];
      T* bias = with_weight ? weight + out * in : weight;
      const T* packed = work.sums[l].data_ptr<T>();
      for (int64_t o = 0; o < out; ++o) {
        const T* row = packed + (o * c + j) * (in + 1);
        if (with_weight) std::memcpy(weight + o * in, row, sizeof(T) * in);
        if (with_bias) bias[o] = row[in];
      }
      if (hessian() && l > 0 && with_weight) {
        transpose<true>(out, in, weight, work.transposed_sums[l].data_ptr<T>() + j * out, c * out);
      }
      weight = with_bias ? bias + out : bias;
    }
  }
}

template <typename T>
void MlpCurvatureOperator::apply_tile(const Tile& tile, bool first, Workspace& work) const {
  const int64_t c = work.c, n = tile.samples;
  const size_t last = layers() - 1;
  const double add = first ? 0 : 1;  // sums over tiles
  // R a_l = V_l h_{l-1} + v_l + W_l R h_{l-1};  R h_l = phi' R a_l
  for (size_t l = 0; l <= last; ++l) {
    const int64_t in = widths_[l], out = widths_[l + 1];
    const at::Tensor& ra = l == last ? work.r[0] : work.ra[l];
    multiply(matrix(ra, out * c, n), matrix(work.vectors[l], out * c, in + 1), tile.inputs[l], 0);
    if (l > 0) multiply(matrix(ra, out, c * n), weights_[l], matrix(work.rh[l - 1], in, c * n), 1);
    if (l < last) {
      forward_step(out, c, n, tile.slopes[l].template data_ptr<T>(),
                   curved() ? tile.bends[l].template data_ptr<T>() : nullptr, ra.data_ptr<T>(),
                   work.rh[l].template data_ptr<T>());
    }
  }
  // R delta_last = l'' R a_last
  const int64_t classes = widths_.back();
  if (!tile.residuals.empty()) {  // mean over draws of r (r^T R a_last)
    const at::Tensor ra = matrix(work.r[0], classes, c * n).view({classes, c, n});
    at::Tensor sum = at::zeros_like(ra);
    for (const at::Tensor& r : tile.residuals) {
      const at::Tensor column = r.unsqueeze(1);
      sum += column * (column * ra).sum(0, /*keepdim=*/true);
    }
    ra.copy_(sum).div_(static_cast<double>(samples_) * static_cast<double>(tile.residuals.size()));
  } else if (options_.loss.kind == LossKind::cross_entropy) {
    softmax_hessian(classes, c, n, tile.probabilities.data_ptr<T>(), tile.likeliest.data_ptr<int64_t>(),
                    static_cast<T>(1.0 / static_cast<double>(samples_)), work.r[0].template data_ptr<T>());
  } else {
    matrix(work.r[0], classes, c * n).mul_(2.0 / static_cast<double>(classes * samples_));
  }
  for (size_t l = last;; --l) {
    const int64_t in = widths_[l], out = widths_[l + 1];
    at::Tensor& rdelta = work.r[(last - l) % 2];
    // sums += R delta_l (h_{l-1}, 1)^T + delta_l R h_{l-1}^T
    multiply(matrix(work.sums[l], out * c, in + 1), matrix(rdelta, out * c, n), tile.inputs[l].t(), add);
    if (l == 0) break;
    if (hessian()) {
      multiply(matrix(work.transposed_sums[l], in * c, out), matrix(work.rh[l - 1], in * c, n),
               tile.deltas[l].t(), add);
    }
    // R g_{l-1} = W_l^T R delta_l + V_l^T delta_l;  R delta_{l-1} = phi' R g + phi'' g R a
    at::Tensor& rg = work.r[(last - l + 1) % 2];
    multiply(matrix(rg, in, c * n), weights_[l].t(), matrix(rdelta, out, c * n), 0);
    if (hessian())
      multiply(matrix(rg, in * c, n), matrix(work.transposed[l], in * c, out), tile.deltas[l], 1);
    backward_step(in, c, n, tile.slopes[l - 1].template data_ptr<T>(),
                  curved() ? work.ra[l - 1].template data_ptr<T>() : nullptr, rg.data_ptr<T>());
  }
}

}  // namespace seigh
