// SEIGH: single-pass sketched eigendecomposition of a symmetric operator, in its streaming form.
//
// Algorithm 2 of Fernandez, Schneider, Mahsereci, Hennig, "Connecting Parameter Magnitudes and Hessian
// Eigenspaces at Scale using Sketched Methods" (TMLR 2025, arXiv 2504.14701), after Tropp et al. (arXiv
// 1902.08651):
//   y_i = H omega_i, i = 1..s;  Y = [y_1..y_k], W = Psi^T [y_1..y_s];  Q = orth(Y);
//   C = (Psi^T Q)^+ W ((Omega^T Q)^+)^T, symmetrised;  C = E Lambda E^T;  U = Q E.
// Departure from the paper: Psi^T Y and Omega^T Y are taken while Y is in memory (sketch/measure.h). With the
// Gram matrix G = Y^T Y = V S^2 V^T in float64 and T = V S^-1 (numerically zero S dropped), Q = Y T, Psi^T Q
// = (Psi^T Y) T and Omega^T Q = (Omega^T Y) T, so recovery needs one pass over Y and no second pass over the
// test matrices. Cost: s products, 2 D k^2 flops for G, O(s^3) for the rest, D k numbers of memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "seigh/core/context.h"
#include "seigh/eigen/options.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/sketch/measure.h"

namespace seigh {

/// What a sketch with these options measures of an operator; its width is options.block.
SketchPlan sketch_plan(const SolverOptions& options, const std::string& name, int64_t rows,
                       at::ScalarType dtype);

/// Eigenpairs from measurements already taken. Costs no products. What is tall is multiplied on `device`,
/// wherever it lies.
EigenResult recover(const Sketch& sketch, c10::Device device = at::kCPU);

/// Measures, recovers and certifies. Throws Error on invalid options or when a product is not finite.
EigenResult seigh(LinearOperator& op, const SolverOptions& options, const Context& context = Context());

}  // namespace seigh
