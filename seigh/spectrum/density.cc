#include "seigh/spectrum/density.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/real.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/spectrum/leave_one_out.h"

namespace seigh {
namespace {

double length_of(const at::Tensor& x) {
  return at::linalg_vector_norm(x, 2, std::nullopt, false,
                                at::isComplexType(x.scalar_type()) ? at::kComplexDouble : at::kDouble)
      .item<double>();
}

// Lanczos' iteration from one vector.
class Iteration {
 public:
  Iteration(const at::Tensor& start, int64_t steps)
      : basis_(empty_block(start.size(0), steps, start.scalar_type())) {
    basis_.select(1, 0).copy_(start / length_of(start));
  }

  bool ended() const { return ended_; }
  int64_t steps() const { return static_cast<int64_t>(alpha_.size()); }
  /// The vector to be multiplied next.
  at::Tensor vector() const { return basis_.select(1, steps()); }
  /// Takes the product; `rounding`: an error of its length is to be expected. Another step is to follow
  /// unless it was the last or the iteration has ended.
  void advance(const at::Tensor& product, double rounding, const Context& context) {
    const int64_t j = steps();
    at::Tensor w = product.to(wide(product.scalar_type())).unsqueeze(1);
    const at::Tensor known = basis_.slice(1, 0, j + 1);
    double alpha = 0;
    for (int pass = 0; pass < 2; ++pass) {  // the second for what the first leaves by rounding
      const at::Tensor h = against(known, w);
      alpha += at::real(h[j][0]).item<double>();
      subtract(w, known, h);
    }
    // All ranks end at the same step.
    alpha_.push_back(context.ranks().agree(alpha));
    const double beta = context.ranks().agree(length_of(w));
    largest_ = std::max({largest_, std::abs(alpha), beta});
    constexpr double kSafety = 10;
    ended_ = beta <= kSafety * std::max(rounding, epsilon(product.scalar_type()) * largest_);
    if (ended_ || j + 1 == basis_.size(1)) return;
    beta_.push_back(beta);
    basis_.select(1, j + 1).copy_(w.squeeze(1) / beta);
  }

  /// Nodes and weights, float64 [2, m], of the first m steps.
  at::Tensor quadrature(int64_t m) const {
    at::Tensor t = at::zeros({m, m}, at::kDouble);
    for (int64_t i = 0; i < m; ++i) {
      t[i][i].fill_(alpha_[i]);
      if (i + 1 < m) t[i + 1][i].fill_(beta_[i]);
    }
    const auto [nodes, vectors] = at::linalg_eigh(t);
    const at::Tensor weights = vectors[0].square();
    return at::cat({nodes, weights / weights.sum()}).view({2, m});
  }
  double largest() const { return largest_; }

 private:
  // V^H w and w -= V h in float64, by panels that the processor's cache holds.
  static constexpr int64_t kPanel = 8192;
  static at::Tensor against(const at::Tensor& v, const at::Tensor& w) {
    at::Tensor h = at::zeros({v.size(1), 1}, w.options());
    for (int64_t begin = 0; begin < v.size(0); begin += kPanel) {
      const int64_t end = std::min(begin + kPanel, v.size(0));
      h.add_(at::matmul(v.slice(0, begin, end).to(w.scalar_type()).mH(), w.slice(0, begin, end)));
    }
    return h;
  }
  static void subtract(at::Tensor& w, const at::Tensor& v, const at::Tensor& h) {
    for (int64_t begin = 0; begin < v.size(0); begin += kPanel) {
      const int64_t end = std::min(begin + kPanel, v.size(0));
      w.slice(0, begin, end).sub_(at::matmul(v.slice(0, begin, end).to(w.scalar_type()), h));
    }
  }

  at::Tensor basis_;  // block [D, steps]
  std::vector<double> alpha_, beta_;
  double largest_ = 0;
  bool ended_ = false;
};

// One row for every vector; where there are fewer nodes the last is repeated, without weight.
void put(const at::Tensor& nodes, const at::Tensor& weights, int64_t row, const at::Tensor& quadrature) {
  const int64_t m = quadrature.size(1);
  nodes[row].slice(0, 0, m).copy_(quadrature[0]);
  nodes[row].slice(0, m).copy_(quadrature[0][m - 1].expand({nodes.size(1) - m}));
  weights[row].slice(0, 0, m).copy_(quadrature[1]);
}

Density exact_density(LinearOperator& op, const Context& context) {
  const int64_t size = op.size();
  require_memory("density: the whole matrix", 3 * size * size * wide_bytes(op.dtype()),
                 "take fewer vectors or steps", context);
  context.progress().begin("whole matrix of " + op.name(), size, "products");
  at::Tensor matrix = empty_block(size, size, wide(op.dtype()));
  for_columns(op, size, context, [&](int64_t begin, int64_t end) {
    at::Tensor unit = empty_block(size, end - begin, op.dtype()).zero_();
    unit.diagonal(-begin).fill_(1);
    matrix.slice(1, begin, end).copy_(op.apply(unit));
  });
  context.progress().end();
  Density result;
  result.nodes = at::linalg_eigvalsh(0.5 * (matrix + matrix.mH())).unsqueeze(0);
  context.ranks().agree_on(result.nodes);
  result.weights = at::full({1, size}, 1.0 / static_cast<double>(size), at::kDouble);
  result.fewer_nodes = result.nodes;
  result.fewer_weights = result.weights;
  result.ended = at::full({1}, true, at::kBool);
  result.exact = true;
  result.products = size;
  return result;
}

// Weights before node i, for i = 0..m: [m + 1].
at::Tensor running(const at::Tensor& weights) {
  return at::cat({at::zeros({1}, at::kDouble), weights.cumsum(0)});
}

// The distribution of nodes and weights at x.
at::Tensor distribution(const at::Tensor& nodes, const at::Tensor& weights, const at::Tensor& x) {
  return running(weights).index_select(0, at::searchsorted(nodes, x, /*out_int32=*/false, /*right=*/true));
}

// The Gaussian of standard deviation `width` at x.
at::Tensor gaussian(const at::Tensor& x, double width) {
  return at::exp(-0.5 * (x / width).square()) / (width * std::sqrt(2 * std::numbers::pi));
}

at::Tensor convolved(const at::Tensor& nodes, const at::Tensor& weights, const at::Tensor& x, double width) {
  return at::mv(gaussian(x.unsqueeze(1) - nodes, width), weights);
}

// Integral |F - F'|(t) |g'(x - t)| dt for the distributions of two rules.
at::Tensor smoothed_difference(const at::Tensor& nodes, const at::Tensor& weights,
                               const at::Tensor& fewer_nodes, const at::Tensor& fewer_weights,
                               const at::Tensor& x, double width) {
  // Between neighbours of all nodes F - F' is constant, and g rises or falls or has its top.
  const at::Tensor t = std::get<0>(at::cat({nodes, fewer_nodes}).sort());
  const at::Tensor difference =
      (distribution(nodes, weights, t) - distribution(fewer_nodes, fewer_weights, t)).abs().slice(0, 0, -1);
  const at::Tensor g = gaussian(x.unsqueeze(1) - t, width);
  const at::Tensor left = g.slice(1, 0, -1), right = g.slice(1, 1), at_x = x.unsqueeze(1);
  const at::Tensor holds = t.slice(0, 0, -1).le(at_x).logical_and(t.slice(0, 1).ge(at_x));
  const double top = 1 / (width * std::sqrt(2 * std::numbers::pi));
  return at::mv(at::where(holds, 2 * top - left - right, (left - right).abs()), difference);
}

// The distance of the two nodes that x is between.
at::Tensor gap_at(const at::Tensor& nodes, const at::Tensor& x) {
  const at::Tensor far = at::full({1}, std::numeric_limits<double>::infinity(), at::kDouble);
  const at::Tensor places = at::searchsorted(nodes, x);
  return at::cat({nodes, far}).index_select(0, places) - at::cat({-far, nodes}).index_select(0, places);
}

void require_grid(const at::Tensor& grid) {
  require(grid.dim() == 1 && grid.scalar_type() == at::kDouble, "density: a grid is float64 [n], not ",
          grid.scalar_type(), " ", grid.sizes());
}

}  // namespace

void DensityOptions::validate() const {
  constexpr int64_t kMost = 1'000'000;
  require(1 <= vectors && vectors <= kMost, "density: vectors must lie between 1 and ", kMost, ", not ",
          vectors);
  require(1 <= steps && steps <= kMost, "density: steps must lie between 1 and ", kMost, ", not ", steps);
}

at::Tensor Density::sampling_error(const at::Tensor& mean, const at::Tensor& mean_square) const {
  // Var v^H f(A) v = 2 / beta / (D + 2 / beta) times the variance of f over the eigenvalues, v uniform on the
  // sphere.
  const double over_beta = 2.0 / beta, vectors = static_cast<double>(nodes.size(0));
  const double factor = exact ? 0 : over_beta / (static_cast<double>(parameters) + over_beta) / vectors;
  return (factor * (mean_square - mean.square()).clamp_min(0)).sqrt();
}

Curve Density::cumulative(const at::Tensor& grid) const {
  require_grid(grid);
  const Context context;
  const Context::Scope scope(context);
  std::vector<at::Tensor> middle, half;
  for (int64_t row = 0; row < nodes.size(0); ++row) {
    const int64_t m = nodes.size(1);
    const bool known = ended[row].item<bool>();
    const at::Tensor below = at::searchsorted(nodes[row], grid - rounding, false, true),
                     up_to = at::searchsorted(nodes[row], grid + rounding, false, true);
    const at::Tensor sums = running(weights[row]);
    const at::Tensor low = sums.index_select(0, known ? below : (below - 1).clamp_min(0)),
                     high = sums.index_select(0, known ? up_to : (up_to + 1).clamp_max(m));
    middle.push_back(0.5 * (low + high));
    half.push_back(0.5 * (high - low));
  }
  const at::Tensor share = at::stack(middle).mean(0);
  return {share, at::stack(half).mean(0) + sampling_error(share, share)};
}

Curve Density::smoothed(const at::Tensor& grid, double width) const {
  require_grid(grid);
  constexpr double kLeast = 1e-100;  // whose square is a number
  const double least = std::max(rounding, kLeast);
  require(width > least && std::isfinite(width), "density: the width must be above ", least,
          ", what products resolve, not ", width);
  const Context context;
  const Context::Scope scope(context);
  std::vector<at::Tensor> values, squares, off;
  for (int64_t row = 0; row < nodes.size(0); ++row) {
    const at::Tensor &x = nodes[row], &w = weights[row], &fewer_x = fewer_nodes[row],
                     &fewer_w = fewer_weights[row];
    values.push_back(convolved(x, w, grid, width));
    squares.push_back(at::mv(gaussian(grid.unsqueeze(1) - x, width).square(), w));
    // Nearby as well: somewhere any two curves cross.
    at::Tensor nearby = at::zeros_like(grid);
    for (const double shift : {-width, 0.0, width})
      nearby = at::maximum(
          nearby,
          (convolved(x, w, grid + shift, width) - convolved(fewer_x, fewer_w, grid + shift, width)).abs());
    off.push_back(at::where(gap_at(fewer_x, grid) <= width, nearby,
                            smoothed_difference(x, w, fewer_x, fewer_w, grid, width)) +
                  // A node that is off by this moves its Gaussian.
                  rounding / (width * width));
  }
  const at::Tensor mean = at::stack(values).mean(0);
  return {mean, at::stack(off).mean(0) + sampling_error(mean, at::stack(squares).mean(0))};
}

Curve Density::moment(int64_t p) const {
  require(p >= 0, "density: a moment's power must not be negative: ", p);
  require(ended.all().item<bool>() || p < 2 * nodes.size(1), "density: of ", nodes.size(1),
          " steps the moments below ", 2 * nodes.size(1), " are known, not ", p);
  const Context context;
  const Context::Scope scope(context);
  const double power = static_cast<double>(p);
  const auto mean_of = [&](double q) { return (weights * nodes.pow(q)).sum(1).mean(0, /*keepdim=*/true); };
  const double largest = std::max(std::abs(lowest()), std::abs(highest()));
  const at::Tensor mean = mean_of(power);
  return {mean, sampling_error(mean, mean_of(2 * power)) +
                    (p == 0 ? 0 : power * rounding * std::pow(largest, power - 1))};
}

double Density::lowest() const {
  return nodes.min().item<double>();
}

double Density::highest() const {
  return nodes.max().item<double>();
}

double Density::resolved_width() const {
  const double range = highest() - lowest(), scale = std::max(std::abs(highest()), std::abs(lowest()));
  // All eigenvalues may be the same.
  return range > 1e-6 * scale ? 2 * range / static_cast<double>(nodes.size(1)) : scale > 0 ? 0.01 * scale : 1;
}

at::Tensor Density::grid(int64_t n, double width) const {
  require(n >= 2, "density: a grid has at least 2 points, not ", n);
  return at::linspace(lowest() - 4 * width, highest() + 4 * width, n, at::kDouble);
}

Density density(LinearOperator& op, const DensityOptions& options, const Context& context) {
  options.validate();
  const Context::Scope scope(context);
  const Timer timer;
  const int64_t size = op.size(), vectors = options.vectors, steps = options.steps;
  const double scale = 10;  // the products' error is a mean over vectors
  Density result;
  if (vectors * steps >= size) {
    result = exact_density(op, context);
    const double largest = std::max(std::abs(result.lowest()), std::abs(result.highest()));
    result.rounding = scale * std::max(op.product_error(), epsilon(op.dtype()) * largest);
  } else {
    const int64_t vector = size * (steps * c10::elementSize(op.dtype()) + 2 * c10::elementSize(op.dtype()) +
                                   2 * wide_bytes(op.dtype()));
    require_memory("density: a basis of " + std::to_string(steps) + " vectors", vector, "take fewer steps",
                   context);
    // Half of what is left: products need memory, too.
    const int64_t left = context.ranks().agree(context.memory().available());
    const int64_t together =
        std::clamp<int64_t>(left / 2 / vector, 1, std::min(vectors, op.preferred_block()));
    const auto table = [&](int64_t columns) { return at::zeros({vectors, columns}, at::kDouble); };
    const int64_t fewer = std::max<int64_t>(1, 3 * steps / 4);
    result.nodes = table(steps), result.weights = table(steps);
    result.fewer_nodes = table(steps), result.fewer_weights = table(steps);
    result.ended = at::full({vectors}, false, at::kBool);
    double largest = 0;
    context.progress().begin("density of " + op.name(), vectors * steps, "products");
    for (int64_t begin = 0; begin < vectors; begin += together) {
      const int64_t count = std::min(together, vectors - begin);
      std::vector<Iteration> iterations;
      {
        const at::Tensor start =
            random_gaussian(options.seed, Stream::density, size, begin, count, op.dtype());
        for (int64_t i = 0; i < count; ++i) iterations.emplace_back(start.select(1, i), steps);
      }
      for (int64_t step = 0; step < steps; ++step) {
        std::vector<Iteration*> going;
        for (Iteration& iteration : iterations)
          if (!iteration.ended()) going.push_back(&iteration);
        if (going.empty()) break;
        const int64_t active = static_cast<int64_t>(going.size());
        at::Tensor block = empty_block(size, active, op.dtype());
        for (int64_t i = 0; i < active; ++i) block.select(1, i).copy_(going[i]->vector());
        context.check_cancelled();
        const at::Tensor products = op.apply(block);
        for (int64_t i = 0; i < active; ++i)
          going[i]->advance(products.select(1, i), op.product_error(), context);
        result.products += active;
        context.progress().advance(active);
      }
      for (int64_t i = 0; i < count; ++i) {
        const Iteration& iteration = iterations[i];
        const int64_t row = begin + i, m = iteration.steps();
        put(result.nodes, result.weights, row, iteration.quadrature(m));
        put(result.fewer_nodes, result.fewer_weights, row,
            iteration.quadrature(iteration.ended() ? m : std::min(m, fewer)));
        result.ended[row].fill_(iteration.ended());
        largest = std::max(largest, iteration.largest());
      }
    }
    context.progress().end();
    result.rounding = scale * std::max(op.product_error(), epsilon(op.dtype()) * largest);
  }
  result.parameters = size;
  result.beta = at::isComplexType(op.dtype()) ? 2 : 1;
  result.seconds = timer.seconds();
  return result;
}

}  // namespace seigh
