#include "seigh/linop/linear_operator.h"

#include <ATen/ops/empty_strided.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <utility>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/timer.h"

namespace seigh {

at::Tensor empty_block(int64_t rows, int64_t columns, at::ScalarType dtype) {
  return at::empty_strided({rows, columns}, {1, std::max<int64_t>(rows, 1)}, dtype);
}

at::Tensor as_block(const at::Tensor& x) {
  return x.resolve_conj().t().contiguous().t();
}

LinearOperator::LinearOperator(int64_t size, at::ScalarType dtype, std::string name)
    : size_(size), dtype_(dtype), name_(std::move(name)) {
  require(size > 0, name_, ": size must be positive, not ", size);
  require(is_vector_dtype(dtype), name_,
          ": vectors are float32, float64, complex64 or complex128; they cannot be of dtype ", dtype);
}

at::Tensor LinearOperator::apply(const at::Tensor& block) {
  require(block.dim() == 2 && block.size(0) == size_, name_, ": expected a block of shape (", size_,
          ", b), got ", block.sizes());
  require(block.scalar_type() == dtype_, name_, ": expected dtype ", dtype_, ", got ", block.scalar_type());
  const Timer timer;
  at::Tensor result = as_block(apply_impl(block).detach().resolve_conj());
  require(result.sizes() == block.sizes(), name_, ": product has shape ", result.sizes(), ", expected ",
          block.sizes());
  // One sum decides: NaN and infinity survive every sum, while finite terms only overflow it together with
  // the norm.
  // In the vectors' own precision first, without a wider copy of the block: what overflows there may be
  // finite.
  if (!result.sum().isfinite().item<bool>() && !result.sum(wide(dtype_)).isfinite().item<bool>()) {
    require(block.sum(wide(dtype_)).isfinite().item<bool>(), name_,
            ": a vector to be multiplied holds NaN or infinity");
    for (int64_t j = 0; j < result.size(1); ++j)
      if (!result.select(1, j).sum(wide(dtype_)).isfinite().item<bool>())
        explain_not_finite(block.select(1, j));
    fail(name_, ": a product holds NaN or infinity; the operator must give finite numbers");
  }
  products_ += block.size(1);
  seconds_ += timer.seconds();
  return result;
}

at::Tensor LinearOperator::known_products(uint64_t) const {
  return {};
}

void LinearOperator::explain_not_finite(const at::Tensor&) const {}

}  // namespace seigh
