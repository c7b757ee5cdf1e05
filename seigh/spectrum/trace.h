// The trace of a matrix that is known by its products: XTrace (Epperly, Tropp, Webber, "XTrace: making the
// most of every sample in stochastic trace estimation", SIAM J. Matrix Anal. Appl. 45(1), 2024, Sec. 2 and 3,
// for symmetric matrices).
//
// Half of m products find a range, Y = A Omega = Q R, Omega = [w_1 .. w_n], n = m / 2; the other half are A
// Q. With Q_i a basis of the range of Y without its i-th column, and w_i therefore independent of it,
//   t_i = tr(Q_i^T A Q_i) + (D - n + 1) v^T A v / |v|^2,   v = (I - Q_i Q_i^T) w_i,
// has the trace for its mean: what the range holds of it exactly, the rest by a random direction of the rest.
// The estimate is the mean of the n. Q_i Q_i^T = Q (I - s_i s_i^T) Q^T with s_i the i-th column of R^-T,
// normalised, so that all t_i follow from small matrices: R = Q^T A Omega, W = Q^T Omega, H = Q^T A Q. The
// error falls with the eigenvalues that Q leaves, of semidefinite matrices at least as 1 / m does, plain
// sampling's as 1 / sqrt(m).
//
// Cost: m products, 4 D m^2 flops, D m / 2 numbers.
// Departures: Gaussian vectors, of which only the direction counts; where columns of Y depend on each other
// to rounding, s_i is a direction of rounding, in which there is nothing to leave out; the standard error is
// widened for what the estimates share, and for their being few (leave_one_out.h).
#pragma once

#include <cstdint>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// Of trace() and diagonal().
struct TraceOptions {
  /// Products to spend, an odd one not; at least 8, that four estimates can differ. With at least D of them,
  /// D are spent, with unit vectors, for the exact answer.
  int64_t products = 100;
  uint64_t seed = 12345;
  /// Throws Error.
  void validate(int64_t size) const;
};

struct TraceResult {
  double trace = 0;
  /// One standard deviation of it, estimated: from the spread of the t_i, and rounding (of products as
  /// measured, LinearOperator::product_error(), or in their dtype).
  double error = 0;
  bool exact = false;  ///< by unit vectors; the error is rounding alone
  int64_t products = 0;
  double seconds = 0;
};

/// tr(A). Throws MemoryError where D m / 2 numbers do not fit.
TraceResult trace(LinearOperator& op, const TraceOptions& options = {}, const Context& context = Context());

}  // namespace seigh
