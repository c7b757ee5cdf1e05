#include "seigh/overlap/eigenspace.h"

#include <ATen/ops/index_select.h>

#include <utility>

#include "seigh/core/error.h"

namespace seigh {

DenseEigenspace::DenseEigenspace(at::Tensor vectors) : vectors_(std::move(vectors)) {
  require(vectors_.dim() == 2 && vectors_.size(1) >= 1 && vectors_.size(1) <= vectors_.size(0),
          "eigenvectors are the columns of a matrix [D, K], 1 <= K <= D, got shape ", vectors_.sizes());
  require(vectors_.scalar_type() == at::kFloat || vectors_.scalar_type() == at::kDouble,
          "eigenvectors must be float32 or float64, got ", vectors_.scalar_type());
}

at::Tensor DenseEigenspace::rows(const at::Tensor& index) const {
  return vectors_.index_select(0, index.to(vectors_.device()));
}

at::Tensor DenseEigenspace::row_range(int64_t begin, int64_t n) const {
  return vectors_.narrow(0, begin, n);
}

}  // namespace seigh
