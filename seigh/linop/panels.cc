#include "seigh/linop/panels.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "seigh/linop/linear_operator.h"

namespace seigh {
namespace {

// Rows of a panel: the float64 copy stays near 32 MB, small beside the block and large enough for full gemm
// speed.
int64_t panel_rows(int64_t columns) {
  return std::max<int64_t>(1024, (int64_t{1} << 22) / std::max<int64_t>(columns, 1));
}

template <typename Body>
void for_panels(int64_t rows, int64_t step, const Body& body) {
  for (int64_t begin = 0; begin < rows; begin += step) body(begin, std::min(rows, begin + step));
}

}  // namespace

at::Tensor transposed_product(const at::Tensor& x, const at::Tensor& y) {
  at::Tensor result = at::zeros({x.size(1), y.size(1)}, at::kDouble);
  for_panels(x.size(0), panel_rows(x.size(1) + y.size(1)), [&](int64_t begin, int64_t end) {
    const at::Tensor a = x.slice(0, begin, end).to(at::kDouble);
    const at::Tensor b = x.is_same(y) ? a : y.slice(0, begin, end).to(at::kDouble);
    result.addmm_(a.t(), b);
  });
  return result;
}

at::Tensor times_small(const at::Tensor& x, const at::Tensor& m) {
  at::Tensor result = empty_block(x.size(0), m.size(1), x.scalar_type());
  for_panels(x.size(0), panel_rows(x.size(1) + m.size(1)), [&](int64_t begin, int64_t end) {
    result.slice(0, begin, end).copy_(at::matmul(x.slice(0, begin, end).to(at::kDouble), m));
  });
  return result;
}

at::Tensor gram_of_product(const at::Tensor& x, const at::Tensor& m) {
  at::Tensor result = at::zeros({m.size(1), m.size(1)}, at::kDouble);
  for_panels(x.size(0), panel_rows(x.size(1) + m.size(1)), [&](int64_t begin, int64_t end) {
    const at::Tensor product = at::matmul(x.slice(0, begin, end).to(at::kDouble), m);
    result.addmm_(product.t(), product);
  });
  return result;
}

at::Tensor projections(const at::Tensor& x, const at::Tensor& y) {
  at::Tensor result = at::zeros({x.size(1), y.size(1)}, at::kDouble);
  for_panels(x.size(0), 8192, [&](int64_t begin, int64_t end) {
    result.add_(at::matmul(x.slice(0, begin, end).t(), y.slice(0, begin, end)));
  });
  return result;
}

void subtract_product(const at::Tensor& y, const at::Tensor& x, const at::Tensor& m) {
  y.addmm_(x, m.to(x.scalar_type()), 1, -1);
}

at::Tensor times_small_in_place(const at::Tensor& x, const at::Tensor& m) {
  at::Tensor result = x.slice(1, 0, m.size(1));
  for_panels(x.size(0), panel_rows(x.size(1) + m.size(1)), [&](int64_t begin, int64_t end) {
    result.slice(0, begin, end).copy_(at::matmul(x.slice(0, begin, end).to(at::kDouble), m));
  });
  return result;
}

}  // namespace seigh
