// Which curvature matrix of a loss is meant.
#pragma once

#include <string>

namespace seigh {

/// Of the mean loss L(theta) = 1/N sum_n l(f_n(theta)): the Hessian d^2 L / dtheta^2, or its generalised
/// Gauss-Newton part 1/N sum_n J_n^T l''(f_n) J_n with J_n = df_n / dtheta.
enum class CurvatureKind { hessian, ggn };

/// "hessian" or "ggn"; throws Error on another name.
CurvatureKind parse_curvature(const std::string& name);

}  // namespace seigh
