#include "seigh/curvature/autograd_curvature.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/interrupt.h"
#include "seigh/core/memory_pool.h"
#include "seigh/core/parallel.h"
#include "seigh/curvature/convolution.h"

namespace seigh {
namespace {

// Gradients of `outputs` (weighted by `weights`) with respect to `inputs`; undefined where they do not depend
// on one.
std::vector<at::Tensor> derivative(const std::vector<at::Tensor>& outputs,
                                   const std::vector<at::Tensor>& inputs,
                                   const std::vector<at::Tensor>& weights, bool create_graph = false) {
  return torch::autograd::grad(outputs, inputs, weights, /*retain_graph=*/true, create_graph,
                               /*allow_unused=*/true);
}

// Undefined derivatives are zero.
void assign(const at::Tensor& to, const at::Tensor& from) {
  from.defined() ? to.copy_(from) : to.zero_();
}

// Lets several workers add to the same columns, each column in the order of the mini-batches.
class Turns {
 public:
  explicit Turns(int64_t columns) : next_(static_cast<size_t>(columns)) {}

  // Waits until mini-batch `batch` may add to `column`; false when another worker has failed.
  bool await(int64_t column, int64_t batch) {
    std::atomic<int64_t>& next = next_[static_cast<size_t>(column)];
    for (int64_t seen = next.load(); seen != batch; seen = next.load()) {
      if (seen < 0) return false;
      next.wait(seen);
    }
    return true;
  }
  void pass(int64_t column, int64_t batch) {
    std::atomic<int64_t>& next = next_[static_cast<size_t>(column)];
    int64_t expected = batch;
    next.compare_exchange_strong(expected, batch + 1);  // unless cancelled meanwhile
    next.notify_all();
  }
  void cancel() {
    for (std::atomic<int64_t>& next : next_) {
      next.store(-1);
      next.notify_all();
    }
  }

 private:
  std::vector<std::atomic<int64_t>> next_;
};

}  // namespace

struct AutogradCurvatureOperator::Graph {
  std::vector<at::Tensor> leaves;     // of the subset, requiring gradients
  std::vector<at::Tensor> gradients;  // those of the loss that depend on the leaves; Gauss-Newton: J^T u
  std::vector<size_t> rows;           // which leaves they belong to
  at::Tensor outputs, u;              // Gauss-Newton kinds only
  at::Tensor targets;
  std::vector<at::Tensor> residuals;  // Fisher kinds: r, one per draw
};

AutogradCurvatureOperator::AutogradCurvatureOperator(const Model& model, const at::Tensor& parameters,
                                                     const std::vector<at::Tensor>& buffers,
                                                     const Dataset& data, const CurvatureOptions& options,
                                                     std::string name)
    : CurvatureOperator(model, parameters, data, options, std::move(name)),
      model_(model),
      parameters_(cast(parameters.detach())),
      data_{cast(data.x), cast(data.y), data.classes} {
  use_memory_pool();
  use_fast_convolution_derivatives();
  for (const at::Tensor& buffer : buffers) buffers_.push_back(cast(buffer));
  choose_sizes();
}

AutogradCurvatureOperator::~AutogradCurvatureOperator() = default;

std::vector<std::string> AutogradCurvatureOperator::notes() const {
  std::vector<std::string> all;
  if (const std::string why = memory_pool_obstacle(); !why.empty()) {
    all.push_back("no memory pool (" + why +
                  "): products may be several times slower, and a memory ceiling is "
                  "not kept");
  }
  if (const std::string why = convolution_derivatives_obstacle(parameters_.device()); !why.empty())
    all.push_back("convolutions by libtorch's own second derivatives (" + why + "): they may be slower");
  return all;
}

// All parameter tensors as views of one flat vector; those of the subset are leaves.
std::vector<at::Tensor> AutogradCurvatureOperator::leaves() const {
  std::vector<at::Tensor> all;
  for (const at::Tensor& piece : unflatten(model_.parameters(), parameters_)) all.push_back(piece.detach());
  for (const size_t i : subset_.tensors) all[i].requires_grad_(true);
  return all;
}

std::vector<at::Tensor> AutogradCurvatureOperator::chosen(const std::vector<at::Tensor>& all) const {
  std::vector<at::Tensor> some;
  for (const size_t i : subset_.tensors) some.push_back(all[i]);
  return some;
}

double AutogradCurvatureOperator::target_count() const {
  return static_cast<double>(seigh::target_count(data_.y));
}

int64_t AutogradCurvatureOperator::targets_per_sample() const {
  return seigh::target_count(data_.y.slice(0, 0, 1));
}

int64_t AutogradCurvatureOperator::end_of_batch(int64_t begin) const {
  return std::min(begin + options_.batch_size, data_.size());
}

int64_t AutogradCurvatureOperator::mini_batches() const {
  return (data_.size() + options_.batch_size - 1) / options_.batch_size;
}

at::Tensor AutogradCurvatureOperator::forward(const std::vector<at::Tensor>& leaves, int64_t begin,
                                              int64_t end) const {
  return model_.forward(leaves, buffers_, data_.x.slice(0, begin, end));
}

at::Tensor AutogradCurvatureOperator::mean_loss(const std::vector<at::Tensor>& leaves, int64_t begin,
                                                int64_t end, double targets) const {
  return loss_sum(options_.loss, forward(leaves, begin, end), data_.y.slice(0, begin, end)) / targets;
}

std::unique_ptr<AutogradCurvatureOperator::Graph> AutogradCurvatureOperator::build_graph(int64_t begin,
                                                                                         int64_t end) const {
  auto graph = std::make_unique<Graph>();
  const std::vector<at::Tensor> all = leaves();
  graph->leaves = chosen(all);
  graph->targets = data_.y.slice(0, begin, end);
  std::vector<at::Tensor> gradients;
  if (!gauss_newton()) {
    gradients =
        derivative({mean_loss(all, begin, end, target_count())}, graph->leaves, {}, /*create_graph=*/true);
  } else {
    graph->outputs = forward(all, begin, end);
    graph->u = at::zeros_like(graph->outputs).requires_grad_(true);
    gradients = derivative({graph->outputs}, graph->leaves, {graph->u}, /*create_graph=*/true);
    const auto residual = [&](const at::Tensor& labels) {
      return output_gradient(options_.loss, graph->outputs.detach(), labels);
    };
    if (options_.kind == CurvatureKind::empirical_fisher) graph->residuals = {residual(graph->targets)};
    if (options_.kind == CurvatureKind::mc_fisher) {
      for (int64_t draw = 0; draw < options_.draws; ++draw) {
        graph->residuals.push_back(residual(sampled_targets(options_.loss, graph->outputs, options_.seed,
                                                            draw, begin * targets_per_sample())));
      }
    }
  }
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined() || !gradients[i].requires_grad()) continue;
    graph->gradients.push_back(gradients[i]);
    graph->rows.push_back(i);
  }
  return graph;
}

// B J v, divided by the number of targets.
at::Tensor AutogradCurvatureOperator::between(const Graph& graph, const at::Tensor& jv) const {
  if (graph.residuals.empty()) {
    return output_hessian_product(options_.loss, graph.outputs.detach(), graph.targets, jv) / target_count();
  }
  at::Tensor sum = at::zeros_like(jv);
  for (const at::Tensor& r : graph.residuals) sum += r * (r * jv).sum(-1, /*keepdim=*/true);
  return sum / (target_count() * static_cast<double>(graph.residuals.size()));
}

std::vector<at::Tensor> AutogradCurvatureOperator::product(const Graph& graph,
                                                           const std::vector<at::Tensor>& v) const {
  if (graph.gradients.empty()) return std::vector<at::Tensor>(v.size());
  std::vector<at::Tensor> weights;
  for (const size_t i : graph.rows) weights.push_back(v[i]);
  if (!gauss_newton()) return derivative(graph.gradients, graph.leaves, weights);
  const at::Tensor jv = derivative(graph.gradients, {graph.u}, weights)[0];
  if (!jv.defined()) return std::vector<at::Tensor>(v.size());
  return derivative({graph.outputs}, graph.leaves, {between(graph, jv)});
}

// Bytes that a worker takes for one product with a mini-batch of so many samples.
int64_t AutogradCurvatureOperator::measure_peak(int64_t samples) const {
  const int64_t before = tensor_bytes();
  reset_peak_tensor_bytes();
  const auto graph = build_graph(0, samples);
  std::vector<at::Tensor> v;
  for (const at::Tensor& leaf : graph->leaves) v.push_back(at::zeros_like(leaf));
  product(*graph, v);
  return peak_tensor_bytes() - before;
}

void AutogradCurvatureOperator::choose_sizes() {
  const int64_t samples = data_.size();
  const int64_t most = parameters_.is_cpu() ? threads() : 1;
  const int64_t budget = std::max<int64_t>(available_memory() - options_.reserve, 0);
  // A block is held three times: vectors, products and what the caller makes of them.
  const int64_t vector_bytes = 3 * size() * static_cast<int64_t>(c10::elementSize(dtype()));
  preferred_block_ = std::clamp<int64_t>(budget / 4 / vector_bytes, 1, 32);
  if (options_.batch_size > 0) {
    options_.batch_size = std::min(options_.batch_size, samples);
    workers_ = static_cast<int>(std::min(most, mini_batches()));
  } else if (peak_tensor_bytes() == 0) {  // no pool: nothing is known of memory
    workers_ = static_cast<int>(std::min(most, samples));
    options_.batch_size = std::min<int64_t>((samples + workers_ - 1) / workers_, 64);
  } else {
    // A worker takes fixed + per_sample * batch_size bytes.
    const int64_t few = std::min<int64_t>(samples, 2), more = std::min<int64_t>(samples, 8);
    const int64_t small = measure_peak(few), large = measure_peak(more);
    const int64_t per_sample = more > few ? std::max<int64_t>((large - small) / (more - few), 1) : large;
    const int64_t fixed = more > few ? std::max<int64_t>(small - few * per_sample, 0) : 0;
    // A tenth is left for what differs between mini-batches and for pieces too small to be of use.
    const int64_t blocks = vector_bytes * preferred_block_, spare = (budget - blocks) / 10 * 9;
    const auto fitting = [&](int64_t workers) { return (spare / workers - fixed) / per_sample; };
    workers_ = static_cast<int>(std::min(most, samples));
    while (workers_ > 1 && fitting(workers_) < 1) --workers_;
    require(fitting(workers_) >= 1, name(), ": ", format_bytes(budget),
            " of memory are too little for one sample, which takes ",
            format_bytes((fixed + per_sample) / 9 * 10 + blocks),
            "; raise the ceiling (--memory), or lower k or the block");
    constexpr int64_t kEnough = int64_t{512} << 20;  // larger mini-batches were measured no faster
    const int64_t useful = std::max<int64_t>(kEnough / per_sample, 8);
    const int64_t most_samples = std::min({fitting(workers_), useful, (samples + workers_ - 1) / workers_});
    // Equal shares, and as many for each worker.
    const int64_t rounds = (samples + most_samples * workers_ - 1) / (most_samples * workers_);
    options_.batch_size = (samples + rounds * workers_ - 1) / (rounds * workers_);
    keep_graphs_ = mini_batches() * fixed + samples * per_sample <= spare;
  }
  graphs_.resize(static_cast<size_t>(mini_batches()));
}

double AutogradCurvatureOperator::loss() {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> all = unflatten(model_.parameters(), parameters_);
  double sum = 0;
  for (int64_t begin = 0; begin < data_.size(); begin += options_.batch_size) {
    sum += mean_loss(all, begin, end_of_batch(begin), target_count()).item<double>();
  }
  const at::Tensor theta = subset_.gather(model_.parameters(), parameters_);
  return sum + (options_.l2 > 0 ? options_.l2 / 2 * theta.square().sum(at::kDouble).item<double>() : 0);
}

at::Tensor AutogradCurvatureOperator::gradient() {
  const at::Tensor theta = subset_.gather(model_.parameters(), parameters_);
  at::Tensor sum = theta * options_.l2;
  const std::vector<at::Tensor> parts = unflatten(subset_.specs, sum);
  for (int64_t begin = 0; begin < data_.size(); begin += options_.batch_size) {
    check_interrupt();
    const int64_t end = end_of_batch(begin);
    const std::vector<at::Tensor> all = leaves();
    const std::vector<at::Tensor> g =
        derivative({mean_loss(all, begin, end, target_count())}, chosen(all), {});
    for (size_t i = 0; i < g.size(); ++i) {
      if (g[i].defined()) parts[i].add_(g[i]);
    }
  }
  return sum;
}

at::Tensor AutogradCurvatureOperator::per_sample_gradients(int64_t begin, int64_t count) {
  require(0 <= begin && 0 <= count && begin + count <= data_.size(), name(), ": samples ", begin, " to ",
          begin + count, " are not within 0 to ", data_.size());
  at::Tensor block = empty_block(size(), count, dtype());
  std::atomic<int64_t> next = 0;
  run_workers(std::min<int>(workers_, static_cast<int>(std::max<int64_t>(count, 1))), [&](int) {
    for (int64_t i = next++; i < count; i = next++) {
      check_interrupt();
      const std::vector<at::Tensor> all = leaves();
      const at::Tensor loss =
          mean_loss(all, begin + i, begin + i + 1, static_cast<double>(targets_per_sample()));
      const std::vector<at::Tensor> g = derivative({loss}, chosen(all), {});
      const std::vector<at::Tensor> column = unflatten(subset_.specs, block.select(1, i));
      for (size_t p = 0; p < g.size(); ++p) {
        assign(column[p], g[p]);
      }
    }
  });
  return block;
}

at::Tensor AutogradCurvatureOperator::apply_impl(const at::Tensor& block) {
  const at::Tensor vectors = as_block(block);
  const int64_t columns = block.size(1), batches = mini_batches();
  at::Tensor result = empty_block(size(), columns, dtype());
  Turns turns(columns);
  std::atomic<int64_t> next = 0;
  run_workers(workers_, [&](int) {
    try {
      for (int64_t batch = next++; batch < batches; batch = next++) {
        std::unique_ptr<Graph>& kept = graphs_[static_cast<size_t>(batch)];
        const int64_t begin = batch * options_.batch_size;
        std::unique_ptr<Graph> fresh;
        if (!kept) fresh = build_graph(begin, end_of_batch(begin));
        if (keep_graphs_ && !kept) kept = std::move(fresh);
        const Graph& graph = kept ? *kept : *fresh;
        for (int64_t j = 0; j < columns; ++j) {
          check_interrupt();
          const std::vector<at::Tensor> p = product(graph, unflatten(subset_.specs, vectors.select(1, j)));
          if (!turns.await(j, batch)) return;
          const std::vector<at::Tensor> sum = unflatten(subset_.specs, result.select(1, j));
          for (size_t i = 0; i < p.size(); ++i) {
            if (batch == 0) {
              assign(sum[i], p[i]);
            } else if (p[i].defined()) {
              sum[i].add_(p[i]);
            }
          }
          turns.pass(j, batch);
        }
      }
    } catch (...) {
      turns.cancel();
      throw;
    }
  });
  if (options_.l2 > 0) result.add_(vectors, options_.l2);
  return result;
}

}  // namespace seigh
