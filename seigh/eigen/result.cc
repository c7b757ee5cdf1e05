#include "seigh/eigen/result.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/full_precision.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/transfers.h"

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
  const auto* const streamed = dynamic_cast<const StreamedMatrix*>(basis_.get());
  const TallMatrix* const basis = streamed != nullptr ? streamed->host().get() : basis_.get();
  return dynamic_cast<const MemoryTallMatrix*>(basis) != nullptr;
}

namespace {

// X with leaf() in the place of every matrix that it is made of.
template <typename Leaf>
std::shared_ptr<const TallMatrix> rebuilt(const std::shared_ptr<const TallMatrix>& x, const Leaf& leaf) {
  if (const auto* const divided = dynamic_cast<const DividedTallMatrix*>(x.get()))
    return std::make_shared<DividedTallMatrix>(x->rows(), rebuilt(divided->mine(), leaf), x->context());
  if (const auto* const stacked = dynamic_cast<const StackedMatrix*>(x.get())) {
    std::vector<std::shared_ptr<const TallMatrix>> parts;
    for (const auto& part : stacked->parts()) parts.push_back(rebuilt(part, leaf));
    return std::make_shared<StackedMatrix>(std::move(parts));
  }
  return leaf(x);
}

// Columns [begin, begin + count) of B, or B M where there is an M, as a block on the host.
at::Tensor copied(const TallMatrix& b, const at::Tensor& m, int64_t begin, int64_t count) {
  const at::Tensor result = empty_block(b.rows(), count, b.dtype());
  Transfers transfers(b.device(), piece_bytes(static_cast<int64_t>(result.nbytes())), b.context());
  for_panels(b, [&](int64_t first, int64_t n, const at::Tensor& rows) {
    transfers.copy(result.slice(0, first, first + n),
                   m.defined() ? panel_times(rows.to(m.scalar_type()), m).to(b.dtype())
                               : rows.slice(1, begin, begin + count));
  });
  return result;
}

}  // namespace

Eigenvectors Eigenvectors::compact() const {
  const auto own = [](const std::shared_ptr<const TallMatrix>& x) -> std::shared_ptr<const TallMatrix> {
    const auto* const memory = dynamic_cast<const MemoryTallMatrix*>(x.get());
    if (memory == nullptr) return x;
    return std::make_shared<MemoryTallMatrix>(memory->block().clone(), x->context());
  };
  return Eigenvectors(rebuilt(basis_, own), coefficients_);
}

Eigenvectors Eigenvectors::on_host() const {
  if (!basis_ || basis_->device().is_cpu()) return *this;
  const FullPrecision full(basis_->device());
  if (formed()) {
    const auto here = [](const std::shared_ptr<const TallMatrix>& x) -> std::shared_ptr<const TallMatrix> {
      if (x->device().is_cpu()) return x;
      if (const auto* const streamed = dynamic_cast<const StreamedMatrix*>(x.get())) return streamed->host();
      return std::make_shared<MemoryTallMatrix>(copied(*x, {}, 0, x->columns()), x->context());
    };
    return {rebuilt(basis_, here), {}};
  }
  if (const auto* const divided = dynamic_cast<const DividedTallMatrix*>(basis_.get())) {
    const Eigenvectors mine = Eigenvectors(divided->mine(), coefficients_).on_host();
    return {std::make_shared<DividedTallMatrix>(basis_->rows(), mine.basis_, basis_->context()), {}};
  }
  // What is on the host already is multiplied by the device while there is room for the result.
  if (const auto* const streamed = dynamic_cast<const StreamedMatrix*>(basis_.get())) {
    const int64_t bytes = dimension() * count() * static_cast<int64_t>(c10::elementSize(dtype()));
    if (divided() || bytes > basis_->context().memory().available() / 2)
      return Eigenvectors(streamed->host(), coefficients_);
  }
  return Eigenvectors(copied(*basis_, coefficients_.to(basis_->device()), 0, count()), {}, basis_->context());
}

Eigenvectors Eigenvectors::on_every_rank() const {
  if (!basis_ || !basis_->divided()) return *this;
  const at::Tensor u = empty_block(dimension(), count(), dtype());
  const int64_t column = std::max<int64_t>(1, dimension() * static_cast<int64_t>(u.element_size()));
  const int64_t width = basis_->context().ranks().agree(
      std::clamp<int64_t>(panel_bytes(at::kCPU) / column, 1, std::max<int64_t>(count(), 1)));
  for (int64_t begin = 0; begin < count(); begin += width) {
    const int64_t n = std::min(width, count() - begin);
    u.slice(1, begin, begin + n).copy_(columns(begin, n).cpu());
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
  if (coefficients_.defined()) return times_small(*basis_, coefficients_.slice(1, begin, begin + count));
  if (const auto* const divided = dynamic_cast<const DividedTallMatrix*>(basis_.get()))
    return gather_rows(dimension(), as_block(Eigenvectors(divided->mine(), {}).columns(begin, count)),
                       basis_->context().ranks());
  if (dynamic_cast<const StackedMatrix*>(basis_.get()) != nullptr) return copied(*basis_, {}, begin, count);
  return basis_in_memory().slice(1, begin, begin + count);
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
