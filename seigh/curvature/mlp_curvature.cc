#include "seigh/curvature/mlp_curvature.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/core/device_graph.h"
#include "seigh/core/error.h"
#include "seigh/core/full_precision.h"
#include "seigh/core/printable.h"
#include "seigh/core/timer.h"

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

at::Tensor matrix(const at::Tensor& buffer, int64_t rows, int64_t columns) {
  return buffer.as_strided({rows, columns}, {columns, 1});
}

at::Tensor stack(const at::Tensor& buffer, int64_t width, int64_t c, int64_t n) {
  return buffer.as_strided({width, c, n}, {c * n, n, 1});
}

// Bytes of the base point, with what parameters and the gradient take while it is made, and of a vector and a
// sample at work: the stacks of the hidden layers, and the two widest.
int64_t bytes_of_base(const std::vector<int64_t>& widths, int64_t parameters, int64_t samples,
                      const CurvatureOptions& options) {
  const int64_t draws = options.kind == CurvatureKind::mc_fisher ? options.draws : 1,
                numbers =
                    4 * std::accumulate(widths.begin(), widths.end(), int64_t{0}) + draws * widths.back();
  return samples * numbers * static_cast<int64_t>(c10::elementSize(options.dtype)) + 6 * 8 * parameters;
}
int64_t bytes_at_work(const std::vector<int64_t>& widths, at::ScalarType dtype) {
  return 2 *
         (std::accumulate(widths.begin() + 1, widths.end(), int64_t{0}) +
          *std::max_element(widths.begin() + 1, widths.end())) *
         static_cast<int64_t>(c10::elementSize(dtype));
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

std::unique_ptr<CurvatureOperator> MlpCurvatureOperator::where_possible(
    const Model& model, const at::Tensor& parameters, const Dataset& data, const CurvatureOptions& options,
    const std::string& name, const Context& context) {
  const c10::Device device = parameters.device();
  if (!supports(model, options.loss)) return nullptr;
  if (device.is_cpu())
    return std::make_unique<MlpCurvatureOperator>(model, parameters, data, options, name, context);
  const DeviceMemory memory(device, context.device_memory());
  const int64_t base =
      bytes_of_base(dynamic_cast<const Mlp&>(model).widths(), model.parameter_count(), data.size(), options);
  if (memory.obstacle().empty() && base > memory.available() / 2) return nullptr;
  try {
    return std::make_unique<MlpCurvatureOperator>(model, parameters, data, options, name, context);
  } catch (const c10::OutOfMemoryError&) {
    return nullptr;
  }
}

MlpCurvatureOperator::MlpCurvatureOperator(const Model& model, const at::Tensor& parameters,
                                           const Dataset& data, const CurvatureOptions& options,
                                           std::string name, const Context& context,
                                           int64_t vectors_per_chunk)
    : CurvatureOperator(model.parameters(), options.dtype, options, std::move(name), context),
      device_(parameters.device()),
      vectors_per_chunk_(vectors_per_chunk) {
  const Context::Scope scope(context);
  const FullPrecision full(device_);
  if (!device_.is_cpu()) device_memory_.emplace(device_, context.device_memory());
  require(data.size() > 0, this->name(), ": the data set is empty");
  require(parameters.isfinite().all().item<bool>(), this->name(), ": the parameters hold NaN or infinity");
  require(data.x.isfinite().all().item<bool>(), this->name(), ": the inputs hold NaN or infinity");
  require(supports(model, options_.loss), this->name(),
          ": a fully connected network and a loss by name are needed, not ", model.description());
  const Mlp* mlp = dynamic_cast<const Mlp*>(&model);
  widths_ = mlp->widths();
  for (size_t l = 0; l + 1 < widths_.size(); ++l) layers_.push_back({widths_[l], widths_[l + 1]});
  int64_t place = 0;
  for (const size_t i : subset_.tensors) {
    (i % 2 == 0 ? layers_[i / 2].weight : layers_[i / 2].bias) = place;
    place += model.parameters()[i].numel();
  }
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
  choose_sizes(model.parameter_count());
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

std::string MlpCurvatureOperator::way() const {
  if (device_.is_cpu()) return "stacked";
  return text_of("stacked: ", vectors_per_chunk_, " vectors, mini-batches of ", options_.batch_size);
}

std::vector<std::string> MlpCurvatureOperator::notes() const {
  std::vector<std::string> all = CurvatureOperator::notes();
  if (device_memory_ && !device_memory_->obstacle().empty())
    all.push_back(text_of(device_memory_->obstacle(), ": mini-batches are not cut to it"));
  if (made_smaller_) all.push_back(text_of(way(), ": ", device_, " ran out of memory with more"));
  return all;
}

double MlpCurvatureOperator::seconds_of_vector() {
  const Context::Scope scope(context_);
  const FullPrecision full(device_);
  const at::NoGradGuard no_grad;
  const int64_t c = vectors_per_chunk_;
  const at::Tensor v = empty_block(size(), c, dtype(), device_).fill_(1), product = v.clone();
  Workspace work;
  resize(work, c);
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {  // what libraries try out once is not in the second
    const Timer timer;
    apply_chunk(v, product, work, 1);
    if (!device_.is_cpu()) current_stream(device_).synchronize();
    seconds = timer.seconds();
  }
  return seconds * static_cast<double>(tiles_.size()) / static_cast<double>(c);
}

void MlpCurvatureOperator::choose_sizes(int64_t parameters) {
  if (!device_.is_cpu()) return choose_sizes_there(parameters);
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

// A chunk is a block: as many vectors, and samples at work, as fill a card, within a quarter of what it has
// beside the base point for the stacks, and another for the vectors, packed.
void MlpCurvatureOperator::choose_sizes_there(int64_t parameters) {
  constexpr int64_t kStacks = int64_t{1} << 30, kSamples = 8192, kFew = 256;
  const int64_t vector = size() * static_cast<int64_t>(c10::elementSize(dtype())),
                one = bytes_at_work(widths_, dtype());
  const bool known = device_memory_->obstacle().empty();
  const int64_t base = bytes_of_base(widths_, parameters, samples_, options_);
  const int64_t quarter = known ? std::max<int64_t>(device_memory_->available() - base, 0) / 4 : kStacks;
  const int64_t stacks = std::min(kStacks, quarter);
  const int64_t few = std::min(options_.batch_size == 0 ? kFew : options_.batch_size, samples_);
  preferred_block_ = std::clamp<int64_t>(std::min(stacks / (few * one), quarter / (4 * vector)), 1, 256);
  if (vectors_per_chunk_ == 0) vectors_per_chunk_ = preferred_block_;
  if (options_.batch_size == 0)
    options_.batch_size = std::clamp<int64_t>(stacks / (vectors_per_chunk_ * one), 1, kSamples);
  options_.batch_size = std::min(options_.batch_size, samples_);
}

MlpCurvatureOperator::Tile MlpCurvatureOperator::make_tile(const std::vector<at::Tensor>& parameters,
                                                           const Dataset& data, int64_t begin, int64_t end,
                                                           const std::vector<at::Tensor>& gradient) {
  const at::Tensor x = data.x.slice(0, begin, end).to(device_), y = data.y.slice(0, begin, end).to(device_);
  const auto keep = [&](const at::Tensor& t) { return t.to(dtype()).contiguous(); };
  Tile tile;
  tile.samples = x.size(0);
  const at::Tensor ones = at::ones({1, tile.samples}, x.options().dtype(at::kDouble));
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
  const FullPrecision full(device_);
  if (device_.is_cpu()) return multiply_block(block);
  const int64_t chunk = vectors_per_chunk_, preferred = preferred_block_;
  for (;;) {
    try {
      at::Tensor products = multiply_block(block);
      made_smaller_ = made_smaller_ || vectors_per_chunk_ < chunk;
      return products;
    } catch (const c10::OutOfMemoryError& error) {
      workspaces_.clear();
      device_memory_->release();
      if (vectors_per_chunk_ == 1 || block.size(1) == 1) {
        vectors_per_chunk_ = chunk;  // there may be more next time
        preferred_block_ = preferred;
        throw MemoryError(text_of(name(), ": too little memory on ", device_, " for ", options_.batch_size,
                                  " samples: ", first_line(error.what_without_backtrace())));
      }
    }
    vectors_per_chunk_ = (std::min(vectors_per_chunk_, block.size(1)) + 1) / 2;
    preferred_block_ = std::min(preferred_block_, vectors_per_chunk_);
  }
}

at::Tensor MlpCurvatureOperator::multiply_block(const at::Tensor& block) {
  const at::Tensor vectors = as_block(block);
  at::Tensor products = empty_block(size(), block.size(1), dtype(), block.device());
  const int64_t b = block.size(1);
  if (b == 0) return products;
  // As many chunks as the limit on their width asks for, or a multiple of the threads, of nearly equal width.
  const int64_t workers = device_.is_cpu() ? std::min<int64_t>(context_.threads(), b) : 1;
  const int64_t rounds = (b + workers * vectors_per_chunk_ - 1) / (workers * vectors_per_chunk_);
  const int64_t c = (b + workers * rounds - 1) / (workers * rounds);
  while (static_cast<int64_t>(workspaces_.size()) < workers)
    workspaces_.push_back(std::make_unique<Workspace>());
  context_.run_workers(static_cast<int>(workers), [&](int worker) {
    const at::NoGradGuard no_grad;
    for (int64_t begin = worker * c; begin < b; begin += workers * c) {
      const int64_t n = std::min(c, b - begin);
      Workspace& work = *workspaces_[static_cast<size_t>(worker)];
      resize(work, n);
      apply_chunk(vectors.narrow(1, begin, n), products.narrow(1, begin, n), work, tiles_.size());
    }
  });
  if (options_.l2 > 0) products.add_(vectors, options_.l2);
  return products;
}

void MlpCurvatureOperator::resize(Workspace& work, int64_t c) const {
  if (work.c == c) return;
  const auto buffer = [&](int64_t numbers) {
    return at::empty({numbers}, at::device(device_).dtype(dtype()));
  };
  const int64_t n = options_.batch_size;
  if (c > work.capacity) {
    work = Workspace();  // empty, should there be no memory for all of another
    Workspace larger;
    larger.capacity = c;
    for (size_t l = 0; l < layers(); ++l) {
      const int64_t in = widths_[l], out = widths_[l + 1];
      larger.vectors.push_back(buffer(out * c * (in + 1)));
      larger.sums.push_back(buffer(out * c * (in + 1)));
      const bool two_terms = hessian() && l > 0;
      larger.transposed.push_back(buffer(two_terms ? in * c * out : 0));
      larger.transposed_sums.push_back(buffer(two_terms ? in * c * out : 0));
      if (l + 1 < layers()) {
        larger.ra.push_back(buffer(out * c * n));
        larger.rh.push_back(buffer(out * c * n));
      }
    }
    const int64_t widest = *std::max_element(widths_.begin() + 1, widths_.end());
    for (at::Tensor& r : larger.r) r = buffer(widest * c * n);
    work = std::move(larger);
  }
  work.c = c;
}

// Vectors and products lie on the host or on the device.
void MlpCurvatureOperator::apply_chunk(const at::Tensor& vectors, const at::Tensor& products, Workspace& work,
                                       size_t tiles) const {
  const int64_t c = work.c;
  const auto packed = [&](const std::vector<at::Tensor>& buffers, size_t l) {
    return stack(buffers[l], layers_[l].out, c, layers_[l].in + 1);
  };
  const auto transposed = [&](const std::vector<at::Tensor>& buffers, size_t l) {
    return hessian() && l > 0 ? stack(buffers[l], layers_[l].in, c, layers_[l].out) : at::Tensor();
  };
  const at::Tensor mine = vectors.to(device_);
  for (size_t l = 0; l < layers(); ++l)
    pack(mine, layers_[l], packed(work.vectors, l), transposed(work.transposed, l));
  constexpr double kSoon = 2e12;  // flops, between which Ctrl-C is heard
  double ahead = 0;
  for (size_t i = 0; i < tiles; ++i) {
    context_.check_cancelled();
    apply_tile(tiles_[i], i == 0, work);
    ahead += 12.0 * static_cast<double>(size()) * static_cast<double>(c * tiles_[i].samples);
    if (device_.is_cpu() || ahead < kSoon) continue;
    current_stream(device_).synchronize();
    ahead = 0;
  }
  const at::Tensor made = products.device() == device_ ? products : empty_block(size(), c, dtype(), device_);
  for (size_t l = 0; l < layers(); ++l)
    unpack(packed(work.sums, l), transposed(work.transposed_sums, l), layers_[l], made);
  if (!made.is_same(products)) products.copy_(made);
}

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
      forward_step(tile.slopes[l], tile.bends[l], stack(ra, out, c, n), stack(work.rh[l], out, c, n));
    }
  }
  // R delta_last = l'' R a_last
  const int64_t classes = widths_.back();
  if (!tile.residuals.empty()) {  // mean over draws of r (r^T R a_last)
    const at::Tensor ra = stack(work.r[0], classes, c, n);
    at::Tensor sum = at::zeros_like(ra);
    for (const at::Tensor& r : tile.residuals) {
      const at::Tensor column = r.unsqueeze(1);
      sum += column * (column * ra).sum(0, /*keepdim=*/true);
    }
    ra.copy_(sum).div_(static_cast<double>(samples_) * static_cast<double>(tile.residuals.size()));
  } else if (options_.loss.kind == LossKind::cross_entropy) {
    softmax_hessian(tile.probabilities, tile.likeliest, 1.0 / static_cast<double>(samples_),
                    stack(work.r[0], classes, c, n));
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
    backward_step(tile.slopes[l - 1], curved() ? stack(work.ra[l - 1], in, c, n) : at::Tensor(),
                  stack(rg, in, c, n));
  }
}

}  // namespace seigh
