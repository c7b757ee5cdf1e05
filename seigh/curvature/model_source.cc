#include "seigh/curvature/model_source.h"

#include <ATen/ops/isfinite.h>

#include "seigh/core/error.h"
#include "seigh/curvature/mlp_curvature.h"

namespace seigh {
namespace {

// Floating tensors in `dtype`; classes and tokens as they are. Tensors of inference mode cannot be part of a
// graph.
at::Tensor as(const at::Tensor& tensor, at::ScalarType dtype) {
  at::Tensor plain = tensor.detach();
  if (plain.is_floating_point()) plain = plain.to(dtype);
  return plain.is_inference() ? plain.clone() : plain;
}

}  // namespace

ModelSource::ModelSource(const Model& model, const at::Tensor& parameters,
                         const std::vector<at::Tensor>& buffers, const Dataset& data, const Loss& loss,
                         at::ScalarType dtype, const std::string& name)
    : model_(model), dtype_(dtype), parameters_(as(parameters, dtype)), loss_(loss) {
  require(data.size() > 0, name, ": the data set is empty");
  data_ = {as(data.x, dtype), as(data.y, dtype), data.classes};
  for (const at::Tensor& buffer : buffers) buffers_.push_back(as(buffer, dtype));
  require(parameters_.isfinite().all().item<bool>(), name, ": the parameters hold NaN or infinity");
  require(data_.x.isfinite().all().item<bool>(), name, ": the inputs hold NaN or infinity");
}

std::vector<at::Tensor> ModelSource::leaves() const {
  std::vector<at::Tensor> all;
  for (const at::Tensor& piece : unflatten(model_.parameters(), parameters_)) all.push_back(piece.detach());
  return all;
}

int64_t ModelSource::targets(int64_t begin, int64_t end) const {
  return target_count(y(begin, end));
}

bool ModelSource::supports(CurvatureKind kind) const {
  return kind != CurvatureKind::mc_fisher || loss_.kind != LossKind::custom;
}

at::Tensor ModelSource::outputs(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const {
  return model_.forward(leaves, buffers_, data_.x.slice(0, begin, end));
}

at::Tensor ModelSource::loss(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const {
  return loss_sum(loss_, outputs(leaves, begin, end), y(begin, end));
}

at::Tensor ModelSource::output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const {
  return seigh::output_gradient(loss_, outputs, y(begin, end));
}

at::Tensor ModelSource::sampled_output_gradient(const at::Tensor& outputs, int64_t begin, int64_t,
                                                uint64_t seed, int64_t draw) const {
  return seigh::sampled_output_gradient(loss_, outputs, seed, draw, begin * targets(0, 1));
}

at::Tensor ModelSource::output_hessian_product(const at::Tensor& outputs, int64_t begin, int64_t end,
                                               const at::Tensor& u) const {
  return seigh::output_hessian_product(loss_, outputs, y(begin, end), u);
}

std::unique_ptr<CurvatureOperator> ModelSource::faster_operator(const CurvatureOptions& options,
                                                                const std::string& name,
                                                                const Context& context) const {
  if (!MlpCurvatureOperator::supports(model_, loss_)) return nullptr;
  CurvatureOptions o = options;
  o.loss = loss_;
  o.dtype = dtype_;
  return std::make_unique<MlpCurvatureOperator>(model_, parameters_, data_, o, name, context);
}

}  // namespace seigh
