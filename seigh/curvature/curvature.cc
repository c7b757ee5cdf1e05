#include "seigh/curvature/curvature.h"

#include <cmath>
#include <utility>

#include "seigh/core/error.h"

namespace seigh {

const std::vector<CurvatureKind>& curvature_kinds() {
  static const std::vector<CurvatureKind> kinds = {CurvatureKind::hessian, CurvatureKind::ggn,
                                                   CurvatureKind::empirical_fisher, CurvatureKind::mc_fisher};
  return kinds;
}

std::string to_string(CurvatureKind kind) {
  switch (kind) {
    case CurvatureKind::hessian:
      return "hessian";
    case CurvatureKind::ggn:
      return "ggn";
    case CurvatureKind::empirical_fisher:
      return "empirical_fisher";
    case CurvatureKind::mc_fisher:
      return "mc_fisher";
  }
  fail("curvature matrix out of range");
}

CurvatureKind parse_curvature(const std::string& name) {
  std::string known;
  for (const CurvatureKind kind : curvature_kinds()) {
    if (to_string(kind) == name) return kind;
    known += (known.empty() ? "" : ", ") + to_string(kind);
  }
  fail("unknown curvature matrix \"", name, "\"; choose one of ", known);
}

Products parse_products(const std::string& name) {
  if (name == "auto") return Products::automatic;
  if (name == "autograd") return Products::autograd;
  if (name == "graph") return Products::graph;
  if (name == "batched") return Products::batched;
  if (name == "stacked") return Products::stacked;
  require(name == "difference", "unknown products \"", name,
          "\"; choose \"auto\", \"autograd\", \"graph\", \"batched\", \"stacked\" or \"difference\"");
  return Products::difference;
}

Precision parse_precision(const std::string& name) {
  for (const Precision precision : {Precision::float32, Precision::tf32, Precision::bf16})
    if (to_string(precision) == name) return precision;
  fail("unknown precision \"", name, "\"; choose \"float32\", \"tf32\" or \"bf16\"");
}

std::string to_string(Precision precision) {
  switch (precision) {
    case Precision::float32:
      return "float32";
    case Precision::tf32:
      return "tf32";
    case Precision::bf16:
      return "bf16";
  }
  fail("precision out of range");
}

void CurvatureOptions::validate() const {
  loss.validate();
  require(batch_size >= 0, "batch_size must not be negative: ", batch_size);
  require(most_samples >= 0, "most_samples must not be negative: ", most_samples);
  require(std::isfinite(l2) && l2 >= 0, "l2 must not be negative: ", l2);
  require(draws >= 1, "draws must be at least 1, not ", draws);
  require(dtype == at::kFloat || dtype == at::kDouble, "products are in float32 or float64, not in ", dtype);
  require(kind != CurvatureKind::mc_fisher || loss.kind != LossKind::custom,
          "mc_fisher needs a loss whose distribution is known: cross_entropy, mean_squared_error or "
          "binary_cross_entropy");
}

CurvatureOperator::CurvatureOperator(ParameterSubset subset, at::ScalarType dtype,
                                     const CurvatureOptions& options, std::string name,
                                     const Context& context)
    : LinearOperator(subset.count, dtype, std::move(name)),
      options_(options),
      subset_(std::move(subset)),
      context_(context) {
  options_.validate();
}

CurvatureOperator::CurvatureOperator(const std::vector<ParameterSpec>& parameters, at::ScalarType dtype,
                                     const CurvatureOptions& options, std::string name,
                                     const Context& context)
    : CurvatureOperator(select_parameters(parameters, options.parameters), dtype, options, std::move(name),
                        context) {}

}  // namespace seigh
