// How much of a matrix its leading eigenpairs are: of the squared Frobenius norm
//
//   kappa_k = sum_{i <= k} lambda_i^2 / ||H||_F^2,
//
// and of the nuclear norm sum_{i <= k} |lambda_i| / sum_i |lambda_i|, where every eigenvalue is known.
//
// Of krylov and hmt, ||H||^2 = ||T||^2 + 2 ||S||^2 + ||B||^2 (docs/theory.md), of which probes estimate
// ||B||^2 alone; of sketches all of ||H||^2. The interval turns around the bounds of probes.h: with q probes
// and an estimate e^2, e^2 / (1 + eps) <= truth <= e^2 / (1 - eps'), each side but for a probability of .025,
// whatever the spectrum. It is about the norm: that krylov's and hmt's eigenvalues lie inside the true ones'
// range makes the numerator too small where pairs are not certified, and a sketch's are off either way.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "seigh/eigen/result.h"

namespace seigh {

struct Concentration {
  at::Tensor share, low, high;  ///< float64 [rank], by k - 1; undefined where ||H|| is not known
  at::Tensor nuclear;           ///< float64 [rank]; undefined unless all `dimension` eigenvalues are known

  bool defined() const { return share.defined(); }
};

/// Of the pairs in their own order, whatever their selection.
Concentration concentration(const EigenResult& result, int64_t dimension);

}  // namespace seigh
