#include "seigh/linop/linear_operator.h"

#include <ATen/ops/empty_strided.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/core/timer.h"

namespace seigh {

at::Tensor empty_block(int64_t rows, int64_t columns, at::ScalarType dtype, c10::Device device) {
  return at::empty_strided({rows, columns}, {1, std::max<int64_t>(rows, 1)},
                           at::TensorOptions(dtype).device(device));
}

namespace {

// Columns one after the other of what lies by rows, in pieces that stay in a cache; by at::copy_ it takes one
// thread and several times as long.
template <typename T>
void columns_of_rows(const at::Tensor& x, at::Tensor& block) {
  const int64_t rows = x.size(0), columns = x.size(1), stride = x.stride(0);
  const int64_t piece =
      std::max<int64_t>((int64_t{1} << 15) / (columns * static_cast<int64_t>(sizeof(T))), 16);
  const T* const from = static_cast<const T*>(x.const_data_ptr());
  T* const to = static_cast<T*>(block.mutable_data_ptr());
  parallel_for((rows + piece - 1) / piece, [&](int64_t p) {
    const int64_t begin = p * piece, end = std::min(begin + piece, rows);
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = begin; r < end; ++r) to[c * rows + r] = from[r * stride + c];
  });
}

}  // namespace

at::Tensor as_block(const at::Tensor& x) {
  const at::Tensor resolved = x.resolve_conj();
  const size_t bytes = resolved.element_size();
  if (!resolved.is_cpu() || resolved.dim() != 2 || resolved.stride(1) != 1 || resolved.size(1) < 2 ||
      resolved.size(0) < 4096 || resolved.requires_grad() || resolved.is_neg() || (bytes != 4 && bytes != 8))
    return resolved.t().contiguous().t();
  at::Tensor block = empty_block(resolved.size(0), resolved.size(1), resolved.scalar_type());
  bytes == 4 ? columns_of_rows<uint32_t>(resolved, block) : columns_of_rows<uint64_t>(resolved, block);
  return block;
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
  require(block.is_cpu() || block.device() == device(), name_, ": a block on ", block.device(),
          "; it must be on the CPU", device().is_cpu() ? "" : " or on " + device().str());
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
  count(block.size(1), timer.seconds());
  return result;
}

void LinearOperator::count(int64_t products, double seconds) {
  products_ += products;
  seconds_ += seconds;
}

at::Tensor LinearOperator::known_products(uint64_t) const {
  return {};
}

void LinearOperator::explain_not_finite(const at::Tensor&) const {}

}  // namespace seigh
