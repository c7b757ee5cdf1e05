#include "seigh/curvature/curvature.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/dot.h>

#include <cmath>
#include <limits>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/random.h"

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

void CurvatureOptions::validate() const {
  loss.validate();
  require(batch_size >= 0, "batch_size must not be negative: ", batch_size);
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

void check_reproducible(CurvatureOperator& op) {
  // Sums may be ordered differently by threads; what dropout or batch statistics change is far larger.
  const double eps = op.dtype() == at::kFloat ? std::numeric_limits<float>::epsilon()
                                              : std::numeric_limits<double>::epsilon();
  const double tolerance = 100 * eps * std::sqrt(static_cast<double>(op.size()));
  const char* const cause =
      "; usual causes are dropout left on and batch norm in training mode: put the network into evaluation "
      "mode";
  const double first = op.loss(), second = op.loss();
  require(std::isfinite(first), op.name(), ": the loss is ", first, "; check the parameters and the data");
  require(std::abs(first - second) <= tolerance * std::abs(first), op.name(),
          ": the loss differs between two evaluations (", first, ", ", second, ")", cause);
  const at::Tensor gradient = op.gradient(), again = op.gradient();
  const auto differs = [&](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).norm().item<double>() > tolerance * a.norm().item<double>();
  };
  require(!differs(gradient, again), op.name(), ": the gradient differs between two evaluations", cause);
  const at::Tensor block = random_gaussian(0, Stream::check, op.size(), 0, 2, op.dtype());
  const at::Tensor products = op.apply(block);
  require(!differs(products, op.apply(block)), op.name(), ": a product differs between two evaluations",
          cause);
  const auto product = [&](int64_t i, int64_t j) {
    return at::dot(block.select(1, i).to(at::kDouble), products.select(1, j).to(at::kDouble)).item<double>();
  };
  const double scale = (block.select(1, 0).norm() * products.select(1, 1).norm()).item<double>();
  require(std::abs(product(0, 1) - product(1, 0)) <= tolerance * scale, op.name(),
          ": the matrix is not symmetric: <u, A v> = ", product(0, 1), ", <v, A u> = ", product(1, 0),
          "; an operation of the network has a wrong second derivative");
}

}  // namespace seigh
