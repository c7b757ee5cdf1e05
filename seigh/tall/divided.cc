#include "seigh/tall/divided.h"

#include "seigh/core/communicator.h"

namespace seigh {

DividedColumns::DividedColumns(LinearOperator& whole)
    : LinearOperator(whole.size(), whole.dtype(), whole.name()), whole_(whole) {}

// Ranks may have memory for blocks of different size; their vectors must agree.
int64_t DividedColumns::preferred_block() const {
  return world().agree(whole_.preferred_block()) * world().size();
}

at::Tensor DividedColumns::apply_impl(const at::Tensor& block) {
  if (world().size() == 1) return whole_.apply(block);
  const int64_t columns = block.size(1);
  at::Tensor result = empty_block(size(), columns, dtype());
  const Share mine = world().share(columns);
  if (mine.count > 0) {
    result.slice(1, mine.begin, mine.end())
        .copy_(whole_.apply(as_block(block.slice(1, mine.begin, mine.end()))));
  }
  for (int rank = 0; rank < world().size(); ++rank) {
    const Share share = world().share(columns, rank);
    const at::Tensor part = result.slice(1, share.begin, share.end());
    world().broadcast(part.data_ptr(), static_cast<int64_t>(part.nbytes()), rank);
  }
  return result;
}

DividedSamples::DividedSamples(LinearOperator& part, double weight)
    : LinearOperator(part.size(), part.dtype(), part.name()), part_(part), weight_(weight) {}

int64_t DividedSamples::preferred_block() const {
  return world().agree(part_.preferred_block());
}

at::Tensor DividedSamples::apply_impl(const at::Tensor& block) {
  at::Tensor result = as_block(part_.apply(block).mul(weight_));
  world().sum(result);
  return result;
}

}  // namespace seigh
