// The curvature operator that suits a model best.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "seigh/curvature/curvature.h"
#include "seigh/data/dataset.h"

namespace seigh {

/// Stacked products for fully connected networks (mlp_curvature.h), automatic differentiation for all others
/// (autograd_curvature.h). `model` must outlive the operator. Throws Error as their constructors do.
std::unique_ptr<CurvatureOperator> make_curvature_operator(const Model& model, const at::Tensor& parameters,
                                                           const std::vector<at::Tensor>& buffers,
                                                           const Dataset& data,
                                                           const CurvatureOptions& options, std::string name);

}  // namespace seigh
