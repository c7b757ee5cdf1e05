// A-posteriori certificates: how far a computed eigendecomposition is from the operator, by fresh random
// probes [TYUC19, Sec. 6].
//
// For independent standard normal g_1..g_q,  est^2 = mean_i ||(A - A^) g_i||^2  is an unbiased estimate of
// ||A - A^||_F^2, with
//   P(est^2 <= (1 - eps) true^2) <= (e^eps  (1 - eps))^(beta q / 2)
//   P(est^2 >= (1 + eps) true^2) <= (e^-eps (1 + eps))^(beta q / 2),   beta = 1 for real probes, 2 for
//   complex ones.
// The same probes give every pair's residual at no further product: with E = A - A^ symmetric and u_i a unit
// vector, u_i^T E g ~ N(0, ||E u_i||^2) (complex normal for complex g) and E u_i = A u_i - lambda_i u_i, so
// mean_j (u_i^T E g_j)^2 estimates the squared residual, and the two bounds hold for it too (it is exactly
// chi-square distributed). Every |lambda_i| is within ||A u_i - lambda_i u_i|| of a true eigenvalue. TYUC19:
// Tropp, Yurtsever, Udell, Cevher, "Streaming low-rank matrix approximation", arXiv 1902.08651.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/core/context.h"
#include "seigh/eigen/selection.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

class Eigenvectors;

/// Bound on the probability that the squared error estimate of q probes is at most (1 - eps) times the truth,
/// 0 < eps < 1.
double probability_underestimate(int64_t q, double eps, int beta = 1);
/// The eps for which probability_underestimate is `probability`: with all but that probability true^2 <=
/// est^2 / (1 - eps).
double underestimate_margin(int64_t q, double probability, int beta = 1);
/// Bound on the probability that it is at least (1 + eps) times the truth, eps > 0.
double probability_overestimate(int64_t q, double eps, int beta = 1);

/// Probability with which one residual bound may fail.
inline constexpr double kResidualFailure = 1e-3;

/// An estimate of ||H - U Lambda U^T||_F and, from the same probes, of ||H||_F.
struct ErrorEstimate {
  int64_t probes = 0;
  int beta = 1;                  ///< 2 where they are complex
  double squared_error = 0;      ///< mean ||(H - H^) g||^2
  double squared_frobenius = 0;  ///< mean ||H g||^2

  double error() const;
  double frobenius() const;
  /// error() / frobenius(), 0 for the zero operator.
  double relative_error() const;
};

/// Fresh Gaussian vectors and their products, kept so that several answers can be held against them.
class Probes {
 public:
  /// Spends `count` products.
  Probes(LinearOperator& op, int64_t count, uint64_t seed, const Context& context = Context());
  int64_t count() const { return products_.size(1); }
  /// The error of eigenpairs; where `residual_bounds` is given, upper bounds on their residuals, each true
  /// with all but kResidualFailure probability: float64 [k].
  ErrorEstimate error(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors,
                      at::Tensor* residual_bounds = nullptr) const;
  /// mean ||(H - H^_k) g||^2 for H^_k of the first k pairs, k = 0..K: float64 [K + 1]. Resolves no less than
  /// the square root of the basis' precision.
  at::Tensor squared_errors(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors) const;

 private:
  ErrorEstimate error_in_one_pass(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors,
                                  at::Tensor& residual_bounds) const;
  at::Tensor with_products(int64_t begin, int64_t end) const;
  int64_t width_for(const Eigenvectors& eigenvectors) const;
  at::Tensor vectors(int64_t begin, int64_t end) const;
  int beta() const { return products_.is_complex() ? 2 : 1; }
  Context context_;
  uint64_t seed_;
  int64_t width_;        // vectors made at a time
  at::Tensor products_;  // H g, block [D, count]
};

/// Bounds on the share of ||H||_F^2 outside the k leading pairs, for every k [TYUC19, Sec. 6.5]: float64 [K]
/// each,
///   lower(k) = (tail_k / ||H^||)^2,  upper(k) = ((tail_k + err) / ||H^||)^2,  tail_k^2 = sum_{i >= k}
///   lambda_i^2.
struct Scree {
  at::Tensor lower, upper;
};
Scree scree(const at::Tensor& eigenvalues, double error);

/// How far a pair can be trusted.
enum class Trust : uint8_t {
  noise = 0,  ///< the residual reaches |lambda|: not even its sign is certain
  value = 1,  ///< an eigenvalue lies there, of that sign and no more than twice the size; the residual
              ///< reaches the gap to the next eigenvalue, so that the vector may mix those of several
  pair = 2,   ///< certified: eigenvalue and eigenvector
};
/// Of pairs with `residuals` (upper bounds), among the known eigenvalues `spectrum` whose first ones they
/// are: uint8 [k], values of Trust.
at::Tensor trust(const at::Tensor& residuals, const at::Tensor& spectrum);

/// Upper bounds on the distance of span(u_1..u_j) from the span of the true leading j eigenvectors,
/// ||sin Theta||_F / sqrt(j) (projection metric, between 0 and 1), for j = 1..k: float64 [k].
///
/// As P_out (H - lambda_i) u_i = P_out r_i for the projector P_out on the eigenvectors left out,
/// ||P_out u_i|| <= ||r_i|| / delta_i with delta_i the distance of lambda_i from the eigenvalues left out;
/// sum_i ||P_out u_i||^2 = ||sin Theta||_F^2. The eigenvalues left out are, within their residuals, the pairs
/// behind j and what unselected() says of the rest: the bound supposes that no pair has been missed.
at::Tensor subspace_errors(const at::Tensor& residuals, const at::Tensor& spectrum, Selection selection);

}  // namespace seigh
