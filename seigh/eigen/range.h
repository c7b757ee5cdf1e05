// What the one- and two-pass sketches share: an orthonormal basis of a measured range, and the end of every
// sketch.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "seigh/core/context.h"
#include "seigh/eigen/options.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

/// T, float64 [k, r], with Y T orthonormal, r <= k the numerical rank of the block Y [D, k]. One or two
/// passes over Y.
at::Tensor orthonormalizer(const TallMatrix& y);

/// The same from the Gram matrix G = Y^T Y, float64 [k, k], alone: directions of singular values below
/// sqrt(k eps) ||Y|| are dropped, small ones orthonormal only to the rounding of G.
at::Tensor orthonormalizer_of_gram(const at::Tensor& gram);
/// (A + A^T) / 2.
at::Tensor symmetric_part(const at::Tensor& a);

/// Calls body(begin, end) for successive ranges of `count` columns, `block` (0: the operator's preference) at
/// a time.
template <typename Body>
void for_blocks(const LinearOperator& op, int64_t block, int64_t count, const Context& context,
                const Body& body) {
  const int64_t width = block > 0 ? block : op.preferred_block();
  for (int64_t begin = 0; begin < count; begin += width) {
    context.check_cancelled();
    body(begin, std::min(begin + width, count));
  }
}

/// Eigenpairs (values [r] in any order, vectors basis * coefficients) ordered by falling |lambda|.
EigenResult make_result(const std::string& method, const at::Tensor& values,
                        std::shared_ptr<const TallMatrix> basis, const at::Tensor& coefficients);

/// Which of the eigenvalues (any order) are the k selected ones, as keep_selected() orders them: the first
/// `rank` of `order`.
struct Selected {
  at::Tensor order;  // int64 [n]
  int64_t rank;
};
Selected select_pairs(const at::Tensor& values, int64_t k, Selection selection);

/// Keeps the first k pairs in the order of the selection, and of those found by magnitude only values that
/// can be among the leading ones of an end: of its sign. `residuals`, of all pairs (or undefined), follow the
/// order that the spectrum is then in.
void keep_selected(EigenResult& result, int64_t k, Selection selection, at::Tensor& residuals);

/// What residuals from a method's own products allow for errors of products of length `measured` (root mean
/// square, of unit vectors; 0: not measured), of an operator of that norm.
double rounding_bound(double measured, double norm, at::ScalarType dtype);

/// The end of a sketch that knows nothing of its residuals: spends options.probes products on them and on the
/// norm of the error, keeps the selected pairs and certifies them, their vectors on the host; notes the peak
/// memory. Of an operator that rounds() it keeps them alone: refined() follows.
void finish_sketch(LinearOperator& op, EigenResult& result, const SolverOptions& options,
                   const Context& context);

}  // namespace seigh
