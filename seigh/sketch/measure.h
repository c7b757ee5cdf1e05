// The measurements of SEIGH: everything a recovery needs, taken while the products are in memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/base/progress.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

struct MeasureOptions {
  int64_t k = 0;      ///< outer measurements: columns of Y kept
  int64_t s = 0;      ///< all measurements: columns of Omega and Psi
  uint64_t seed = 0;  ///< of both test matrices
  int64_t block = 0;  ///< columns measured at once; 0: the operator's preference

  /// Throws Error unless 1 <= k <= s <= D.
  void validate(int64_t dimension) const;
};

/// Y = H Omega[:, :k], W = Psi^T H Omega and Omega^T Y, for independent SSRFT test matrices Omega, Psi in
/// R^{D x s}.
struct Sketch {
  int64_t k = 0, s = 0;
  uint64_t seed = 0;
  at::Tensor outer;        ///< Y, block [D, k], the operator's dtype
  at::Tensor inner;        ///< W, float64 [s, s]; its first k columns are Psi^T Y
  at::Tensor omega_outer;  ///< Omega^T Y, float64 [s, k]
  int64_t products = 0;    ///< products spent: s
};

/// Measures `op` once with each of s test vectors. Cost: s products, 4 s + 2 k FFTs of length about D, D k
/// numbers. Every column is independent of the others.
Sketch measure(LinearOperator& op, const MeasureOptions& options, Progress& progress = silent_progress());

}  // namespace seigh
