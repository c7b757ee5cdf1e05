#include "seigh/tall/divided.h"

#include <ATen/ops/full.h>

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {
namespace {

// Each rank's share of the columns of a block, or of the rows, in one piece.
std::vector<at::Tensor> shares(const at::Tensor& block, int64_t dimension, const Ranks& ranks) {
  std::vector<at::Tensor> all;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Share share = ranks.share(block.size(dimension), rank);
    all.push_back(as_block(block.slice(dimension, share.begin, share.end())));
  }
  return all;
}

}  // namespace

DividedOperator::DividedOperator(LinearOperator& mine, Context context)
    : LinearOperator(mine.size(), mine.dtype(), mine.name()), mine_(mine), context_(std::move(context)) {}

at::Tensor DividedOperator::apply_rows(const at::Tensor& rows) {
  if (context_.ranks().alone()) return apply(rows);
  const Timer timer;
  at::Tensor result = apply_rows_impl(as_block(rows));
  count(rows.size(1), timer.seconds());
  return result;
}

bool DividedOperator::any_rounds() const {
  return context_.ranks().least(mine_.rounds() ? 0 : 1) == 0;
}

DividedColumns::DividedColumns(LinearOperator& whole, Context context)
    : DividedOperator(whole, std::move(context)),
      product_error_(this->context().ranks().agree(whole.product_error())) {
  if (any_rounds())
    set_full_precision(std::make_unique<DividedColumns>(whole.in_full_precision(), this->context()));
}

// Ranks may have memory for blocks of different size; their vectors must agree.
int64_t DividedColumns::preferred_block() const {
  return context().ranks().agree(mine().preferred_block()) * context().ranks().size();
}

at::Tensor DividedColumns::known_products(uint64_t seed) const {
  return context().ranks().alone() ? mine().known_products(seed) : at::Tensor();
}

// Of the columns that are this rank's, of which there may be none.
at::Tensor DividedColumns::product_of(const at::Tensor& block, int64_t columns) {
  return columns > 0 ? mine().apply(block) : block;
}

at::Tensor DividedColumns::apply_impl(const at::Tensor& block) {
  Ranks& ranks = context().ranks();
  if (ranks.alone()) return mine().apply(block);
  const Share share = ranks.share(block.size(1));
  const at::Tensor product = product_of(as_block(block.slice(1, share.begin, share.end())), share.count);
  at::Tensor result = empty_block(size(), block.size(1), dtype(), block.device());
  ranks.exchange(std::vector<at::Tensor>(static_cast<size_t>(ranks.size()), product),
                 shares(result, 1, ranks));
  return result;
}

// Rows of all columns become all rows of some columns, and back.
at::Tensor DividedColumns::apply_rows_impl(const at::Tensor& rows) {
  Ranks& ranks = context().ranks();
  const int64_t columns = ranks.share(rows.size(1)).count;
  at::Tensor product;
  {
    const std::vector<at::Tensor> parts = shares_of_rows(size(), columns, rows, ranks);
    ranks.exchange(shares(rows, 1, ranks), parts);
    product = rows_of(parts, size(), ranks);
  }
  product = product_of(product, columns);
  at::Tensor result = empty_block(rows.size(0), rows.size(1), dtype(), rows.device());
  ranks.exchange(shares(product, 0, ranks), shares(result, 1, ranks));
  return result;
}

DividedSamples::DividedSamples(LinearOperator& part, double weight, Context context)
    : DividedOperator(part, std::move(context)), weight_(weight) {
  const at::Tensor sum = at::full({1}, weight * part.product_error(), at::kDouble);
  this->context().ranks().sum(sum);
  product_error_ = sum.item<double>();
  if (any_rounds())
    set_full_precision(std::make_unique<DividedSamples>(part.in_full_precision(), weight, this->context()));
}

int64_t DividedSamples::preferred_block() const {
  return context().ranks().agree(mine().preferred_block());
}

at::Tensor DividedSamples::apply_impl(const at::Tensor& block) {
  at::Tensor result = as_block(mine().apply(block).mul(weight_));
  context().ranks().sum(result);
  return result;
}

at::Tensor DividedSamples::apply_rows_impl(const at::Tensor& rows) {
  Ranks& ranks = context().ranks();
  return ranks.sum_of(shares(mine().apply(gather_rows(size(), rows, ranks)).mul_(weight_), 0, ranks));
}

void require_same(LinearOperator& op, const Context& context) {
  Ranks& ranks = context.ranks();
  if (ranks.alone()) return;
  const auto differs = [&](int64_t value) { return ranks.least(value) != -ranks.least(-value); };
  const bool rows = differs(op.size()), dtype = differs(static_cast<int64_t>(op.dtype()));
  require(!rows && !dtype, op.name(), ": the processes' matrices have different ",
          rows ? "numbers of rows" : "dtypes", "; all must have the same model");
  at::Tensor v = random_gaussian(0, Stream::check, op.size(), 0, 1, op.dtype());
  const at::Tensor mine = op.apply(v), theirs = mine.clone();
  ranks.agree_on(theirs);
  const double apart = (mine - theirs).norm().item<double>(), length = theirs.norm().item<double>(),
               rounding = op.product_error() * v.norm().item<double>();
  const bool same = apart <= 1e-3 * length + 4 * rounding;
  require(
      ranks.least(same ? 1 : 0) == 1, op.name(), ": the processes' matrices differ",
      same ? "" : text_of(", this one's from the first one's by ", apart / length, " of a product's length"),
      "; all must have the same parameters and data");
}

at::Tensor apply_rows(LinearOperator& op, const at::Tensor& rows, const Context& context) {
  if (auto* const divided = dynamic_cast<DividedOperator*>(&op)) return divided->apply_rows(rows);
  Ranks& ranks = context.ranks();
  if (ranks.alone()) return op.apply(rows);
  const Share share = ranks.share(op.size());
  return as_block(op.apply(gather_rows(op.size(), rows, ranks)).slice(0, share.begin, share.end()));
}

}  // namespace seigh
