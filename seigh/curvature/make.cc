#include "seigh/curvature/make.h"

#include <utility>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/model_source.h"

namespace seigh {

std::unique_ptr<CurvatureOperator> make_curvature_operator(const Model& model, const at::Tensor& parameters,
                                                           const std::vector<at::Tensor>& buffers,
                                                           const Dataset& data,
                                                           const CurvatureOptions& options,
                                                           const std::string& name, const Context& context) {
  options.validate();
  const auto source = [&] {
    const Context::Scope scope(context);
    return std::make_shared<ModelSource>(model, parameters, buffers, data, options.loss, options.dtype, name);
  }();
  return make_curvature_operator(source, options, name, context);
}

namespace {

std::unique_ptr<CurvatureOperator> of_source(const std::shared_ptr<const GraphSource>& source,
                                             const CurvatureOptions& options, const std::string& name,
                                             const Context& context) {
  if (options.products == Products::difference) {
    const Context::Scope scope(context);
    auto exact = source->dtype() == at::kDouble ? source : source->again({}, at::kDouble);
    require(exact != nullptr, name, ": products by differences need a network in float64");
    return std::make_unique<AutogradCurvatureOperator>(std::move(exact), options, name, context);
  }
  if (options.products == Products::automatic || options.products == Products::autograd) {
    if (auto faster = source->faster_operator(options, name, context)) return faster;
  }
  return std::make_unique<AutogradCurvatureOperator>(source, options, name, context);
}

}  // namespace

std::unique_ptr<CurvatureOperator> make_curvature_operator(const std::shared_ptr<const GraphSource>& source,
                                                           const CurvatureOptions& options,
                                                           const std::string& name, const Context& context) {
  auto op = of_source(source, options, name, context);
  if (options.precision == Precision::tf32 && (op->dtype() != at::kFloat || !op->device().is_cuda()))
    op->add_note(text_of("precision = \"tf32\" has no part in products in ", dtype_name(op->dtype()), " on ",
                         op->device()));
  return op;
}

}  // namespace seigh
