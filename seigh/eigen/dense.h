// The exact path: the whole matrix in float64, and LAPACK's symmetric eigensolver.
#pragma once

#include "seigh/core/context.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// What dense() takes: the matrix, its eigenvectors, and LAPACK's workspace of twice that.
int64_t dense_bytes(int64_t dimension, at::ScalarType dtype);

struct DenseResult {
  EigenResult result;
  at::Tensor matrix;  ///< the symmetrised matrix, float64 [D, D]
};

/// The whole matrix of `op` as float64 [D, D], by D products with unit vectors. D^2 x 8 bytes.
at::Tensor materialize(LinearOperator& op, const Context& context = Context());

/// All eigenvalues and the k selected eigenvectors, of products in full precision, decomposed on the
/// operator's device if there is room. Cost: D products, about 9 D^3 flops, 4 D^2 x 8 bytes. Throws Error
/// unless 1 <= k <= D.
DenseResult dense(LinearOperator& op, int64_t k, Selection selection = Selection::magnitude,
                  const Context& context = Context());

/// ||A - U Lambda U^T||_F for A float64 [D, D]. Cost 2 D^2 k flops.
double exact_error(const at::Tensor& matrix, const at::Tensor& eigenvalues, const Eigenvectors& eigenvectors);

}  // namespace seigh
