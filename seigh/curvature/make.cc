#include "seigh/curvature/make.h"

#include <utility>

#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/mlp_curvature.h"

namespace seigh {

std::unique_ptr<CurvatureOperator> make_curvature_operator(const Model& model, const at::Tensor& parameters,
                                                           const std::vector<at::Tensor>& buffers,
                                                           const Dataset& data,
                                                           const CurvatureOptions& options,
                                                           std::string name) {
  if (MlpCurvatureOperator::supports(model, options.loss)) {
    return std::make_unique<MlpCurvatureOperator>(model, parameters, data, options, std::move(name));
  }
  return std::make_unique<AutogradCurvatureOperator>(model, parameters, buffers, data, options,
                                                     std::move(name));
}

}  // namespace seigh
