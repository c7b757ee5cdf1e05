#include "seigh/tall/tall_matrix.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/tall/panels.h"

namespace seigh {
namespace {

// What all ranks' rows come to, of what this rank's came to.
at::Tensor over_ranks(const TallMatrix& x, const at::Tensor& result) {
  const at::Tensor all = result.cpu();
  if (x.divided()) x.context().ranks().sum(all);
  return all;
}

// Of wide(), where X lies.
at::Tensor zeros_for(const TallMatrix& x, int64_t rows, int64_t columns) {
  return at::zeros({rows, columns}, at::TensorOptions(wide(x.dtype())).device(x.device()));
}

// result += A^H A, the upper triangle by blocks of columns.
void add_gram(const at::Tensor& result, const at::Tensor& a) {
  const int64_t k = a.size(1), step = std::max<int64_t>(64, (k + 7) / 8);
  for (int64_t begin = 0; begin < k; begin += step) {
    const int64_t end = std::min(begin + step, k);
    result.slice(0, begin, end).slice(1, begin).addmm_(a.slice(1, begin, end).mH(), a.slice(1, begin));
  }
}

at::Tensor mirrored(const at::Tensor& upper) {
  return upper.triu() + upper.triu(1).mH();
}

}  // namespace

MemoryTallMatrix::MemoryTallMatrix(at::Tensor block, Context context)
    : TallMatrix(std::move(context)), block_(std::move(block)) {}

at::Tensor MemoryTallMatrix::select_rows(const at::Tensor& index) const {
  return block_.index_select(0, index.to(block_.device()));
}

int64_t panel_bytes(c10::Device device) {
  return device.is_cpu() ? int64_t{1} << 25 : int64_t{1} << 28;
}

int64_t MemoryTallMatrix::panel_rows() const {
  return std::max<int64_t>(1024,
                           panel_bytes(device()) / wide_bytes(dtype()) / std::max<int64_t>(columns(), 1));
}

StackedMatrix::StackedMatrix(std::vector<std::shared_ptr<const TallMatrix>> parts)
    : TallMatrix(parts.at(0)->context()), parts_(std::move(parts)), begins_{0} {
  for (const auto& part : parts_) begins_.push_back(begins_.back() + part->rows());
}

int64_t StackedMatrix::panel_rows() const {
  int64_t fewest = parts_[0]->panel_rows();
  for (const auto& part : parts_) fewest = std::min(fewest, part->panel_rows());
  return fewest;
}

at::Tensor StackedMatrix::row_range(int64_t begin, int64_t n) const {
  std::vector<at::Tensor> pieces;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const int64_t first = std::max(begin, begins_[i]), end = std::min(begin + n, begins_[i + 1]);
    if (first < end || (n == 0 && i == 0))
      pieces.push_back(parts_[i]->row_range(first - begins_[i], std::max<int64_t>(end - first, 0)));
  }
  return pieces.size() == 1 ? pieces[0] : at::cat(pieces);
}

at::Tensor StackedMatrix::select_rows(const at::Tensor& index) const {
  const at::Tensor result =
      at::empty({index.numel(), columns()}, at::TensorOptions(dtype()).device(device()));
  for (size_t i = 0; i < parts_.size(); ++i) {
    const at::Tensor places = ((index >= begins_[i]) & (index < begins_[i + 1])).nonzero().reshape({-1});
    if (places.numel() > 0)
      result.index_copy_(0, places.to(device()),
                         parts_[i]->select_rows(index.index_select(0, places) - begins_[i]));
  }
  return result;
}

Share TallMatrix::share() const {
  return divided() ? context().ranks().share(rows()) : Share{0, rows()};
}

DividedTallMatrix::DividedTallMatrix(int64_t rows, std::shared_ptr<const TallMatrix> mine, Context context)
    : TallMatrix(std::move(context)), rows_(rows), mine_(std::move(mine)) {
  require(mine_->rows() == share().count, "this rank's part of ", rows, " rows is ", share().count, ", not ",
          mine_->rows());
}

DividedTallMatrix::DividedTallMatrix(int64_t rows, at::Tensor mine, Context context)
    : DividedTallMatrix(rows, std::make_shared<MemoryTallMatrix>(std::move(mine), context), context) {}

at::Tensor DividedTallMatrix::row_range(int64_t begin, int64_t n) const {
  require(share().begin <= begin && begin + n <= share().end(), "rows ", begin, " to ", begin + n,
          " are another rank's");
  return mine_->row_range(begin - share().begin, n);
}

at::Tensor DividedTallMatrix::select_rows(const at::Tensor& index) const {
  at::Tensor result = at::zeros({index.numel(), columns()}, dtype());
  const at::Tensor places = ((index >= share().begin) & (index < share().end())).nonzero().reshape({-1});
  result.index_copy_(0, places, mine_->select_rows(index.index_select(0, places) - share().begin).cpu());
  context().ranks().sum(result);
  return result;
}

std::vector<at::Tensor> shares_of_rows(int64_t rows, int64_t columns, const at::Tensor& like,
                                       const Ranks& ranks) {
  std::vector<at::Tensor> parts;
  for (int rank = 0; rank < ranks.size(); ++rank)
    parts.push_back(empty_block(ranks.share(rows, rank).count, columns, like.scalar_type(), like.device()));
  return parts;
}

at::Tensor rows_of(const std::vector<at::Tensor>& parts, int64_t rows, const Ranks& ranks) {
  const at::Tensor& first = parts[0];
  at::Tensor whole = empty_block(rows, first.size(1), first.scalar_type(), first.device());
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Share share = ranks.share(rows, rank);
    whole.slice(0, share.begin, share.end()).copy_(parts[static_cast<size_t>(rank)]);
  }
  return whole;
}

at::Tensor gather_rows(int64_t rows, const at::Tensor& mine, Ranks& ranks) {
  if (ranks.alone()) return mine;
  const std::vector<at::Tensor> give(static_cast<size_t>(ranks.size()), as_block(mine));
  const std::vector<at::Tensor> parts = shares_of_rows(rows, mine.size(1), give[0], ranks);
  ranks.exchange(give, parts);
  return rows_of(parts, rows, ranks);
}

// The product of the transposes: matmul's results are contiguous by rows.
at::Tensor panel_times(const at::Tensor& panel, const at::Tensor& m) {
  return at::matmul(m.t(), panel.t()).t();
}

at::Tensor gram(const TallMatrix& x) {
  const at::Tensor result = zeros_for(x, x.columns(), x.columns());
  for_panels(x, [&](int64_t, int64_t, const at::Tensor& panel) {
    add_gram(result, panel.to(result.scalar_type()));
  });
  return mirrored(over_ranks(x, result));
}

at::Tensor gram_of_product(const TallMatrix& x, const at::Tensor& m) {
  const at::Tensor result = zeros_for(x, m.size(1), m.size(1)), there = m.to(x.device());
  for_panels(x, [&](int64_t, int64_t, const at::Tensor& panel) {
    add_gram(result, panel_times(panel.to(result.scalar_type()), there));
  });
  return mirrored(over_ranks(x, result));
}

at::Tensor transposed_product(const TallMatrix& x, const at::Tensor& y) {
  require(y.size(0) == x.rows(), "a block of ", x.rows(), " rows is needed, got ", y.sizes());
  const at::Tensor result = zeros_for(x, x.columns(), y.size(1));
  for_panels(x, [&](int64_t begin, int64_t n, const at::Tensor& panel) {
    result.addmm_(panel.to(result.scalar_type()).mH(),
                  y.slice(0, begin, begin + n).to(result.device(), result.scalar_type()));
  });
  return over_ranks(x, result);
}

at::Tensor times_small(const TallMatrix& x, const at::Tensor& m) {
  const Share share = x.share();
  const at::Tensor mine = empty_block(share.count, m.size(1), x.dtype(), x.home()), there = m.to(x.device());
  for_panels(x, [&](int64_t begin, int64_t n, const at::Tensor& panel) {
    mine.slice(0, begin - share.begin, begin - share.begin + n)
        .copy_(panel_times(panel.to(wide(x.dtype())), there));
  });
  return x.divided() ? gather_rows(x.rows(), mine, x.context().ranks()) : mine;
}

}  // namespace seigh
