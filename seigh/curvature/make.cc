#include "seigh/curvature/make.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
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
  const auto by_autograd = [&] {
    return std::make_unique<AutogradCurvatureOperator>(source, options, name, context);
  };
  const bool asked = options.products == Products::stacked, replay = options.replay.value_or(false);
  require(!asked || !replay, name, ": products = \"stacked\" are launched, never replayed");
  if (!asked &&
      (replay || (options.products != Products::automatic && options.products != Products::autograd)))
    return by_autograd();
  // Products of a source's own are in full precision: where they are not to be, nothing is gathered for them.
  const bool rounds = source->dtype() == at::kFloat && options.precision != Precision::float32 &&
                      (options.precision == Precision::bf16 || !source->leaves().front().device().is_cpu());
  auto stacked = rounds ? nullptr : source->faster_operator(options, name, context);
  require(stacked != nullptr || !asked, name,
          ": products = \"stacked\" are those of fully connected networks with biases and one kind of "
          "activation, a loss by name and full precision, where there is room; use \"auto\"");
  if (!stacked) return by_autograd();
  if (asked || stacked->device().is_cpu() || at::globalContext().deterministicAlgorithms()) return stacked;
  std::unique_ptr<CurvatureOperator> other;
  try {
    other = by_autograd();
  } catch (const MemoryError&) {
    return stacked;
  }
  const double theirs = other->seconds_of_vector();
  try {
    if (theirs == 0 || stacked->seconds_of_vector() <= theirs) return stacked;
  } catch (const c10::OutOfMemoryError&) {
  }
  return other;
}

}  // namespace

void measure_rounding(CurvatureOperator& op) {
  const Context::Scope scope(op.context());
  // The first vectors that a solver will probe the matrix with: it need not multiply them again.
  const at::Tensor random =
      random_gaussian(op.options().seed, Stream::error_probe, op.size(), 0, 2, op.dtype());
  LinearOperator& full = op.in_full_precision();
  const at::Tensor exact = full.apply(random), last = exact.slice(1, 1);
  const double norm = last.norm(2, at::kDouble).item<double>();
  const at::Tensor lead = norm > 0 ? as_block(last / norm) : as_block(random.slice(1, 1)),
                   exact_lead = full.apply(lead), products = op.apply(random);
  const auto lengths = [](const at::Tensor& x) { return x.to(at::kDouble).norm(2, 0); };
  const double by_random =
                   ((lengths(products - exact)) / lengths(random)).square().mean().sqrt().item<double>(),
               by_lead = (lengths(op.apply(lead) - exact_lead) / lengths(lead)).item<double>();
  op.set_product_error(std::max(by_random, by_lead));
  op.set_known_products(products);
  op.set_known_full_products(exact);
}

std::unique_ptr<CurvatureOperator> make_curvature_operator(const std::shared_ptr<const GraphSource>& source,
                                                           const CurvatureOptions& options,
                                                           const std::string& name, const Context& context) {
  auto op = of_source(source, options, name, context);
  const bool tf32 = options.precision == Precision::tf32;
  if (options.precision != Precision::float32 && (!op->rounds() || (tf32 && !op->device().is_cuda())))
    op->add_note(
        text_of("precision = \"", to_string(options.precision), "\" has no part in products ",
                options.products == Products::difference ? "by differences" : "in " + dtype_name(op->dtype()),
                " on ", op->device()));
  if (op->rounds()) measure_rounding(*op);
  return op;
}

}  // namespace seigh
