// The diagonal of a matrix that is known by its products: XDiag (Epperly, Tropp, Webber, SIAM J. Matrix Anal.
// Appl. 45(1), 2024, Sec. 2.4; trace.h has the idea and the notation).
//
// With random signs w_i, the diagonal of Q_i Q_i^T A exactly and that of the rest by w_i,
//   d_i = diag(Q_i Q_i^T A) + w_i * (I - Q_i Q_i^T) A w_i      (* entry by entry)
// has the diagonal for its mean; the estimate is the mean of the n, the error of each entry follows
// from their spread. With u_i = Q s_i,
//   d_i = diag(Q (A Q)^T) - u_i * A u_i + (s_i^T r_i) w_i * u_i.
//
// Cost: m = 2 n products, 4 D m^2 flops, D m numbers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/spectrum/trace.h"

namespace seigh {

struct DiagonalResult {
  at::Tensor diagonal;  ///< float64 [D]
  at::Tensor error;     ///< float64 [D]: one standard deviation of each entry, estimated
  double relative_error =
      0;               ///< the length of error over that of diagonal; 0 of a zero diagonal without error
  bool exact = false;  ///< by unit vectors; errors are rounding alone
  int64_t products = 0;
  double seconds = 0;
};

/// diag(A). Throws MemoryError where D m numbers do not fit.
DiagonalResult diagonal(LinearOperator& op, const TraceOptions& options = {},
                        const Context& context = Context());

}  // namespace seigh
