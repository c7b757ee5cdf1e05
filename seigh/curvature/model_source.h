// Networks of nn/ (seigh's own, and TorchScript's) as a GraphSource.
#pragma once

#include "seigh/curvature/graph_source.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"

namespace seigh {

/// A model in evaluation mode at flat parameters [D], its loss on the samples of `data`. Keeps what it is
/// given in `dtype`, but for the model, which must outlive it.
class ModelSource final : public GraphSource {
 public:
  /// Throws Error on an empty data set, and on parameters or inputs that hold NaN or infinity; `name` begins
  /// the message.
  ModelSource(const Model& model, const at::Tensor& parameters, const std::vector<at::Tensor>& buffers,
              const Dataset& data, const Loss& loss, at::ScalarType dtype, const std::string& name);

  const std::vector<ParameterSpec>& parameters() const override { return model_.parameters(); }
  std::vector<at::Tensor> leaves() const override;
  at::ScalarType dtype() const override { return dtype_; }
  int64_t samples() const override { return data_.size(); }
  int64_t targets(int64_t begin, int64_t end) const override;
  bool supports(CurvatureKind kind) const override;
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
  at::Tensor y(int64_t begin, int64_t end) const { return data_.y.slice(0, begin, end); }

  const Model& model_;
  at::ScalarType dtype_;
  at::Tensor parameters_;
  std::vector<at::Tensor> buffers_;
  Dataset data_;
  Loss loss_;
};

}  // namespace seigh
