// Rescaling of hidden units, which changes parameters and leaves the function as it is.
//
// Between positively homogeneous functions (ReLU, maxima) a unit's incoming weights and bias may be
// multiplied by any c > 0 if its outgoing weights are divided by it (Neyshabur, Salakhutdinov, Srebro,
// "Path-SGD", NIPS 2015). Magnitudes change, and so do eigenvalues and eigenvectors of the Hessian. Balanced
// is the one choice where every unit's incoming norm (weights and bias together) is its outgoing norm, the
// least sum of squares of all parameters that take part. Found layer by layer, c = sqrt(outgoing / incoming),
// over and over until no ratio of norms is off by more than 1e-6: the sum of squares is a convex function of
// the log c and never rises. A sweep takes 2 D flops, and L hidden layers some L^2 sweeps.
#pragma once

#include <ATen/core/Tensor.h>

#include "seigh/nn/model.h"

namespace seigh {

/// `parameters` [D] of `model`, balanced; the dtype stays. Units without incoming or outgoing parameters
/// other than zero stay as they are. Throws Error where the model is not rescalable(), saying which are.
at::Tensor balanced(const Model& model, const at::Tensor& parameters);
/// Throws Error where balanced() would for that.
void require_rescalable(const Model& model);

}  // namespace seigh
