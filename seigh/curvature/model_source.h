// Networks of nn/ (seigh's own, and TorchScript's) as a GraphSource.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "seigh/curvature/graph_source.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"

namespace seigh {

/// A model in evaluation mode at flat parameters [D], its loss on the samples of `data`. Keeps what it is
/// given, and in `dtype`, but for the model, which must outlive it.
///
/// A loss of the user's own is that of all samples together. What some of them contribute is their own loss
/// times their share of the denominator: 1/N of it for each where the loss is a plain mean, another where it
/// divides by weights (classes weighted, targets ignored). The share is found, not asked for: the gradient of
/// the loss of all in their outputs is that of their own loss times one number. Where it is not, as with a
/// ratio of sums, the samples are one mini-batch that cannot be cut. Cost: one forward pass over all samples.
class ModelSource final : public GraphSource {
 public:
  /// Throws Error on an empty data set, on parameters or inputs that hold NaN or infinity, and on a loss of
  /// the user's own that is no mean over the samples; `name` begins the message.
  ModelSource(const Model& model, const at::Tensor& parameters, const std::vector<at::Tensor>& buffers,
              const Dataset& data, const Loss& loss, at::ScalarType dtype, const std::string& name);

  const std::vector<ParameterSpec>& parameters() const override { return model_.parameters(); }
  std::vector<at::Tensor> leaves() const override;
  at::ScalarType dtype() const override { return dtype_; }
  int64_t samples() const override { return data_.size(); }
  std::vector<int64_t> batches() const override;
  int64_t targets(int64_t begin, int64_t end) const override;
  std::shared_ptr<const GraphSource> again(const at::Tensor& order, at::ScalarType dtype) const override;
  int64_t sample_number(int64_t i) const override;
  std::vector<std::string> notes() const override;
  bool supports(CurvatureKind kind) const override;
  void prepare(int64_t begin, int64_t end) const override;
  at::Tensor loss(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const override;
  at::Tensor outputs(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const override;
  at::Tensor output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const override;
  at::Tensor sampled_output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end, uint64_t seed,
                                     int64_t draw) const override;
  at::Tensor output_hessian_product(const at::Tensor& outputs, int64_t begin, int64_t end,
                                    const at::Tensor& u) const override;
  /// Stacked products of an Mlp (mlp_curvature.h).
  std::unique_ptr<CurvatureOperator> faster_operator(const CurvatureOptions& options, const std::string& name,
                                                     const Context& context) const override;

 private:
  // A loss of the user's own: outputs of all samples, and the gradient of their loss in them.
  struct Whole {
    at::Tensor outputs, gradient;
    double gradient_norm = 0;
  };
  at::Tensor y(int64_t begin, int64_t end) const { return data_.y.slice(0, begin, end); }
  at::Tensor own_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const;
  void find_whole();
  std::optional<double> share(int64_t begin, int64_t end) const;
  double factor(int64_t begin, int64_t end) const;

  const Model& model_;
  std::string name_;
  at::ScalarType dtype_;
  at::Tensor given_parameters_, parameters_;
  std::vector<at::Tensor> given_buffers_, buffers_;
  Dataset given_, data_;
  Loss loss_;
  at::Tensor order_;  // of the samples, where it is not their own
  Whole whole_;
  bool cut_ = true;  // may the samples be divided?
  mutable std::mutex mutex_;
  mutable std::map<std::pair<int64_t, int64_t>, double> factors_;
};

}  // namespace seigh
