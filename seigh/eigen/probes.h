// How far a computed eigendecomposition is from the operator, by fresh random probes [TYUC19, Sec. 6].
//
// For independent standard normal g_1..g_q,  est^2 = mean_i ||(A - A^) g_i||^2  is an unbiased estimate of
// ||A - A^||_F^2, with
//   P(est^2 <= (1 - eps) true^2) <= (e^eps  (1 - eps))^(beta q / 2)
//   P(est^2 >= (1 + eps) true^2) <= (e^-eps (1 + eps))^(beta q / 2),   beta = 1 for real probes, 2 for
//   complex ones.
// The same probes give every pair's residual at no further product: with E = A - A^ symmetric and u_i a unit
// vector, u_i^T E g ~ N(0, ||E u_i||^2) (complex normal for complex g) and E u_i = A u_i - lambda_i u_i, so
// mean_j (u_i^T E g_j)^2 estimates the squared residual; divided by the truth it is chi-square distributed
// with beta q degrees of freedom, over beta q. The spectral norm is bounded in the same way: with v the
// leading unit eigenvector of E, v^T E G = beta x^T for x ~ N(0, I_q), so sigma_max(E G) >= ||E||_2 ||x||.
// TYUC19: Tropp, Yurtsever, Udell, Cevher, "Streaming low-rank matrix approximation", arXiv 1902.08651.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

class Eigenvectors;

/// Bound on the probability that the squared error estimate of q probes is at most (1 - eps) times the truth,
/// 0 < eps < 1.
double probability_underestimate(int64_t q, double eps, int beta = 1);
/// Bound on the probability that it is at least (1 + eps) times the truth, eps > 0.
double probability_overestimate(int64_t q, double eps, int beta = 1);

/// The x with P(chi^2_n <= x) = probability, n > 0 degrees of freedom.
double chi_square_quantile(double n, double probability);

/// Probability with which one bound by probes may fail: of a residual, of a norm.
inline constexpr double kProbeFailure = 1e-3;

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
  /// Spends `count` products, less those the operator knows.
  Probes(LinearOperator& op, int64_t count, uint64_t seed, const Context& context = Context());
  int64_t count() const { return products_.size(1); }
  /// The error of eigenpairs.
  ErrorEstimate error(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors) const;
  /// Upper bounds, each true with all but kProbeFailure probability.
  struct Bounds {
    at::Tensor residuals;  ///< of the pairs, float64 [k]
    double norm;           ///< of ||H - H^||_2
  };
  Bounds bounds(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors) const;
  /// H g of the probes [begin, end), and they themselves: blocks [D, end - begin], on the operator's device
  /// or the host, as there is room.
  at::Tensor products(int64_t begin, int64_t end) const { return products_.slice(1, begin, end); }
  at::Tensor vectors(int64_t begin, int64_t end) const;
  /// With all but kProbeFailure probability an upper bound on ||A||_2, given the largest eigenvalue of the
  /// Gram matrix (A G)^T (A G) of a matrix times the probes.
  double norm_bound(double largest_of_gram) const;
  /// The error of the first k Ritz pairs (`values` float64 [p], those first) of a projection H V1 = V1 T + V2
  /// S: `coupling` is ||S||_F^2, `rest` the probes' estimate of ||B||_F^2, B = P H P on the complement of V1.
  ErrorEstimate error_of_projection(const at::Tensor& values, int64_t k, double coupling, double rest) const;
  /// mean ||(H - H^_k) g||^2 for H^_k of the first k pairs, k = 0..K: float64 [K + 1]. Resolves no less than
  /// the square root of the basis' precision.
  at::Tensor squared_errors(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors) const;

 private:
  double norm_factor() const;  // sqrt(chi^2 quantile): |x| of a row of probes is above it
  at::Tensor missed(const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors, int64_t begin,
                    int64_t end) const;
  at::Tensor with_products(int64_t begin, int64_t end) const;
  int64_t width_for(const Eigenvectors& eigenvectors) const;
  int beta() const { return products_.is_complex() ? 2 : 1; }
  Context context_;
  uint64_t seed_;
  int64_t width_;        // vectors made at a time
  at::Tensor products_;  // H g, block [D, count]
};

}  // namespace seigh
