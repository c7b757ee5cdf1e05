// The density of all eigenvalues of a matrix that is known by its products: stochastic Lanczos quadrature
// (Ubaru, Chen, Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix Anal.
// Appl. 38(4), 2017; Ghorbani, Krishnan, Xiao, "An investigation into neural net optimization via Hessian
// eigenvalue density", ICML 2019).
//
// A random unit vector v weighs the eigenvalues by (u_k^T v)^2, each 1 / D on average. m steps of Lanczos'
// iteration from v, with all vectors orthogonalised against all before, twice, give a tridiagonal T whose
// eigenvalues are the nodes, and whose eigenvectors' squared first entries are the weights, of the Gauss
// quadrature of that measure. Several start vectors are multiplied together, each with a basis of its own;
// their results are averaged.
//
// How far an answer is off: by the choice of vectors, since for v uniform on the sphere the variance of v^T
// f(A) v is 2 / (D + 2) times that of f over the eigenvalues (of complex ones 1 / (D + 1)), which their own
// density gives; and by m. For the latter the cumulative distribution F of one vector's measure is known
// between bounds (Chebyshev, Markov, Stieltjes: Szego, "Orthogonal polynomials", Sec. 3.41): with nodes x_1 <
// x_2 < .. of weights w_1, w_2, ..
//   w_1 + .. + w_(i-1) <= F(x_i - 0) <= F(x_i) <= w_1 + .. + w_i.
// Where few eigenvalues make up a value, k of them, it is chi^2 of k * vectors degrees of freedom: by chance
// too small with an error that is too small, too. A vector whose iteration ends early, in an invariant
// subspace, has no such error. Cost: vectors * steps products, 8 D steps^2 flops a vector, D steps numbers
// for each vector at work: as many at once as memory allows, the others after them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

struct DensityOptions {
  int64_t vectors = 8;  ///< start vectors: errors fall as 1 / sqrt(vectors D)
  /// Of Lanczos, each a product for every vector. With vectors * steps >= D, D products with unit vectors are
  /// made and the answer is exact.
  int64_t steps = 64;
  uint64_t seed = 12345;
  /// Throws Error.
  void validate() const;
};

/// Numbers on a grid, float64 [n].
struct Curve {
  at::Tensor value;
  at::Tensor error;  ///< one standard deviation by the choice of vectors, and what the nodes leave open
};

struct Density {
  /// float64 [vectors, steps], ascending; of an exact answer [1, D]. Where the iteration ended early the last
  /// node is repeated with weight 0.
  at::Tensor nodes;
  at::Tensor weights;      ///< the same, each row of sum 1
  at::Tensor ended;        ///< bool [vectors]: whose measure is known exactly, the iteration having ended
  double rounding = 0;     ///< how far off a node may be by the products' errors alone
  bool exact = false;      ///< all eigenvalues, by unit vectors
  int64_t parameters = 0;  ///< D
  int beta = 1;            ///< 2 of complex matrices
  int64_t products = 0;
  double seconds = 0;

  /// The share of eigenvalues that are at most x, for each x of the grid (float64 [n]): in the middle between
  /// the bounds, whose distance is in the error.
  Curve cumulative(const at::Tensor& grid) const;
  /// The density, of integral 1, convolved with a Gaussian g of standard deviation `width` > rounding. The
  /// error allows for the nodes by the difference to three quarters of the steps: of the densities where the
  /// nodes are closer than width, elsewhere of the distributions, integral |F - F'| |g'|, which shows what
  /// falls between nodes.
  Curve smoothed(const at::Tensor& grid, double width) const;
  /// The mean of the eigenvalues' p-th powers, p = 0, 1, ...: value and error [1]. Quadrature adds no error
  /// as long as p < 2 steps. (trace() spends the same products better on p = 1.)
  Curve moment(int64_t p) const;
  /// The smallest and the largest node. Eigenvalues may lie beyond.
  double lowest() const;
  double highest() const;
  /// n points that cover the nodes, and four widths beyond.
  at::Tensor grid(int64_t n, double width) const;
  /// A width that the nodes resolve: the range of the nodes over half the steps.
  double resolved_width() const;

  at::Tensor fewer_nodes, fewer_weights;  ///< of three quarters of the steps

 private:
  at::Tensor sampling_error(const at::Tensor& mean, const at::Tensor& mean_square) const;
};

/// Throws MemoryError where D steps numbers do not fit.
Density density(LinearOperator& op, const DensityOptions& options = {}, const Context& context = Context());

}  // namespace seigh
