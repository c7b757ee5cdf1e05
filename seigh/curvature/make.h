// The curvature operator that suits a network best.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "seigh/curvature/curvature.h"
#include "seigh/curvature/graph_source.h"
#include "seigh/data/dataset.h"

namespace seigh {

/// The source's own products where it has faster ones, else automatic differentiation (autograd_curvature.h);
/// by differences where options.products say so, in float64 within. Not checked: check.h does that; but where
/// options.precision rounds products further than float32 does, what that comes to is measured, by three
/// products of each. Throws Error as their constructors do, and on differences of a source that has no
/// float64.
std::unique_ptr<CurvatureOperator> make_curvature_operator(const std::shared_ptr<const GraphSource>& source,
                                                           const CurvatureOptions& options,
                                                           const std::string& name,
                                                           const Context& context = Context());

/// Of a model in evaluation mode at flat parameters [D], its loss options.loss on `data`. `model` must
/// outlive the operator.
std::unique_ptr<CurvatureOperator> make_curvature_operator(const Model& model, const at::Tensor& parameters,
                                                           const std::vector<at::Tensor>& buffers,
                                                           const Dataset& data,
                                                           const CurvatureOptions& options,
                                                           const std::string& name,
                                                           const Context& context = Context());

/// Sets op.product_error() to the length of (A - A32) g for unit vectors g, A32 being A in full precision: of
/// two that are random, and of one that lies among the leading eigenvectors, where rounding is largest.
void measure_rounding(CurvatureOperator& op);

}  // namespace seigh
