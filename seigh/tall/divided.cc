#include "seigh/tall/divided.h"

#include <ATen/ops/full.h>

#include <utility>

#include "seigh/core/error.h"

namespace seigh {
namespace {

constexpr const char* kOneRank =
    "products rounded to tf32 or bf16 are for a single rank; use curvature.precision = \"float32\", or one "
    "rank";

}  // namespace

DividedColumns::DividedColumns(LinearOperator& whole, Context context)
    : LinearOperator(whole.size(), whole.dtype(), whole.name()),
      whole_(whole),
      context_(std::move(context)),
      product_error_(context_.ranks().agree(whole.product_error())) {
  require(context_.ranks().alone() || !whole.rounds(), kOneRank);
}

// Ranks may have memory for blocks of different size; their vectors must agree.
int64_t DividedColumns::preferred_block() const {
  return context_.ranks().agree(whole_.preferred_block()) * context_.ranks().size();
}

at::Tensor DividedColumns::known_products(uint64_t seed) const {
  return context_.ranks().size() == 1 ? whole_.known_products(seed) : at::Tensor();
}

at::Tensor DividedColumns::apply_impl(const at::Tensor& block) {
  if (context_.ranks().size() == 1) return whole_.apply(block);
  const int64_t columns = block.size(1);
  at::Tensor result = empty_block(size(), columns, dtype());
  const Share mine = context_.ranks().share(columns);
  if (mine.count > 0) {
    result.slice(1, mine.begin, mine.end())
        .copy_(whole_.apply(as_block(block.slice(1, mine.begin, mine.end()))));
  }
  for (int rank = 0; rank < context_.ranks().size(); ++rank) {
    const Share share = context_.ranks().share(columns, rank);
    const at::Tensor part = result.slice(1, share.begin, share.end());
    context_.ranks().broadcast(part.data_ptr(), static_cast<int64_t>(part.nbytes()), rank);
  }
  return result;
}

DividedSamples::DividedSamples(LinearOperator& part, double weight, Context context)
    : LinearOperator(part.size(), part.dtype(), part.name()),
      part_(part),
      weight_(weight),
      context_(std::move(context)) {
  require(!part.rounds(), kOneRank);
  const at::Tensor sum = at::full({1}, weight * part.product_error(), at::kDouble);
  context_.ranks().sum(sum);
  product_error_ = sum.item<double>();
}

int64_t DividedSamples::preferred_block() const {
  return context_.ranks().agree(part_.preferred_block());
}

at::Tensor DividedSamples::apply_impl(const at::Tensor& block) {
  at::Tensor result = as_block(part_.apply(block).mul(weight_));
  context_.ranks().sum(result);
  return result;
}

}  // namespace seigh
