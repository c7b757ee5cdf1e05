// The curvature matrices of any model, by automatic differentiation.
//
// The samples are cut into mini-batches. For each, the gradient is computed once with its graph kept; every
// vector of a block is one backward pass through that graph:  H v = d/dtheta <grad L(theta), v>  (Pearlmutter
// 1994, "Fast exact multiplication by the Hessian").
//
// Gauss-Newton kinds:  G v = (1/N) sum_n J_n^T B_n J_n v.  J^T u is one backward pass and linear in u, so its
// derivative along v with respect to u is J v: one linearisation of the network, kept, serves all vectors
// (Schraudolph 2002). B_n is the loss's Hessian in the outputs (ggn), or r_n r_n^T with r_n the gradient of
// the loss in the outputs, at the targets (empirical_fisher) or at sampled ones (mc_fisher): J_n^T r_n is the
// gradient of one target's loss.
//
// Products by differences (Products::difference) take first derivatives alone, in float64: with h a small
// multiple of |theta|, v a unit vector,
//
//     H v = (grad L(theta + h v) - grad L(theta - h v)) / 2h + O(h^2)
//     J v = (f(theta + h v) - f(theta - h v)) / 2h + O(h^2)
//
// and B_n u likewise from the gradient of the loss in the outputs.
//
// Threads work on mini-batches of their own, each with one thread of libtorch; they add to the result in the
// order of the mini-batches, so a product does not depend on who was faster. Where a source builds one graph
// at a time, the others wait for it; what follows is done at the same time all the same. Of a block, where
// the graph of all samples is small, each takes vectors of its own instead, with a graph of all samples: half
// of few samples take more than half the time.
//
// Or, on another device, whole blocks at once by forward over reverse mode (batched_derivatives.h), where
// that was faster when both were tried: vectors and samples in a batch are chosen together, by what they were
// measured to take.
//
// In bfloat16 (Precision::bf16) the graph is built under libtorch's autocast; what is differentiated then
// follows in the precision that it met. Products in full precision are made on request, by graphs of their
// own.
//
// The network may lie on another device: blocks come there and go where they came from, mini-batches are cut
// to the device's memory, and one that does not fit after all is halved. Where products wait for the launches
// of their kernels, these are recorded and replayed (replayed.h).
//
// Cost per vector: 6F flops (Gauss-Newton kinds 4F), F being those of one forward pass over all samples, less
// the terms that the first layer does not need; a graph adds 3F once per block, or once in all where memory
// allows to keep every graph. Memory: the activations of one mini-batch for each thread, three times.
#pragma once

#include <c10/util/Exception.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "seigh/core/device_memory.h"
#include "seigh/curvature/curvature.h"
#include "seigh/curvature/graph_source.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/model.h"

namespace seigh {

class ReplayedProduct;

class AutogradCurvatureOperator final : public CurvatureOperator {
 public:
  /// Of a source, at its parameters, over the subset that options.parameters choose (options.loss and
  /// options.dtype are the source's own; but products by differences, of options.dtype, want a source in
  /// float64). Measures what a sample's activations take and chooses batch_size so
  /// that the context's memory ceiling holds. Throws Error on a matrix the source cannot serve, and when the
  /// ceiling is too low for one sample.
  AutogradCurvatureOperator(std::shared_ptr<const GraphSource> source, const CurvatureOptions& options,
                            std::string name = "curvature", const Context& context = Context());
  /// Of a ModelSource made of these, options.loss and options.dtype among them. The model must outlive the
  /// operator.
  AutogradCurvatureOperator(const Model& model, const at::Tensor& parameters,
                            const std::vector<at::Tensor>& buffers, const Dataset& data,
                            const CurvatureOptions& options, const std::string& name = "curvature",
                            const Context& context = Context());
  ~AutogradCurvatureOperator() override;

  double loss() override;
  at::Tensor gradient() override;
  std::string way() const override;
  double seconds_of_vector() override { return vector_seconds_; }
  /// What could not be done the fast way, and why: the memory pool, convolutions, fused attention.
  std::vector<std::string> notes() const override;
  int64_t preferred_block() const override { return preferred_block_; }
  /// That of the source's parameters.
  c10::Device device() const override { return device_; }
  LinearOperator& in_full_precision() override;

  /// Mini-batches at work at once.
  int workers() const { return workers_; }
  /// Whether they take the vectors of a block one each, instead of mini-batches.
  bool divides_vectors() const { return divide_vectors_; }

  /// Vectors that are multiplied at once, by forward over reverse mode; 0: one by one, through a graph.
  int64_t vectors_at_once() const { return at_once_; }

  /// Of products by differences: h over |theta|, or over sqrt(D)/100 if that is larger.
  void set_step(double step) { step_ = step; }
  double step() const { return step_; }
  /// Takes the step at which products with `vector` [D] change least when it is made larger or smaller, and
  /// returns how much they change there, relative to the length of the vector: what is known of their error.
  /// Cost: eight products.
  double choose_step(const at::Tensor& vector);

  /// Gradients of the loss of single samples (of a sequence: the mean over its tokens), without the L2 term:
  /// column i of the block [D, count] belongs to sample begin + i. Cost: 3F/N flops a sample.
  at::Tensor per_sample_gradients(int64_t begin, int64_t count);

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;
  void explain_not_finite(const at::Tensor& vector) const override;

 private:
  struct Samples {
    int64_t begin, end;
  };
  struct Graph;  // what is differentiated again, for one mini-batch
  class InFullPrecision;
  at::Tensor apply_rounded(const at::Tensor& block, Precision precision);
  void round_to(Precision precision);
  void forget_graphs();
  bool lowered() const { return rounding_ == Precision::bf16; }
  at::Tensor loss_of(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end, double targets) const;
  at::Tensor outputs_of(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const;
  std::unique_ptr<Graph> build_graph(int64_t begin, int64_t end) const;
  void build_outputs(Graph& graph, const std::vector<at::Tensor>& all) const;
  std::vector<at::Tensor> products_at_once(int64_t begin, int64_t end, const std::vector<at::Tensor>& v);
  void multiply_at_once(const at::Tensor& vectors, const at::Tensor& result);
  std::vector<at::Tensor> slices(const at::Tensor& block) const;
  void multiply_by_vectors(const at::Tensor& vectors, const at::Tensor& result);
  void multiply_by_samples(const at::Tensor& vectors, const at::Tensor& result);
  std::vector<at::Tensor> product(const Graph& graph, const std::vector<at::Tensor>& v) const;
  std::vector<at::Tensor> difference(const Graph& graph, const std::vector<at::Tensor>& v) const;
  at::Tensor between(const Graph& graph, const at::Tensor& jv) const;
  at::Tensor between_at_once(const Graph& graph, const at::Tensor& jv);
  at::Tensor mean_loss(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end,
                       double targets) const;
  std::vector<at::Tensor> leaves() const;
  std::vector<at::Tensor> chosen(const std::vector<at::Tensor>& all) const;
  at::Tensor theta() const;      // the subset's parameters, flat
  double target_count() const;   // of all samples
  void cut(int64_t batch_size);  // the samples into mini-batches
  void cut_evenly(int64_t most);
  int64_t mini_batches() const { return static_cast<int64_t>(begins_.size()); }
  int64_t begin_of(int64_t batch) const { return begins_[static_cast<size_t>(batch)]; }
  int64_t end_of(int64_t batch) const;
  int64_t available() const;
  std::string obstacle() const;
  template <typename Work>
  int64_t peak_of(const std::string& what, const Work& work);
  template <typename Work>
  int64_t peak_in_any_precision(const std::string& what, const Work& work);
  int64_t measure_peak(int64_t begin, int64_t end);
  Samples some_samples(int64_t count) const;
  int64_t measure_peak_at_once(Samples samples, int64_t vectors);
  void consider_at_once();
  void compare_ways();
  void choose_at_once();
  struct Trial {
    double seconds;
    int64_t bytes;
  };
  Trial try_at_once();
  double seconds_by_graph(Samples samples);
  void consider_replay();
  std::unique_ptr<ReplayedProduct> try_replay(int64_t width);
  ReplayedProduct* replayed(int64_t columns);
  void forget_replays();
  at::Tensor multiply(const at::Tensor& block);
  struct Sizes;
  Sizes sizes() const;
  void take(const Sizes& sizes);
  bool shrink(bool at_once);
  bool takes_at_once(int64_t columns) const;
  template <typename Work>
  auto in_batches_that_fit(const Work& work, bool at_once = false);
  [[noreturn]] void throw_memory_error(const std::string& what, const c10::Error& error) const;
  void choose_sizes();
  void compare_kernels() const;
  bool gauss_newton() const { return options_.kind != CurvatureKind::hessian; }
  bool by_differences() const { return options_.products == Products::difference; }

  std::shared_ptr<const GraphSource> source_;
  c10::Device device_;
  std::optional<DeviceMemory> device_memory_;  // of another device than the CPU
  mutable std::mutex building_;                // of graphs, where the source builds one at a time
  std::vector<int64_t> begins_;                // of mini-batches
  int workers_ = 1;
  bool keep_graphs_ = false, divide_vectors_ = false, fused_attention_ = false, made_smaller_ = false;
  int64_t preferred_block_ = 32, at_once_ = 0;
  Precision rounding_ = Precision::float32;  // of graphs and products now
  std::unique_ptr<LinearOperator> full_;     // where options_.precision is another
  bool differentiable_ = false;              // gradients_along() wants it
  bool loss_by_slices_ = true;               // between() can be batched
  std::string why_not_at_once_, why_not_replayed_;
  at::Tensor fixed_;  // entries of a vector of the subset
  double step_ = 1e-5;
  double scale_ = 1;                                  // what steps are relative to
  std::vector<std::unique_ptr<Graph>> graphs_;        // one per mini-batch, when kept
  std::vector<std::unique_ptr<Graph>> whole_graphs_;  // one per worker, when vectors are divided
  double at_once_seconds_ = 0;                        // of all samples, where it was tried
  double vector_seconds_ = 0;                         // launched, whichever way was faster
  bool recording_ = false;
  std::vector<std::unique_ptr<Graph>> recorded_graphs_;             // what replayed_one_ goes back through
  std::unique_ptr<ReplayedProduct> replayed_one_, replayed_block_;  // of at_once_ vectors
};

}  // namespace seigh
