#include "seigh/linop/tall_matrix.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "seigh/base/error.h"
#include "seigh/base/interrupt.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {
namespace {

template <typename Body>
void for_panels(const TallMatrix& x, const Body& body) {
  for (int64_t begin = 0; begin < x.rows(); begin += x.panel_rows()) {
    check_interrupt();
    const int64_t n = std::min(x.panel_rows(), x.rows() - begin);
    body(begin, n, x.row_range(begin, n));
  }
}

// result += A^T A, the upper triangle by blocks of columns.
void add_gram(const at::Tensor& result, const at::Tensor& a) {
  const int64_t k = a.size(1), step = std::max<int64_t>(64, (k + 7) / 8);
  for (int64_t begin = 0; begin < k; begin += step) {
    const int64_t end = std::min(begin + step, k);
    result.slice(0, begin, end).slice(1, begin).addmm_(a.slice(1, begin, end).t(), a.slice(1, begin));
  }
}

at::Tensor mirrored(const at::Tensor& upper) {
  return upper.triu() + upper.triu(1).t();
}

}  // namespace

MemoryTallMatrix::MemoryTallMatrix(at::Tensor block) : block_(std::move(block)) {}

at::Tensor MemoryTallMatrix::select_rows(const at::Tensor& index) const {
  return block_.index_select(0, index);
}

// The float64 copy of a panel stays near 32 MB, small beside the block and large enough for full gemm speed.
int64_t MemoryTallMatrix::panel_rows() const {
  return std::max<int64_t>(1024, (int64_t{1} << 22) / std::max<int64_t>(columns(), 1));
}

at::Tensor gram(const TallMatrix& x) {
  const at::Tensor result = at::zeros({x.columns(), x.columns()}, at::kDouble);
  for_panels(x, [&](int64_t, int64_t, const at::Tensor& panel) { add_gram(result, panel.to(at::kDouble)); });
  return mirrored(result);
}

at::Tensor gram_of_product(const TallMatrix& x, const at::Tensor& m) {
  const at::Tensor result = at::zeros({m.size(1), m.size(1)}, at::kDouble);
  for_panels(x, [&](int64_t, int64_t, const at::Tensor& panel) {
    add_gram(result, at::matmul(panel.to(at::kDouble), m));
  });
  return mirrored(result);
}

at::Tensor transposed_product(const TallMatrix& x, const at::Tensor& y) {
  require(y.size(0) == x.rows(), "a block of ", x.rows(), " rows is needed, got ", y.sizes());
  const at::Tensor result = at::zeros({x.columns(), y.size(1)}, at::kDouble);
  for_panels(x, [&](int64_t begin, int64_t n, const at::Tensor& panel) {
    result.addmm_(panel.to(at::kDouble).t(), y.slice(0, begin, begin + n).to(at::kDouble));
  });
  return result;
}

at::Tensor times_small(const TallMatrix& x, const at::Tensor& m) {
  const at::Tensor result = empty_block(x.rows(), m.size(1), x.dtype());
  for_panels(x, [&](int64_t begin, int64_t n, const at::Tensor& panel) {
    result.slice(0, begin, begin + n).copy_(at::matmul(panel.to(at::kDouble), m));
  });
  return result;
}

}  // namespace seigh
