#include "seigh/tall/panels.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "seigh/core/dtype.h"
#include "seigh/core/full_precision.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {
namespace {

template <typename Body>
void for_panels(int64_t rows, int64_t step, const Body& body) {
  for (int64_t begin = 0; begin < rows; begin += step) body(begin, std::min(rows, begin + step));
}

constexpr int64_t kPanel = 8192;  // rows whose products are summed in the blocks' own precision

// add_projections() of as many panels as there are, in a few batches: a launch for each panel would take
// longer than its work.
void add_by_batches(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& y) {
  const int64_t panels = x.size(0) / kPanel, rest = panels * kPanel;
  const int64_t result_bytes =
      std::max<int64_t>(1, x.size(1) * y.size(1) * static_cast<int64_t>(x.element_size()));
  for_panels(panels, std::max<int64_t>(1, panel_bytes(x.device()) / result_bytes),
             [&](int64_t begin, int64_t end) {
               const auto batch = [&](const at::Tensor& block) {
                 return block.slice(0, begin * kPanel, end * kPanel).unflatten(0, {end - begin, kPanel});
               };
               sum.add_(at::bmm(batch(x).mH(), batch(y)).sum(0, /*keepdim=*/false, sum.scalar_type()));
             });
  if (rest < x.size(0)) sum.add_(at::matmul(x.slice(0, rest).mH(), y.slice(0, rest)));
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
  const at::Tensor sum = at::zeros({x.size(1), y.size(1)}, x.options().dtype(wide(x.scalar_type())));
  add_projections(sum, x, y);
  return sum.cpu();
}

void add_projections(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& y) {
  const FullPrecision full(x.device());
  if (!x.is_cpu()) return add_by_batches(sum, x, y);
  for_panels(x.size(0), kPanel, [&](int64_t begin, int64_t end) {
    sum.add_(at::matmul(x.slice(0, begin, end).mH(), y.slice(0, begin, end)));
  });
}

void subtract_product(const at::Tensor& y, const at::Tensor& x, const at::Tensor& m) {
  const FullPrecision full(x.device());
  y.addmm_(x, m.to(x.device(), x.scalar_type()), 1, -1);
}

at::Tensor times_small_in_place(const at::Tensor& x, const at::Tensor& m) {
  const FullPrecision full(x.device());
  const at::Tensor there = m.to(x.device());
  at::Tensor result = x.slice(1, 0, m.size(1));
  for_panels(x.size(0), MemoryTallMatrix(x).panel_rows(), [&](int64_t begin, int64_t end) {
    result.slice(0, begin, end).copy_(panel_times(x.slice(0, begin, end).to(wide(x.scalar_type())), there));
  });
  return result;
}

}  // namespace seigh
