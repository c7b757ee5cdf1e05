// The curvature operator that suits a model best.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "seigh/curvature/hessian.h"

namespace seigh {

/// Stacked products for fully connected networks (mlp_curvature.h), one autograd graph for all others
/// (hessian.h). `model` must outlive the operator. Throws Error as their constructors do.
std::unique_ptr<LinearOperator> make_curvature_operator(const Model& model, const at::Tensor& parameters,
                                                        const std::vector<at::Tensor>& buffers,
                                                        const Dataset& data, const HessianOptions& options,
                                                        std::string name);

}  // namespace seigh
