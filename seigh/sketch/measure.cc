#include "seigh/sketch/measure.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "seigh/base/error.h"
#include "seigh/sketch/ssrft.h"

namespace seigh {

void MeasureOptions::validate(int64_t dimension) const {
  require(k >= 1, "k must be at least 1, not ", k);
  require(s >= k, "s must be at least k: s = ", s, ", k = ", k, " (the usual choice is s = 2 k)");
  require(s <= dimension, "s must not exceed the number of parameters: s = ", s, ", D = ", dimension);
  require(block >= 0, "block must not be negative: ", block);
}

Sketch measure(LinearOperator& op, const MeasureOptions& options, Progress& progress) {
  options.validate(op.size());
  const int64_t k = options.k, s = options.s;
  const int64_t width = options.block > 0 ? options.block : op.preferred_block();
  const Ssrft omega(op.size(), s, options.seed, Stream::omega, op.dtype());
  const Ssrft psi(op.size(), s, options.seed, Stream::psi, op.dtype());

  Sketch sketch;
  sketch.k = k;
  sketch.s = s;
  sketch.seed = options.seed;
  sketch.outer = empty_block(op.size(), k, op.dtype());
  sketch.inner = at::empty({s, s}, at::kDouble);
  sketch.omega_outer = at::empty({s, k}, at::kDouble);
  progress.begin("measuring " + op.name(), s, "products");
  for (int64_t begin = 0; begin < s; begin += width) {
    const int64_t count = std::min(width, s - begin);
    const at::Tensor y = op.apply(omega.block(begin, count));
    sketch.inner.slice(1, begin, begin + count).copy_(psi.transposed_product(y));
    if (begin < k) {
      const int64_t outer = std::min(count, k - begin);
      const at::Tensor y_outer = y.slice(1, 0, outer);
      sketch.outer.slice(1, begin, begin + outer).copy_(y_outer);
      sketch.omega_outer.slice(1, begin, begin + outer).copy_(omega.transposed_product(y_outer));
    }
    progress.advance(count);
  }
  progress.end();
  sketch.products = s;
  return sketch;
}

}  // namespace seigh
