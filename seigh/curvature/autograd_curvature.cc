#include "seigh/curvature/autograd_curvature.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>
#include <torch/autograd.h>
#include <torch/csrc/autograd/anomaly_mode.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/full_precision.h"
#include "seigh/core/printable.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/curvature/batched_derivatives.h"
#include "seigh/curvature/model_source.h"
#include "seigh/curvature/replaced_kernels.h"
#include "seigh/curvature/replayed.h"

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

// Undefined derivatives are zero; those of sparse embeddings are sparse.
void add_to(const at::Tensor& to, const at::Tensor& from) {
  if (from.defined()) to.add_(from.is_sparse() ? from.to_dense() : from);
}
void assign(const at::Tensor& to, const at::Tensor& from) {
  if (from.defined() && !from.is_sparse()) {
    to.copy_(from);
  } else {
    add_to(to.zero_(), from);
  }
}

void add_each(const std::vector<at::Tensor>& to, const std::vector<at::Tensor>& from) {
  for (size_t i = 0; i < from.size(); ++i) add_to(to[i], from[i]);
}

// Until a device has made them.
void wait_for(const std::vector<at::Tensor>& products) {
  const auto made =
      std::find_if(products.begin(), products.end(), [](const at::Tensor& p) { return p.defined(); });
  if (made != products.end()) made->sum().item<double>();
}

bool all_finite(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& t) {
    return !t.defined() || (t.is_sparse() ? t.to_dense() : t).isfinite().all().item<bool>();
  });
}

// Which operation's derivative is the first that is NaN, where `differentiate` meets one: " (operation)".
template <typename F>
std::string culprit(const F& differentiate) {
  struct Quiet final : c10::WarningHandler {
    void process(const c10::Warning&) override {}
  } quiet;
  const c10::WarningUtils::WarningHandlerGuard no_warnings(&quiet);
  try {
    const torch::autograd::DetectAnomalyGuard detect(/*check_nan=*/true);
    differentiate();
  } catch (const std::exception& error) {
    const std::string text = error.what();  // Function 'SqrtBackward0' returned nan values ...
    const size_t begin = text.find('\''), end = text.find("Backward", begin);
    if (begin != std::string::npos && end != std::string::npos)
      return ", first in that of the operation " + text.substr(begin + 1, end - begin - 1);
  }
  return "";
}

// While one lives, cuDNN tries its kernels for every new shape and keeps the fastest, unless libtorch is to
// be deterministic. What it has met without one keeps the kernel it was given, up to eight times as slow.
class FastestKernels {
 public:
  explicit FastestKernels(c10::Device device)
      : active_(device.is_cuda() && !at::globalContext().deterministicAlgorithms()) {
    if (active_) count(1);
  }
  ~FastestKernels() {
    if (active_) count(-1);
  }
  FastestKernels(const FastestKernels&) = delete;
  FastestKernels& operator=(const FastestKernels&) = delete;

 private:
  static void count(int by) {
    static std::mutex mutex;
    static int users = 0;
    static bool before = false;
    const std::lock_guard lock(mutex);
    if (users == 0) before = at::globalContext().benchmarkCuDNN();
    users += by;
    at::globalContext().setBenchmarkCuDNN(users > 0 || before);
  }
  bool active_;
};

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

// What is chosen by memory and time.
struct AutogradCurvatureOperator::Sizes {
  int64_t batch_size;
  int workers;
  bool keep_graphs, divide_vectors;
  int64_t preferred_block, at_once;
};

struct AutogradCurvatureOperator::Graph {
  int64_t begin = 0, end = 0;         // its samples
  std::vector<at::Tensor> leaves;     // of the subset, requiring gradients
  std::vector<at::Tensor> gradients;  // those of the loss that depend on the leaves; Gauss-Newton: J^T u
  std::vector<size_t> rows;           // which leaves they belong to
  at::Tensor outputs, u;              // Gauss-Newton kinds only
  std::vector<at::Tensor> residuals;  // Fisher kinds: r, one per draw
};

class AutogradCurvatureOperator::InFullPrecision final : public LinearOperator {
 public:
  explicit InFullPrecision(AutogradCurvatureOperator& op)
      : LinearOperator(op.size(), op.dtype(), op.name()), op_(op) {}
  c10::Device device() const override { return op_.device(); }
  int64_t preferred_block() const override { return op_.preferred_block(); }
  double product_error() const override { return op_.full_products().error; }
  at::Tensor known_products(uint64_t seed) const override { return op_.known(op_.full_products(), seed); }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override {
    return op_.apply_rounded(block, Precision::float32);
  }
  void explain_not_finite(const at::Tensor& vector) const override { op_.explain_not_finite(vector); }

 private:
  AutogradCurvatureOperator& op_;
};

AutogradCurvatureOperator::AutogradCurvatureOperator(std::shared_ptr<const GraphSource> source,
                                                     const CurvatureOptions& options, std::string name,
                                                     const Context& context)
    : CurvatureOperator(source->parameters(),
                        options.products == Products::difference ? options.dtype : source->dtype(), options,
                        std::move(name), context),
      source_(std::move(source)),
      device_(source_->leaves().front().device()) {
  if (!device_.is_cpu()) device_memory_.emplace(device_, context_.device_memory());
  require(source_->supports(options_.kind), this->name(), ": ", to_string(options_.kind),
          " is no matrix of this network and loss");
  if (source_->dtype() != at::kFloat || by_differences() ||
      (options_.precision == Precision::tf32 && device_.is_cpu()))
    options_.precision = Precision::float32;
  require(options_.precision != Precision::bf16 || Autocast::exists(device_), this->name(),
          ": precision = \"bf16\": this libtorch has no autocast on ", device_, "; use \"float32\"");
  rounding_ = options_.precision;
  if (rounding_ != Precision::float32) full_ = std::make_unique<InFullPrecision>(*this);
  const Context::Scope scope(context_);
  const FullPrecision full(device_);
  if (const at::Tensor fixed = source_->fixed(); fixed.defined()) {
    at::Tensor marks = at::zeros({select_parameters(source_->parameters(), {}).count}, at::kBool);
    marks.index_fill_(0, fixed, true);
    fixed_ = subset_.gather(source_->parameters(), marks).nonzero().squeeze(1).to(device_);
  }
  if (by_differences()) {
    require(source_->dtype() == at::kDouble, this->name(),
            ": products by differences need a network in float64");
    scale_ = std::max(theta().norm().item<double>(), std::sqrt(static_cast<double>(size())) / 100);
  }
  const long attentions = ReplacedKernels::attention_count();
  choose_sizes();
  fused_attention_ = ReplacedKernels::attention_count() > attentions;
  if (fused_attention_) compare_kernels();
  consider_replay();
}

AutogradCurvatureOperator::AutogradCurvatureOperator(const Model& model, const at::Tensor& parameters,
                                                     const std::vector<at::Tensor>& buffers,
                                                     const Dataset& data, const CurvatureOptions& options,
                                                     const std::string& name, const Context& context)
    : AutogradCurvatureOperator(
          [&]() -> std::shared_ptr<const GraphSource> {
            options.validate();
            const Context::Scope scope(context);
            return std::make_shared<ModelSource>(model, parameters, buffers, data, options.loss,
                                                 options.dtype, name);
          }(),
          options, name, context) {}

AutogradCurvatureOperator::~AutogradCurvatureOperator() = default;

// What was put in the place of libtorch's kernels must give the same loss as they do.
void AutogradCurvatureOperator::compare_kernels() const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> all = source_->leaves();
  const int64_t end = source_->batches().empty() ? std::min<int64_t>(source_->samples(), 4) : end_of(0);
  const auto loss = [&] { return source_->loss(all, 0, end).item<double>(); };
  const double theirs = loss(), ours = [&] {
    const ReplacedKernels replaced;
    return loss();
  }();
  const double same = source_->dtype() == at::kDouble ? 1e-6 : 1e-3;  // lower precision within the network
  require(!(std::abs(ours - theirs) > same * std::abs(theirs)), name(), ": the loss of the first samples is ",
          theirs, " with libtorch's fused attention and ", ours,
          " with its mathematical kernel, which has second derivatives; write the attention out in matrix "
          "products");
}

std::vector<std::string> AutogradCurvatureOperator::notes() const {
  std::vector<std::string> all = CurvatureOperator::notes();
  for (std::string& note : source_->notes()) all.push_back(std::move(note));
  if (const std::string why = context_.memory().obstacle(); !why.empty() && device_.is_cpu()) {
    all.push_back(text_of("no memory pool (", why,
                          "): products may be several times slower, and a memory ceiling is not kept"));
  }
  if (device_memory_ && !device_memory_->obstacle().empty())
    all.push_back(text_of(device_memory_->obstacle(), ": mini-batches are not cut to it"));
  if (made_smaller_) all.push_back(text_of(way(), ": ", device_, " ran out of memory with more"));
  if (!why_not_at_once_.empty())
    all.push_back(text_of("vectors are multiplied one by one, not a block at once: ", why_not_at_once_));
  if (!why_not_replayed_.empty())
    all.push_back(text_of(replayed_one_ ? "blocks of vectors" : "products",
                          " are launched, not replayed: ", why_not_replayed_));
  if (fused_attention_)
    all.emplace_back("attention by the mathematical kernel: the fused one has no second derivative");
  return all;
}

std::string AutogradCurvatureOperator::way() const {
  if (by_differences()) return "differences";
  if (at_once_ == 0)
    return text_of("graph, mini-batches of ", options_.batch_size, replayed_one_ ? ", replayed" : "");
  return text_of("batched: ", at_once_, " vectors, mini-batches of ", options_.batch_size,
                 replayed_block_ ? ", replayed" : "", replayed_one_ ? ", single vectors replayed" : "");
}

// Those of the subset require gradients. A tensor's gradients are added up on the stream on which they were
// first asked for: what is recorded has tensors of its own, of the same memory.
std::vector<at::Tensor> AutogradCurvatureOperator::leaves() const {
  std::vector<at::Tensor> all = source_->leaves();
  if (recording_)
    for (at::Tensor& leaf : all) leaf = leaf.detach();
  for (const size_t i : subset_.tensors) all[i].requires_grad_(true);
  return all;
}

std::vector<at::Tensor> AutogradCurvatureOperator::chosen(const std::vector<at::Tensor>& all) const {
  std::vector<at::Tensor> some;
  for (const size_t i : subset_.tensors) some.push_back(all[i]);
  return some;
}

at::Tensor AutogradCurvatureOperator::theta() const {
  const at::NoGradGuard no_grad;
  return flatten(chosen(source_->leaves())).detach();
}

double AutogradCurvatureOperator::target_count() const {
  return static_cast<double>(source_->targets(0, source_->samples()));
}

void AutogradCurvatureOperator::cut(int64_t batch_size) {
  begins_.clear();
  for (int64_t begin = 0; begin < source_->samples(); begin += batch_size) begins_.push_back(begin);
}

// Into as many as it takes of at most so many samples.
void AutogradCurvatureOperator::cut_evenly(int64_t most) {
  const int64_t samples = source_->samples(), rounds = (samples + most - 1) / most;
  options_.batch_size = (samples + rounds - 1) / rounds;
  cut(options_.batch_size);
}

int64_t AutogradCurvatureOperator::end_of(int64_t batch) const {
  return batch + 1 < mini_batches() ? begin_of(batch + 1) : source_->samples();
}

at::Tensor AutogradCurvatureOperator::mean_loss(const std::vector<at::Tensor>& leaves, int64_t begin,
                                                int64_t end, double targets) const {
  return source_->loss(leaves, begin, end).to(source_->dtype()) / targets;
}

// These two are what products are made from: in their precision.
at::Tensor AutogradCurvatureOperator::loss_of(const std::vector<at::Tensor>& leaves, int64_t begin,
                                              int64_t end, double targets) const {
  const Autocast lower(device_, lowered());
  return mean_loss(leaves, begin, end, targets);
}

at::Tensor AutogradCurvatureOperator::outputs_of(const std::vector<at::Tensor>& leaves, int64_t begin,
                                                 int64_t end) const {
  const Autocast lower(device_, lowered());
  return source_->outputs(leaves, begin, end).to(source_->dtype());
}

LinearOperator& AutogradCurvatureOperator::in_full_precision() {
  return full_ ? *full_ : *this;
}

// Kept graphs are of the precision before.
void AutogradCurvatureOperator::round_to(Precision precision) {
  if (precision == rounding_) return;
  rounding_ = precision;
  forget_graphs();
}

void AutogradCurvatureOperator::forget_graphs() {
  graphs_.clear();
  graphs_.resize(static_cast<size_t>(mini_batches()));
  whole_graphs_.clear();
}

std::unique_ptr<AutogradCurvatureOperator::Graph> AutogradCurvatureOperator::build_graph(int64_t begin,
                                                                                         int64_t end) const {
  std::unique_lock<std::mutex> alone;
  if (!source_->concurrent()) alone = std::unique_lock(building_);
  auto graph = std::make_unique<Graph>();
  const std::vector<at::Tensor> all = leaves();
  graph->begin = begin;
  graph->end = end;
  graph->leaves = chosen(all);
  std::vector<at::Tensor> gradients;
  if (!gauss_newton() && by_differences()) return graph;
  if (!gauss_newton()) {
    gradients =
        derivative({loss_of(all, begin, end, target_count())}, graph->leaves, {}, /*create_graph=*/true);
  } else {
    build_outputs(*graph, all);
    if (!by_differences()) {
      graph->u = at::zeros_like(graph->outputs).requires_grad_(true);
      gradients = derivative({graph->outputs}, graph->leaves, {graph->u}, /*create_graph=*/true);
    }
  }
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined() || !gradients[i].requires_grad()) continue;
    graph->gradients.push_back(gradients[i]);
    graph->rows.push_back(i);
  }
  return graph;
}

// Of Gauss-Newton kinds.
void AutogradCurvatureOperator::build_outputs(Graph& graph, const std::vector<at::Tensor>& all) const {
  graph.outputs = outputs_of(all, graph.begin, graph.end);
  at::Tensor outputs = graph.outputs.detach();
  if (options_.kind == CurvatureKind::mc_fisher && lowered()) {  // rounding must not decide what is drawn
    const at::NoGradGuard no_grad;
    outputs = source_->outputs(all, graph.begin, graph.end);
  }
  if (options_.kind == CurvatureKind::empirical_fisher)
    graph.residuals = {source_->output_gradient(outputs, graph.begin, graph.end)};
  if (options_.kind == CurvatureKind::mc_fisher) {
    for (int64_t draw = 0; draw < options_.draws; ++draw)
      graph.residuals.push_back(
          source_->sampled_output_gradient(outputs, graph.begin, graph.end, options_.seed, draw));
  }
}

// B J v, divided by the number of targets.
at::Tensor AutogradCurvatureOperator::between(const Graph& graph, const at::Tensor& jv) const {
  if (graph.residuals.empty() && by_differences()) {
    const at::Tensor f = graph.outputs.detach();
    const double length = jv.norm().item<double>();
    if (length == 0) return at::zeros_like(jv);
    const double h =
        step_ * std::max(f.norm().item<double>(), std::sqrt(static_cast<double>(f.numel()))) / length;
    return (source_->output_gradient(f + h * jv, graph.begin, graph.end) -
            source_->output_gradient(f - h * jv, graph.begin, graph.end)) /
           (2 * h * target_count());
  }
  if (graph.residuals.empty()) {
    return source_->output_hessian_product(graph.outputs.detach(), graph.begin, graph.end, jv) /
           target_count();
  }
  at::Tensor sum = at::zeros_like(jv);
  for (const at::Tensor& r : graph.residuals) sum += r * (r * jv).sum(-1, /*keepdim=*/true);
  return sum / (target_count() * static_cast<double>(graph.residuals.size()));
}

std::vector<at::Tensor> AutogradCurvatureOperator::product(const Graph& graph,
                                                           const std::vector<at::Tensor>& v) const {
  if (by_differences()) return difference(graph, v);
  if (graph.gradients.empty()) return std::vector<at::Tensor>(v.size());
  std::vector<at::Tensor> weights;
  for (const size_t i : graph.rows) weights.push_back(v[i]);
  if (!gauss_newton()) return derivative(graph.gradients, graph.leaves, weights);
  const at::Tensor jv = derivative(graph.gradients, {graph.u}, weights)[0];
  if (!jv.defined()) return std::vector<at::Tensor>(v.size());
  return derivative({graph.outputs}, graph.leaves, {between(graph, jv)});
}

// Of slices [b, shape of the outputs]. A loss of the user's own may take gradients, which batches do not let
// it.
at::Tensor AutogradCurvatureOperator::between_at_once(const Graph& graph, const at::Tensor& jv) {
  if (loss_by_slices_) {
    try {
      return for_each_slice([&](const at::Tensor& slice) { return TensorList{between(graph, slice)}; },
                            jv)[0];
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const Cancelled&) {
      throw;
    } catch (const std::exception&) {
      loss_by_slices_ = false;
    }
  }
  TensorList all;
  for (const at::Tensor& slice : jv.unbind(0)) all.push_back(between(graph, slice));
  return at::stack(all);
}

// Of vectors [b, shape]. What is asked of the source itself is asked outside of the layers that see batches.
std::vector<at::Tensor> AutogradCurvatureOperator::products_at_once(int64_t begin, int64_t end,
                                                                    const std::vector<at::Tensor>& v) {
  const ReplacedKernels replaced(ReplacedKernels::Which::transparent);
  std::vector<at::Tensor> all = source_->leaves();
  for (at::Tensor& leaf : all) leaf = leaf.detach();  // the layers take gradients of their own
  const auto with = [&](const TensorList& some) {
    TensorList full = all;
    for (size_t i = 0; i < some.size(); ++i) full[subset_.tensors[i]] = some[i];
    return full;
  };
  const double targets = target_count();
  source_->prepare(begin, end);
  const TensorList x = chosen(all);
  if (!gauss_newton()) {
    const auto loss = [&](const TensorList& at) { return loss_of(with(at), begin, end, targets); };
    try {
      return gradients_along(loss, x, v, differentiable_);
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const c10::Error&) {
      if (differentiable_) throw;
    }
    TensorList products = gradients_along(loss, x, v, true);
    differentiable_ = true;  // from now on
    return products;
  }
  const at::Tensor jv =
      values_along([&](const TensorList& at) { return outputs_of(with(at), begin, end); }, x, v);
  if (!jv.defined()) return std::vector<at::Tensor>(v.size());
  Graph graph;
  graph.begin = begin;
  graph.end = end;
  const std::vector<at::Tensor> differentiable = leaves();
  graph.leaves = chosen(differentiable);
  build_outputs(graph, differentiable);
  return for_each_slice([&](const at::Tensor& u) { return derivative({graph.outputs}, graph.leaves, {u}); },
                        between_at_once(graph, jv));
}

std::vector<at::Tensor> AutogradCurvatureOperator::difference(const Graph& graph,
                                                              const std::vector<at::Tensor>& v) const {
  double square = 0;
  for (const at::Tensor& piece : v) square += piece.square().sum().item<double>();
  if (square == 0) return std::vector<at::Tensor>(v.size());
  const double h = step_ * scale_ / std::sqrt(square);  // by which v is multiplied
  const auto shifted = [&](double by) {
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> all = source_->leaves();
    for (size_t i = 0; i < v.size(); ++i)
      all[subset_.tensors[i]] = (all[subset_.tensors[i]] + by * v[i]).detach();
    return all;
  };
  if (gauss_newton()) {
    at::Tensor jv;
    {
      const at::NoGradGuard no_grad;
      jv = (source_->outputs(shifted(h), graph.begin, graph.end) -
            source_->outputs(shifted(-h), graph.begin, graph.end)) /
           (2 * h);
    }
    return derivative({graph.outputs}, graph.leaves, {between(graph, jv)});
  }
  const auto gradient = [&](double by) {
    std::vector<at::Tensor> all = shifted(by);
    for (const size_t i : subset_.tensors) all[i].requires_grad_(true);
    return derivative({mean_loss(all, graph.begin, graph.end, target_count())}, chosen(all), {});
  };
  const std::vector<at::Tensor> above = gradient(h), below = gradient(-h);
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < v.size(); ++i) {
    const at::Tensor sum = at::zeros_like(v[i]);
    add_to(sum, above[i]);
    sum.neg_();
    add_to(sum, below[i]);
    result.push_back(sum.div_(-2 * h));
  }
  return result;
}

double AutogradCurvatureOperator::choose_step(const at::Tensor& vector) {
  const double length = vector.norm().item<double>();
  at::Tensor before;
  double least = 0, best = 0;
  for (const double step : {1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10}) {
    step_ = step;
    at::Tensor now;
    try {
      now = apply(vector.unsqueeze(1));
    } catch (const Error&) {  // so far away the network may not be defined
      if (step > 1e-10) continue;
      throw;
    }
    if (before.defined()) {
      const double change = (now - before).norm().item<double>() / length;
      if (best == 0 || change < least) {
        least = change;
        best = step * std::sqrt(10);  // between the two
      }
    }
    before = now;
  }
  step_ = best > 0 ? best : step_;
  return least;
}

// Says of which sample, and of what.
void AutogradCurvatureOperator::explain_not_finite(const at::Tensor& vector) const {
  const Context::Scope scope(context_);
  const FullPrecision full(device_);
  const ReplacedKernels replaced;
  const std::vector<at::Tensor> v =
      unflatten(subset_.specs, vector.to(device_, source_->dtype()).contiguous());
  const auto multiply = [&](int64_t begin, int64_t end) { return product(*build_graph(begin, end), v); };
  for (int64_t batch = 0; batch < mini_batches(); ++batch) {
    int64_t begin = begin_of(batch), end = end_of(batch);
    if (all_finite(multiply(begin, end))) continue;
    while (end - begin > 1 && source_->batches().empty()) {
      context_.check_cancelled();
      const int64_t middle = begin + (end - begin) / 2;
      if (all_finite(multiply(begin, middle))) {
        begin = middle;
      } else {
        end = middle;
      }
    }
    const std::vector<at::Tensor> all = leaves();
    const at::Tensor value = mean_loss(all, begin, end, 1);
    const auto differentiate = [&] { return derivative({value}, chosen(all), {}); };
    const std::string which = end - begin > 1 ? text_of("samples ", source_->sample_number(begin), " to ",
                                                        source_->sample_number(end - 1))
                                              : text_of("sample ", source_->sample_number(begin));
    require(value.isfinite().item<bool>(), name(), ": the loss of ", which, " is ", value.item<double>(),
            "; look at this sample's outputs and targets");
    const char* const how = "; write the operation so that it is smooth there, or leave the sample out";
    require(all_finite(differentiate()), name(), ": the gradient of the loss of ", which, " is not finite",
            culprit(differentiate), how);
    fail(name(), ": the second derivative of the loss of ", which, " is not finite",
         culprit([&] { multiply(begin, end); }), how);
  }
  fail(name(), ": a product is too large for ", dtype(), "; use eigh.dtype = \"float64\"");
}

int64_t AutogradCurvatureOperator::available() const {
  if (device_memory_) return device_memory_->available();
  return std::max<int64_t>(context_.memory().available() - options_.reserve, 0);
}

// Why nothing is known of memory; empty where it is.
std::string AutogradCurvatureOperator::obstacle() const {
  return device_memory_ ? device_memory_->obstacle() : context_.memory().obstacle();
}

void AutogradCurvatureOperator::throw_memory_error(const std::string& what, const c10::Error& error) const {
  throw MemoryError(text_of(name(), ": too little memory on ", device_, " for ", what, ": ",
                            first_line(error.what_without_backtrace())));
}

// Bytes that work() takes.
template <typename Work>
int64_t AutogradCurvatureOperator::peak_of(const std::string& what, const Work& work) {
  const auto taken = [&](auto& memory) {
    const int64_t before = memory.held();
    memory.reset_peak();
    work();
    return memory.peak() - before;
  };
  if (device_memory_) {
    try {
      return taken(*device_memory_);
    } catch (const c10::OutOfMemoryError& error) {
      throw_memory_error(what, error);
    }
  }
  const int64_t bytes = taken(context_.memory());
  context_.memory().recount();  // of what libraries have taken outside the pool meanwhile
  return bytes;
}

// The same where products in full precision are to fit as well: casts may take more than they save.
template <typename Work>
int64_t AutogradCurvatureOperator::peak_in_any_precision(const std::string& what, const Work& work) {
  int64_t bytes = peak_of(what, work);
  if (lowered()) {
    round_to(Precision::float32);
    bytes = std::max(bytes, peak_of(what, work));
    round_to(options_.precision);
  }
  return bytes;
}

// Bytes that a worker takes for one product with these samples.
int64_t AutogradCurvatureOperator::measure_peak(int64_t begin, int64_t end) {
  return peak_in_any_precision(end - begin == 1 ? "one sample" : text_of(end - begin, " samples"), [&] {
    const auto graph = build_graph(begin, end);
    std::vector<at::Tensor> v;
    for (const at::Tensor& leaf : graph->leaves) v.push_back(at::zeros_like(leaf));
    product(*graph, v);
  });
}

// So many, or the largest batch where they cannot be cut.
AutogradCurvatureOperator::Samples AutogradCurvatureOperator::some_samples(int64_t count) const {
  if (source_->batches().empty()) return {0, std::min(count, source_->samples())};
  int64_t largest = 0;
  for (int64_t batch = 1; batch < mini_batches(); ++batch)
    if (end_of(batch) - begin_of(batch) > end_of(largest) - begin_of(largest)) largest = batch;
  return {begin_of(largest), end_of(largest)};
}

int64_t AutogradCurvatureOperator::measure_peak_at_once(Samples samples, int64_t vectors) {
  const at::Tensor v = empty_block(size(), vectors, source_->dtype(), device_).zero_();
  const auto multiply = [&] { products_at_once(samples.begin, samples.end, slices(v)); };
  const std::string what = text_of(vectors, " vectors and ", samples.end - samples.begin, " samples");
  if (device_memory_) peak_of(what, multiply);  // what libraries try out once
  return peak_in_any_precision(what, multiply);
}

// Of one vector and sample.
double AutogradCurvatureOperator::seconds_by_graph(Samples samples) {
  const ReplacedKernels replaced;
  const auto graph = build_graph(samples.begin, samples.end);
  const std::vector<at::Tensor> v = unflatten(subset_.specs, at::ones({size()}, graph->leaves[0].options()));
  const auto multiply = [&] { wait_for(product(*graph, v)); };
  multiply();
  const Timer timer;
  multiply();
  return timer.seconds() / static_cast<double>(samples.end - samples.begin);
}

// One of those that are chosen, the second time: what libraries try out once is not in it.
AutogradCurvatureOperator::Trial AutogradCurvatureOperator::try_at_once() {
  const Samples samples = some_samples(options_.batch_size);
  const at::Tensor v = empty_block(size(), at_once_, source_->dtype(), device_).fill_(1);
  const auto multiply = [&] { wait_for(products_at_once(samples.begin, samples.end, slices(v))); };
  multiply();
  Trial trial{0, 0};
  trial.bytes = peak_of(way(), [&] {
    const Timer timer;
    multiply();
    trial.seconds = timer.seconds();
  });
  at_once_seconds_ = trial.seconds * static_cast<double>(mini_batches());
  return trial;
}

// Whether to multiply vectors at once. On the CPU the graph is faster, with kernels of our own.
void AutogradCurvatureOperator::consider_at_once() {
  const bool asked = options_.products == Products::batched;
  if (!asked && (device_.is_cpu() || by_differences() || options_.products == Products::graph)) return;
  const Sizes before = sizes();
  const auto one_by_one = [&](std::string why) {
    take(before);
    why_not_at_once_ = std::move(why);
  };
  try {
    choose_at_once();
    compare_ways();
    const Tf32 coarsely(device_, rounding_ == Precision::tf32);
    const auto vector_bytes = size() * static_cast<int64_t>(c10::elementSize(source_->dtype()));
    Trial trial = try_at_once();
    // Small batches tell of large ones from below.
    while (obstacle().empty() && trial.bytes > available() - 3 * at_once_ * vector_bytes) {
      require(shrink(true), "too little memory for a vector and a sample");
      if (device_memory_) device_memory_->release();
      trial = try_at_once();
    }
    if (asked || at::globalContext().deterministicAlgorithms()) return;
    if (device_memory_) device_memory_->release();
    const Samples samples = some_samples(options_.batch_size);
    const double graph = seconds_by_graph(some_samples(before.batch_size)),
                 each = trial.seconds / static_cast<double>((samples.end - samples.begin) * at_once_);
    vector_seconds_ = std::min(graph, each) * static_cast<double>(source_->samples());
    if (!(each < graph)) {
      one_by_one("");
    } else if (source_->batches().empty()) {  // between them Ctrl-C is heard
      constexpr double kSoon = 0.7;
      const auto n = static_cast<int64_t>(kSoon / (each * static_cast<double>(at_once_)));
      if (n < options_.batch_size) cut_evenly(std::max<int64_t>(n, 1));
    }
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception& error) {
    if (asked) throw;
    one_by_one(first_line(error.what()));
  }
  if (device_memory_) device_memory_->release();
}

// The layers see parameters that the network is given; what reaches the loss past them (a penalty over
// model.parameters(), a tensor taken from them before, no_grad) they do not.
void AutogradCurvatureOperator::compare_ways() {
  round_to(Precision::float32);  // otherwise each way loses other digits
  const Samples few = some_samples(4);
  const at::Tensor v =
      random_gaussian(options_.seed, Stream::check, size(), 0, 2, source_->dtype()).to(device_);
  if (fixed_.defined()) v.index_fill_(0, fixed_, 0);
  const at::Tensor by_graph = at::zeros_like(v), at_once = at::zeros_like(v);
  {
    const ReplacedKernels replaced;
    const auto graph = build_graph(few.begin, few.end);
    for (int64_t j = 0; j < v.size(1); ++j)
      add_each(unflatten(subset_.specs, by_graph.select(1, j)),
               product(*graph, unflatten(subset_.specs, v.select(1, j))));
  }
  add_each(slices(at_once), products_at_once(few.begin, few.end, slices(v)));
  if (fixed_.defined()) {
    by_graph.index_fill_(0, fixed_, 0);
    at_once.index_fill_(0, fixed_, 0);
  }
  round_to(options_.precision);
  constexpr double same = 0.01;  // rounding, where terms cancel too; a part of the loss that is lost is more
  const double off = (at_once - by_graph).norm(2, at::kDouble).item<double>(),
               length = by_graph.norm(2, at::kDouble).item<double>();
  require(off <= same * length, name(),
          ": products of all vectors at once differ from those through a graph by ",
          100 * off / std::max(length, std::numeric_limits<double>::min()),
          " %: parameters reach the loss otherwise than through the network; use products = \"graph\"");
}

// The most vectors that leave room for enough samples, and as many of those as fit.
void AutogradCurvatureOperator::choose_at_once() {
  keep_graphs_ = divide_vectors_ = false;
  workers_ = 1;
  const int64_t samples = source_->samples();
  const int64_t vector_bytes = size() * static_cast<int64_t>(c10::elementSize(dtype()));
  // More fill no card, but for the smallest networks.
  const auto most = static_cast<int64_t>(std::bit_floor(
      static_cast<uint64_t>(std::clamp<int64_t>((int64_t{1} << 30) / (4 * vector_bytes), 32, 256))));
  at_once_ = most;
  if (!obstacle().empty()) {  // nothing is known of memory: what runs out of it is halved
    preferred_block_ = at_once_;
    return;
  }
  const bool whole = !source_->batches().empty();
  const int64_t few = whole ? options_.batch_size : std::min<int64_t>(options_.batch_size, 2),
                more = whole ? options_.batch_size : std::min<int64_t>(options_.batch_size, 8);
  // Bytes: fixed + vectors * each + samples * (one + vectors * both).
  const auto measured = [&](int64_t n, int64_t b) {
    return static_cast<double>(measure_peak_at_once(some_samples(n), b));
  };
  const double least = measured(few, 1), wide = measured(few, 4);
  double each = (wide - least) / 3, one = 0, both = 0, fixed = least - each;
  if (more > few) {
    const double longer = measured(more, 1), larger = measured(more, 4),
                 step = static_cast<double>(more - few);
    both = (larger - longer - wide + least) / 3 / step;
    one = (longer - least) / step - both;
    each -= static_cast<double>(few) * both;
    fixed = least - each - static_cast<double>(few) * (one + both);
  }
  double share = 0.5;  // the rest is for what is made of the products
  const auto room = [&](int64_t b) {
    const double spare = static_cast<double>(available()) * share - static_cast<double>(3 * vector_bytes * b);
    return (spare - fixed - static_cast<double>(b) * std::max(each, 0.0)) /
           std::max(std::max(one, 0.0) + static_cast<double>(b) * std::max(both, 0.0), 1.0);
  };
  const int64_t enough = whole ? 1 : std::min<int64_t>(options_.batch_size, 8);
  const auto fits = [&] {
    at_once_ = most;
    while (at_once_ > 1 && room(at_once_) < static_cast<double>(enough)) at_once_ /= 2;
    return at_once_ >= 8;
  };
  if (!fits()) {
    share = 0.9;  // a tenth for pieces too small to be of use
    fits();
  }
  if (whole) {
    require(at_once_ > 1 || room(1) >= 1, "too little memory for a vector beside the samples");
  } else {
    const int64_t fitting = std::max<int64_t>(static_cast<int64_t>(std::min(room(at_once_), 1e9)), 1);
    cut_evenly(std::min({fitting, samples, options_.batch_size}));
  }
  preferred_block_ = std::max(preferred_block_, at_once_);
}

void AutogradCurvatureOperator::choose_sizes() {
  const FastestKernels fastest(device_);
  const ReplacedKernels replaced;
  const int64_t samples = source_->samples();
  // Differences build graphs all the time.
  const bool parallel = (source_->concurrent() || !by_differences()) && device_.is_cpu();
  const int64_t most = parallel ? context_.threads() : 1;
  // A block is held three times: vectors, products and what the caller makes of them.
  const int64_t vector_bytes = 3 * size() * static_cast<int64_t>(c10::elementSize(dtype()));
  if (obstacle().empty() || device_.is_cpu())
    preferred_block_ = std::clamp<int64_t>(available() / 4 / vector_bytes, 1, 32);
  // Of mini-batches that are given: fewer workers where memory is short, all graphs where there is plenty.
  const auto keep_where_there_is_room = [&](Samples largest) {
    if (!obstacle().empty()) return;
    const int64_t each = measure_peak(largest.begin, largest.end);
    const int64_t spare = (available() - vector_bytes * preferred_block_) / 10 * 9;
    while (workers_ > 1 && workers_ * each > spare) --workers_;
    keep_graphs_ = samples / options_.batch_size * each + each <= spare;
  };
  begins_ = source_->batches();
  if (!begins_.empty()) {
    const Samples largest = some_samples(samples);
    options_.batch_size = largest.end - largest.begin;
    workers_ = static_cast<int>(std::min(most, mini_batches()));
    keep_where_there_is_room(largest);
  } else if (options_.batch_size > 0) {
    options_.batch_size = std::min(options_.batch_size, samples);
    cut(options_.batch_size);
    workers_ = static_cast<int>(std::min(most, mini_batches()));
    keep_where_there_is_room({0, end_of(0)});
  } else if (!obstacle().empty()) {  // nothing is known of memory
    workers_ = static_cast<int>(std::min(most, samples));
    options_.batch_size = std::min<int64_t>((samples + workers_ - 1) / workers_, 64);
    if (options_.most_samples > 0) options_.batch_size = std::min(options_.batch_size, options_.most_samples);
    cut(options_.batch_size);
  } else {
    // A worker takes fixed + per_sample * batch_size bytes.
    int64_t few = std::min<int64_t>(samples, 2), more = std::min<int64_t>(samples, 8), small = 0, large = 0;
    for (bool measured = false; !measured;) {
      try {
        if (device_memory_) measure_peak(0, few);  // what libraries take there once and keep
        small = measure_peak(0, few);
        large = measure_peak(0, more);
        measured = true;
      } catch (const MemoryError&) {
        if (!device_memory_ || more == 1) throw;
        more = (more + 1) / 2;
        few = std::min(few, (more + 1) / 2);
      }
    }
    const int64_t per_sample =
        more > few ? std::max<int64_t>((large - small) / (more - few), 1) : std::max<int64_t>(large, 1);
    const int64_t fixed = more > few ? std::max<int64_t>(small - few * per_sample, 0) : 0;
    // A tenth is left for what differs between mini-batches and for pieces too small to be of use.
    const int64_t blocks = vector_bytes * preferred_block_, spare = (available() - blocks) / 10 * 9;
    const auto fitting = [&](int64_t workers) { return (spare / workers - fixed) / per_sample; };
    workers_ = static_cast<int>(std::min(most, samples));
    while (workers_ > 1 && fitting(workers_) < 1) --workers_;
    if (fitting(workers_) < 1) {
      throw MemoryError(text_of(name(), ": ", format_bytes(available()), " of memory ",
                                device_.is_cpu() ? "" : "on " + device_.str() + " ",
                                "are too little for one sample, which takes ",
                                format_bytes((fixed + per_sample) / 9 * 10 + blocks),
                                device_.is_cpu() ? "; raise the ceiling (--memory), or lower k or the block"
                                                 : "; free what else lies there, or take a smaller network"));
    }
    constexpr int64_t kEnough = int64_t{512} << 20;  // larger mini-batches were measured no faster
    const int64_t useful =
        device_.is_cpu() ? std::max<int64_t>(kEnough / per_sample, 8) : samples;  // cards want filling
    int64_t most_samples = std::min({fitting(workers_), useful, (samples + workers_ - 1) / workers_});
    if (options_.most_samples > 0) most_samples = std::min(most_samples, options_.most_samples);
    // Equal shares, and as many for each worker.
    const int64_t rounds = (samples + most_samples * workers_ - 1) / (most_samples * workers_);
    options_.batch_size = (samples + rounds * workers_ - 1) / (rounds * workers_);
    cut(options_.batch_size);
    const int64_t all = samples * per_sample, kept = mini_batches() * fixed + all;
    keep_graphs_ = kept <= spare;
    constexpr int64_t kSmall = int64_t{256} << 20;  // of 0.9 GB dividing vectors was measured slower
    const bool one_batch = options_.most_samples == 0 || options_.most_samples >= samples;
    divide_vectors_ = workers_ > 1 && !by_differences() && one_batch && fixed + all <= kSmall &&
                      kept + workers_ * (fixed + all) <= spare;
  }
  consider_at_once();
  graphs_.resize(static_cast<size_t>(mini_batches()));
}

// Where products wait for launches: they are short, and take little memory.
void AutogradCurvatureOperator::consider_replay() {
  const bool asked = options_.replay.value_or(false);
  // On CUDA only where it is asked for, until it has run on a card.
  if (!options_.replay.value_or(!device_.is_cuda())) return;
  if (by_differences() || !obstacle().empty() || !DeviceGraph::supported(device_)) {
    require(!asked, name(), ": products ", by_differences() ? "by differences" : "on " + device_.str(),
            " cannot be replayed");
    return;
  }
  const Tf32 coarsely(device_, options_.precision == Precision::tf32);
  const FastestKernels fastest(device_);
  replayed_one_ = try_replay(1);
  // Sampled targets are drawn on the host each time.
  if (why_not_replayed_.empty() && at_once_ > 1 && options_.kind != CurvatureKind::mc_fisher)
    replayed_block_ = try_replay(at_once_);
  require(!asked || replayed_one_, name(), ": products cannot be replayed: ", why_not_replayed_);
  device_memory_->release();
}

// None where launching is as fast, or the only way.
std::unique_ptr<ReplayedProduct> AutogradCurvatureOperator::try_replay(int64_t width) {
  constexpr double kShort = 0.05;
  const bool by_clock = !options_.replay && !at::globalContext().deterministicAlgorithms();
  if (by_clock && width > 1 && at_once_seconds_ > kShort) return nullptr;
  const auto launched = [&](const at::Tensor& vectors, const at::Tensor& products) {
    takes_at_once(width) ? multiply_at_once(vectors, products) : multiply_by_samples(vectors, products);
  };
  const auto recorded = [&](const at::Tensor& vectors, const at::Tensor& products) {
    struct Recording {
      bool& now;
      explicit Recording(bool& flag) : now(flag) { now = true; }
      ~Recording() { now = false; }
    } const recording(recording_);
    launched(vectors, products);
  };
  try {
    const at::Tensor v = empty_block(size(), width, source_->dtype(), device_).fill_(1), product = v.clone();
    double seconds = 0;
    const int64_t bytes = peak_of("a product", [&] {
      for (int i = 0; i < 2 && seconds < 10 * kShort;
           ++i) {  // what libraries try out once is not in the second
        const Timer timer;
        launched(v, product);
        wait_for({product});
        seconds = timer.seconds();
      }
    });
    if (4 * bytes <= available() && (seconds < kShort || !by_clock)) {
      recorded_graphs_.resize(graphs_.size());
      auto found = std::make_unique<ReplayedProduct>(recorded, launched, v.sizes(), v.options(),
                                                     source_->leaves(), context_);
      for (std::unique_ptr<Graph>& graph : graphs_) graph.reset();
      if (!by_clock || found->replayed() < 0.9 * found->launched()) return found;
    }
  } catch (const Cancelled&) {
    throw;
  } catch (const c10::OutOfMemoryError&) {
  } catch (const MemoryError&) {
  } catch (const std::exception& error) {
    why_not_replayed_ = first_line(error.what());
  }
  if (options_.replay && why_not_replayed_.empty()) why_not_replayed_ = "too little memory";
  if (!takes_at_once(width)) recorded_graphs_.clear();
  return nullptr;
}

void AutogradCurvatureOperator::forget_replays() {
  replayed_one_.reset();
  replayed_block_.reset();
  recorded_graphs_.clear();
}

// What multiplies so many; none where they are launched.
ReplayedProduct* AutogradCurvatureOperator::replayed(int64_t columns) {
  if (replayed_one_ && replayed_one_->stale()) forget_replays();
  if (rounding_ != options_.precision) return nullptr;  // recorded in that one
  if (columns == 1 || !takes_at_once(columns)) return replayed_one_.get();
  if (!replayed_block_) return nullptr;
  const bool by_clock = !at::globalContext().deterministicAlgorithms();
  const auto blocks = static_cast<double>((columns + at_once_ - 1) / at_once_);
  const bool singly =
      replayed_one_ && by_clock &&
      static_cast<double>(columns) * replayed_one_->replayed() < blocks * replayed_block_->replayed();
  return singly ? replayed_one_.get() : replayed_block_.get();
}

AutogradCurvatureOperator::Sizes AutogradCurvatureOperator::sizes() const {
  return {options_.batch_size, workers_, keep_graphs_, divide_vectors_, preferred_block_, at_once_};
}

// And lets kept graphs go.
void AutogradCurvatureOperator::take(const Sizes& sizes) {
  options_.batch_size = sizes.batch_size;
  begins_ = source_->batches();
  if (begins_.empty()) cut(options_.batch_size);
  workers_ = sizes.workers;
  keep_graphs_ = sizes.keep_graphs;
  divide_vectors_ = sizes.divide_vectors;
  preferred_block_ = sizes.preferred_block;
  at_once_ = sizes.at_once;
  forget_replays();
  forget_graphs();
}

// Fewer vectors at once, if it takes them so, else half the samples; false where neither can be.
bool AutogradCurvatureOperator::shrink(bool at_once) {
  const bool can_be_cut = source_->batches().empty() && options_.batch_size > 1;
  Sizes smaller = sizes();
  if (at_once && (at_once_ > 8 || (at_once_ > 1 && !can_be_cut))) {
    smaller.at_once /= 2;
  } else if (can_be_cut) {
    smaller.batch_size = (options_.batch_size + 1) / 2;
  } else {
    return false;
  }
  take(smaller);
  return true;
}

// A single vector is worth a graph.
bool AutogradCurvatureOperator::takes_at_once(int64_t columns) const {
  return at_once_ > 0 && (columns > 1 || options_.products == Products::batched);
}

// What work() gives; where the device runs out of memory, once more without kept graphs, then with fewer
// vectors at once, if it takes them so, and in smaller mini-batches. Leaves everything as it was where even
// one sample is too much.
template <typename Work>
auto AutogradCurvatureOperator::in_batches_that_fit(const Work& work, bool at_once) {
  const Sizes before = sizes();
  for (;;) {
    try {
      auto result = work();
      made_smaller_ = made_smaller_ || options_.batch_size < before.batch_size || at_once_ < before.at_once;
      return result;
    } catch (const c10::OutOfMemoryError& error) {
      if (!device_memory_) throw;
      if (keep_graphs_) {
        Sizes without = sizes();
        without.keep_graphs = false;
        take(without);
      } else if (!shrink(at_once)) {
        take(before);
        throw_memory_error(source_->batches().empty() ? "one sample" : "a batch of the data", error);
      }
      device_memory_->release();
    }
  }
}

double AutogradCurvatureOperator::loss() {
  const Context::Scope scope(context_);
  const FullPrecision full(device_);
  const at::NoGradGuard no_grad;
  const double sum = in_batches_that_fit([&] {
    const std::vector<at::Tensor> all = source_->leaves();
    double value = 0;
    for (int64_t batch = 0; batch < mini_batches(); ++batch)
      value += mean_loss(all, begin_of(batch), end_of(batch), target_count()).item<double>();
    return value;
  });
  return sum + (options_.l2 > 0 ? options_.l2 / 2 * theta().square().sum(at::kDouble).item<double>() : 0);
}

at::Tensor AutogradCurvatureOperator::gradient() {
  const Context::Scope scope(context_);
  const FullPrecision full(device_);
  const ReplacedKernels replaced;
  return in_batches_that_fit([&] {
    at::Tensor sum = theta() * options_.l2;
    const std::vector<at::Tensor> parts = unflatten(subset_.specs, sum);
    for (int64_t batch = 0; batch < mini_batches(); ++batch) {
      context_.check_cancelled();
      const std::vector<at::Tensor> all = leaves();
      const std::vector<at::Tensor> g =
          derivative({mean_loss(all, begin_of(batch), end_of(batch), target_count())}, chosen(all), {});
      for (size_t i = 0; i < g.size(); ++i) add_to(parts[i], g[i]);
    }
    return sum.to(dtype());
  });
}

at::Tensor AutogradCurvatureOperator::per_sample_gradients(int64_t begin, int64_t count) {
  require(0 <= begin && 0 <= count && begin + count <= source_->samples(), name(), ": samples ", begin,
          " to ", begin + count, " are not within 0 to ", source_->samples());
  require(source_->batches().empty(), name(),
          ": batches that cannot be cut have no gradients of single samples");
  const Context::Scope scope(context_);
  const FullPrecision full(device_);
  at::Tensor block = empty_block(size(), count, dtype(), device_);
  std::atomic<int64_t> next = 0;
  const int64_t most = source_->concurrent() ? workers_ : 1;
  context_.run_workers(static_cast<int>(std::min(most, std::max<int64_t>(count, 1))), [&](int) {
    const ReplacedKernels replaced;
    for (int64_t i = next++; i < count; i = next++) {
      context_.check_cancelled();
      const int64_t sample = begin + i;
      const std::vector<at::Tensor> all = leaves();
      const at::Tensor loss =
          mean_loss(all, sample, sample + 1, static_cast<double>(source_->targets(sample, sample + 1)));
      const std::vector<at::Tensor> g = derivative({loss}, chosen(all), {});
      const std::vector<at::Tensor> column = unflatten(subset_.specs, block.select(1, i));
      for (size_t p = 0; p < g.size(); ++p) {
        assign(column[p], g[p]);
      }
    }
  });
  return block;
}

// Workers take the next vector, each with all samples.
void AutogradCurvatureOperator::multiply_by_vectors(const at::Tensor& vectors, const at::Tensor& result) {
  whole_graphs_.resize(static_cast<size_t>(workers_));
  std::atomic<int64_t> next = 0;
  context_.run_workers(workers_, [&](int worker) {
    const ReplacedKernels replaced;
    std::unique_ptr<Graph>& graph = whole_graphs_[static_cast<size_t>(worker)];
    for (int64_t j = next++; j < vectors.size(1); j = next++) {
      context_.check_cancelled();
      if (!graph) graph = build_graph(0, source_->samples());
      const std::vector<at::Tensor> p = product(*graph, unflatten(subset_.specs, vectors.select(1, j)));
      const std::vector<at::Tensor> column = unflatten(subset_.specs, result.select(1, j));
      for (size_t i = 0; i < p.size(); ++i) assign(column[i], p[i]);
    }
  });
}

// Workers take the next mini-batch, each with all vectors.
void AutogradCurvatureOperator::multiply_by_samples(const at::Tensor& vectors, const at::Tensor& result) {
  const int64_t columns = vectors.size(1), batches = mini_batches();
  Turns turns(columns);
  std::atomic<int64_t> next = 0;
  context_.run_workers(workers_, [&](int) {
    const ReplacedKernels replaced;
    try {
      for (int64_t batch = next++; batch < batches; batch = next++) {
        std::unique_ptr<Graph>& kept = (recording_ ? recorded_graphs_ : graphs_)[static_cast<size_t>(batch)];
        std::unique_ptr<Graph> fresh;
        if (!kept) fresh = build_graph(begin_of(batch), end_of(batch));
        if ((keep_graphs_ || recording_) && !kept) kept = std::move(fresh);
        const Graph& graph = kept ? *kept : *fresh;
        for (int64_t j = 0; j < columns; ++j) {
          context_.check_cancelled();
          const std::vector<at::Tensor> p = product(graph, unflatten(subset_.specs, vectors.select(1, j)));
          if (!turns.await(j, batch)) return;
          const std::vector<at::Tensor> sum = unflatten(subset_.specs, result.select(1, j));
          for (size_t i = 0; i < p.size(); ++i) {
            batch == 0 ? assign(sum[i], p[i]) : add_to(sum[i], p[i]);
          }
          turns.pass(j, batch);
        }
      }
    } catch (...) {
      turns.cancel();
      throw;
    }
  });
}

// Columns of a block as vectors [b, shape].
std::vector<at::Tensor> AutogradCurvatureOperator::slices(const at::Tensor& block) const {
  const at::Tensor rows = block.t();
  std::vector<at::Tensor> all;
  int64_t begin = 0;
  for (const ParameterSpec& spec : subset_.specs) {
    std::vector<int64_t> shape = spec.shape;
    shape.insert(shape.begin(), rows.size(0));
    all.push_back(rows.narrow(1, begin, spec.numel()).view(shape));
    begin += spec.numel();
  }
  return all;
}

// All vectors of a batch with one mini-batch after the other.
void AutogradCurvatureOperator::multiply_at_once(const at::Tensor& vectors, const at::Tensor& result) {
  result.zero_();
  for (int64_t batch = 0; batch < mini_batches(); ++batch) {
    for (int64_t begin = 0; begin < vectors.size(1); begin += at_once_) {
      context_.check_cancelled();
      const int64_t n = std::min(at_once_, vectors.size(1) - begin);
      add_each(slices(result.narrow(1, begin, n)),
               products_at_once(begin_of(batch), end_of(batch), slices(vectors.narrow(1, begin, n))));
    }
  }
}

at::Tensor AutogradCurvatureOperator::multiply(const at::Tensor& block) {
  const Tf32 coarsely(device_, rounding_ == Precision::tf32);
  const FastestKernels fastest(device_);
  at::Tensor vectors = as_block(block.to(device_, source_->dtype()));
  if (fixed_.defined()) vectors = as_block(vectors.index_fill(0, fixed_, 0));
  const int64_t columns = vectors.size(1);
  at::Tensor result = empty_block(size(), columns, source_->dtype(), device_);
  ReplayedProduct* const replay = replayed(columns);
  if (replay != nullptr) replay->multiply(vectors, result, context_);
  const bool at_once = replay == nullptr && takes_at_once(columns);
  if (at_once) multiply_at_once(vectors, result);
  // What does not go into the workers' number is left to all of them together.
  int64_t divided = divide_vectors_ ? columns - columns % workers_ : 0;
  if (divided > 0) {
    try {
      multiply_by_vectors(vectors.narrow(1, 0, divided), result.narrow(1, 0, divided));
    } catch (const MemoryError&) {  // others have taken the room meanwhile
      whole_graphs_.clear();
      divide_vectors_ = false;
      divided = 0;
    }
  }
  if (replay == nullptr && !at_once && divided < columns) {
    multiply_by_samples(vectors.narrow(1, divided, columns - divided),
                        result.narrow(1, divided, columns - divided));
  }
  if (options_.l2 > 0) result.add_(vectors, options_.l2);
  if (fixed_.defined()) result.index_fill_(0, fixed_, 0);
  return result.to(block.device(), dtype());
}

at::Tensor AutogradCurvatureOperator::apply_impl(const at::Tensor& block) {
  return apply_rounded(block, options_.precision);
}

at::Tensor AutogradCurvatureOperator::apply_rounded(const at::Tensor& block, Precision precision) {
  const Context::Scope scope(context_);
  const FullPrecision full(device_);
  round_to(precision);
  const int64_t columns = block.size(1);
  if (device_.is_cpu() || columns <= preferred_block_)
    return in_batches_that_fit([&] { return multiply(block); }, takes_at_once(columns));
  // No more of the block there at once than there is room for.
  at::Tensor result = empty_block(size(), columns, dtype(), block.device());
  for (int64_t begin = 0; begin < columns; begin += preferred_block_) {
    const int64_t n = std::min(preferred_block_, columns - begin);
    result.narrow(1, begin, n)
        .copy_(in_batches_that_fit([&] { return multiply(block.narrow(1, begin, n)); }, takes_at_once(n)));
  }
  return result;
}

}  // namespace seigh
