#include "seigh/curvature/make.h"

#include <utility>

#include "seigh/curvature/mlp_curvature.h"

namespace seigh {

std::unique_ptr<LinearOperator> make_curvature_operator(const Model& model, const at::Tensor& parameters,
                                                        const std::vector<at::Tensor>& buffers,
                                                        const Dataset& data, const HessianOptions& options,
                                                        std::string name) {
  if (MlpCurvatureOperator::supports(model) && options.loss.kind != LossKind::custom) {
    MlpCurvatureOptions stacked;
    stacked.kind = options.kind;
    stacked.loss = options.loss.kind;
    stacked.label_smoothing = options.loss.label_smoothing;
    stacked.dtype = options.dtype;
    if (options.batch_size > 0) stacked.samples_per_tile = options.batch_size;
    return std::make_unique<MlpCurvatureOperator>(model, parameters, data, stacked, std::move(name));
  }
  return std::make_unique<HessianOperator>(model, parameters, buffers, data, options, std::move(name));
}

}  // namespace seigh
