#include "seigh/tall/qr.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/full_precision.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

at::Tensor qr_in_place(const at::Tensor& x, const Context& context) {
  const int64_t rows = x.size(0), n = x.size(1);
  require(rows >= n, "qr_in_place: a block of ", rows, " x ", n, " is not tall");
  // The last panel takes the rest. The stack of factors is an eighth of the block or less.
  const FullPrecision full(x.device());
  const int64_t fewest =  // on a device a few large ones
      x.is_cpu() ? 4096 : panel_bytes(x.device()) / wide_bytes(x.scalar_type()) / std::max<int64_t>(n, 1);
  const int64_t step = std::max(fewest, 8 * n), panels = std::max<int64_t>(1, rows / step);
  const auto panel = [&](int64_t i) { return x.slice(0, i * step, i + 1 < panels ? (i + 1) * step : rows); };
  std::vector<at::Tensor> factors;
  for (int64_t i = 0; i < panels; ++i) {
    context.check_cancelled();
    const auto [q, r] = at::linalg_qr(panel(i).to(wide(x.scalar_type())));
    if (panels == 1) {
      x.copy_(q);
      return r.cpu();
    }
    panel(i).copy_(q);
    factors.push_back(r);
  }
  const auto [q, r] = at::linalg_qr(at::cat(factors));
  for (int64_t i = 0; i < panels; ++i) {
    context.check_cancelled();
    panel(i).copy_(at::matmul(panel(i).to(wide(x.scalar_type())), q.slice(0, i * n, (i + 1) * n)));
  }
  return r.cpu();
}

}  // namespace seigh
