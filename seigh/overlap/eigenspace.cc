#include "seigh/overlap/eigenspace.h"

#include <ATen/ops/index_select.h>

#include <algorithm>
#include <utility>

#include "seigh/core/error.h"

namespace seigh {

void for_rows(const Eigenspace& space, int64_t piece, const std::string& task, const Context& context,
              const std::function<void(const at::Tensor& rows, int64_t begin)>& take) {
  const int64_t d = space.dimension(), k = space.count();
  const Share mine = space.divided() ? context.ranks().share(d) : Share{0, d};
  context.progress().begin(task, mine.count, "rows");
  for (int64_t begin = mine.begin; begin < mine.end(); begin += piece) {
    context.check_cancelled();
    const int64_t n = std::min(piece, mine.end() - begin);
    at::Tensor rows = space.row_range(begin, n).cpu();
    require(rows.dim() == 2 && rows.size(0) == n && rows.size(1) == k, "rows of the eigenspace have shape ",
            rows.sizes(), ", not [", n, ", ", k, "]");
    require(rows.scalar_type() == at::kFloat || rows.scalar_type() == at::kDouble,
            "rows of the eigenspace must be float32 or float64, got ", rows.scalar_type());
    if (rows.stride(0) != 1) rows = rows.t().contiguous().t();
    take(rows, begin);
    context.progress().advance(n);
  }
  context.progress().end();
}

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
