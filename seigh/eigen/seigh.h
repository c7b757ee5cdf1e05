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

#include <string>

#include "seigh/core/filesystem.h"
#include "seigh/core/progress.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/sketch/measure.h"

namespace seigh {

struct SeighOptions {
  int64_t k = 0;  ///< eigenpairs wanted
  int64_t s = 0;  ///< products for the sketch; 0: 2 k
  uint64_t seed = 0;
  int64_t probes = 30;                         ///< products for the a-posteriori error; 0: no certificate
  int64_t block = 0;                           ///< vectors per product; 0: the operator's preference
  Selection selection = Selection::magnitude;  ///< among the k found by magnitude
  std::string test_matrix = "ssrft";           ///< or "sparse", see sketch/test_matrix.h
  /// Folder of a sketch store: measurements go there, those that are there are not made again, and Y is read
  /// from it by panels. Empty: in memory. The caller removes it.
  fs::path store = {};

  std::string storage = "full";  ///< of the store's columns, see SketchPlan

  /// Throws Error unless 1 <= k <= s <= D and probes >= 0.
  void validate(int64_t dimension) const;
  SketchPlan plan(const std::string& name, int64_t rows, at::ScalarType dtype) const;
};

/// Eigenpairs from measurements already taken. Costs no products.
EigenResult recover(const Sketch& sketch);

/// Measures, recovers and certifies. Throws Error on invalid options or when a product is not finite.
EigenResult seigh(LinearOperator& op, const SeighOptions& options, Progress& progress = silent_progress());

}  // namespace seigh
