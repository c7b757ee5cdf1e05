#include "seigh/eigen/result.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/matmul.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "seigh/core/dtype.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

Eigenvectors::Eigenvectors(at::Tensor basis, at::Tensor coefficients, Context context)
    : Eigenvectors(std::make_shared<MemoryTallMatrix>(std::move(basis), std::move(context)),
                   std::move(coefficients)) {}

Eigenvectors::Eigenvectors(std::shared_ptr<const TallMatrix> basis, at::Tensor coefficients)
    : basis_(std::move(basis)), coefficients_(std::move(coefficients)) {}

int64_t Eigenvectors::count() const {
  if (!basis_) return 0;
  return coefficients_.defined() ? coefficients_.size(1) : basis_->columns();
}

bool Eigenvectors::in_memory() const {
  return dynamic_cast<const MemoryTallMatrix*>(basis_.get()) != nullptr;
}

Eigenvectors Eigenvectors::compact() const {
  const auto copied = [](const TallMatrix& x) -> std::shared_ptr<const TallMatrix> {
    const auto* const memory = dynamic_cast<const MemoryTallMatrix*>(&x);
    if (memory == nullptr) return nullptr;
    return std::make_shared<MemoryTallMatrix>(memory->block().clone(), x.context());
  };
  std::shared_ptr<const TallMatrix> own = copied(*basis_);
  if (const auto* const divided = dynamic_cast<const DividedTallMatrix*>(basis_.get())) {
    own = copied(*divided->mine());
    if (own) own = std::make_shared<DividedTallMatrix>(basis_->rows(), own, basis_->context());
  }
  return own ? Eigenvectors(own, coefficients_) : *this;
}

namespace {

// Memory that a card copies to several times as fast as to the host's other memory; undefined where there is
// none.
at::Tensor pinned(c10::Device device, int64_t n, at::ScalarType dtype) {
  if (!device.is_cuda()) return {};
  try {
    return at::empty({n}, at::TensorOptions(dtype).pinned_memory(true));
  } catch (const c10::Error&) {
    return {};
  }
}

}  // namespace

Eigenvectors Eigenvectors::on_host() const {
  if (!basis_ || basis_->device().is_cpu()) return *this;
  if (const auto* const divided = dynamic_cast<const DividedTallMatrix*>(basis_.get())) {
    const Eigenvectors mine = Eigenvectors(divided->mine(), coefficients_).on_host();
    return {std::make_shared<DividedTallMatrix>(basis_->rows(), mine.basis_, basis_->context()), {}};
  }
  if (count() == 0) return Eigenvectors(empty_block(dimension(), 0, dtype()), {}, basis_->context());
  const at::Tensor u = empty_block(dimension(), count(), dtype());
  const int64_t column = std::max<int64_t>(1, dimension() * static_cast<int64_t>(u.element_size()));
  const int64_t width = std::clamp<int64_t>(panel_bytes(basis_->device()) / column, 1, count());
  const at::Tensor between = pinned(basis_->device(), width * dimension(), dtype());
  for (int64_t begin = 0; begin < count(); begin += width) {
    basis_->context().check_cancelled();
    const int64_t n = std::min(width, count() - begin);
    const at::Tensor some = columns(begin, n), to = u.slice(1, begin, begin + n);
    if (between.defined()) {
      const at::Tensor part = between.slice(0, 0, n * dimension()).view({n, dimension()}).t();
      to.copy_(part.copy_(some));
    } else {
      to.copy_(some);
    }
  }
  return Eigenvectors(u, {}, basis_->context());
}

Eigenvectors Eigenvectors::on_every_rank() const {
  if (!basis_ || !basis_->divided()) return *this;
  const at::Tensor u = empty_block(dimension(), count(), dtype());
  const int64_t column = std::max<int64_t>(1, dimension() * static_cast<int64_t>(u.element_size()));
  const int64_t width = basis_->context().ranks().agree(
      std::clamp<int64_t>(panel_bytes(at::kCPU) / column, 1, std::max<int64_t>(count(), 1)));
  const Share mine = basis_->share();
  for (int64_t begin = 0; begin < count(); begin += width) {
    const int64_t n = std::min(width, count() - begin);
    const at::Tensor some =
        formed() ? gather_rows(
                       dimension(),
                       as_block(basis_->row_range(mine.begin, mine.count).slice(1, begin, begin + n).cpu()),
                       basis_->context().ranks())
                 : columns(begin, n).cpu();
    u.slice(1, begin, begin + n).copy_(some);
  }
  return Eigenvectors(u, {}, basis_->context());
}

at::Tensor Eigenvectors::basis_in_memory() const {
  const auto* const memory = dynamic_cast<const MemoryTallMatrix*>(basis_.get());
  if (memory != nullptr) return memory->block();
  const Share mine = basis_->share();
  const at::Tensor rows = as_block(basis_->row_range(mine.begin, mine.count));
  return basis_->divided() ? gather_rows(basis_->rows(), rows, basis_->context().ranks()) : rows;
}

at::Tensor Eigenvectors::rows(const at::Tensor& index) const {
  const at::Tensor picked = basis_->select_rows(index).cpu().to(wide(dtype()));
  return coefficients_.defined() ? at::matmul(picked, coefficients_) : picked;
}

at::Tensor Eigenvectors::row_range(int64_t begin, int64_t n) const {
  const at::Tensor picked = basis_->row_range(begin, n).cpu().to(wide(dtype()));
  return coefficients_.defined() ? panel_times(picked, coefficients_) : picked;
}

at::Tensor Eigenvectors::rough_row_range(int64_t begin, int64_t n) const {
  if (!judged_) {
    judged_ = true;
    // U = B M is orthonormal, so B is about as ill-conditioned as M, and a sum of r products in float32 is
    // wrong by at most some eps sqrt(r) |B| |m_j|.
    if (coefficients_.defined() && coefficients_.numel() > 0 && basis_->dtype() == at::kFloat) {
      const at::Tensor sizes = at::linalg_svdvals(coefficients_);  // falling
      if (sizes[0].item<double>() <= 100 * sizes[-1].item<double>()) rough_ = coefficients_.to(at::kFloat);
    }
  }
  return rough_.defined() ? panel_times(basis_->row_range(begin, n).cpu(), rough_) : row_range(begin, n);
}

at::Tensor Eigenvectors::columns(int64_t begin, int64_t count) const {
  if (!coefficients_.defined()) return basis_in_memory().slice(1, begin, begin + count);
  return times_small(*basis_, coefficients_.slice(1, begin, begin + count));
}

Eigenvectors Eigenvectors::rotated(const at::Tensor& y) const {
  return Eigenvectors(basis_, formed() ? y : at::matmul(coefficients_, y));
}

Eigenvectors Eigenvectors::select(const at::Tensor& index) const {
  if (coefficients_.defined()) return Eigenvectors(basis_, coefficients_.index_select(1, index));
  return Eigenvectors(as_block(basis_in_memory().index_select(1, index.to(basis_->device()))), {},
                      basis_->context());
}

at::Tensor Eigenvectors::transposed_times(const at::Tensor& x) const {
  const at::Tensor product = transposed_product(*basis_, x);
  return coefficients_.defined() ? at::matmul(coefficients_.mH(), product) : product;
}

at::Tensor Eigenvectors::times(const at::Tensor& x) const {
  return times_small(*basis_, coefficients_.defined() ? at::matmul(coefficients_, x) : x);
}

}  // namespace seigh
