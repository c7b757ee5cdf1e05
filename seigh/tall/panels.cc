#include "seigh/tall/panels.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "seigh/core/dtype.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {
namespace {

template <typename Body>
void for_panels(int64_t rows, int64_t step, const Body& body) {
  for (int64_t begin = 0; begin < rows; begin += step) body(begin, std::min(rows, begin + step));
}

}  // namespace

at::Tensor transposed_product(const at::Tensor& x, const at::Tensor& y) {
  if (x.is_same(y)) return gram(MemoryTallMatrix(x));
  return transposed_product(MemoryTallMatrix(x), y);
}

at::Tensor times_small(const at::Tensor& x, const at::Tensor& m) {
  return times_small(MemoryTallMatrix(x), m);
}

at::Tensor projections(const at::Tensor& x, const at::Tensor& y) {
  at::Tensor result = at::zeros({x.size(1), y.size(1)}, wide(x.scalar_type()));
  for_panels(x.size(0), 8192, [&](int64_t begin, int64_t end) {
    result.add_(at::matmul(x.slice(0, begin, end).mH(), y.slice(0, begin, end)));
  });
  return result;
}

void subtract_product(const at::Tensor& y, const at::Tensor& x, const at::Tensor& m) {
  y.addmm_(x, m.to(x.scalar_type()), 1, -1);
}

at::Tensor times_small_in_place(const at::Tensor& x, const at::Tensor& m) {
  at::Tensor result = x.slice(1, 0, m.size(1));
  for_panels(x.size(0), MemoryTallMatrix(x).panel_rows(), [&](int64_t begin, int64_t end) {
    result.slice(0, begin, end).copy_(panel_times(x.slice(0, begin, end).to(wide(x.scalar_type())), m));
  });
  return result;
}

}  // namespace seigh
