#include "seigh/sketch/measure.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/full_precision.h"
#include "seigh/io/hdf5.h"
#include "seigh/sketch/test_matrix.h"
#include "seigh/tall/placement.h"
#include "seigh/tall/transfers.h"

namespace seigh {
namespace {

struct Columns {
  at::Tensor y, inner, omega_outer;
};

class Measurer {
 public:
  // `place`: of the work on blocks.
  Measurer(LinearOperator& op, const SketchPlan& plan, const Context& context, c10::Device place)
      : op_(op),
        plan_(plan),
        context_(context),
        place_(place),
        omega_(make_test_matrix(plan.test_matrix, plan.rows, plan.s, plan.seed, Stream::omega, plan.dtype,
                                place_)),
        psi_(make_test_matrix(plan.test_matrix, plan.rows, plan.s, plan.seed, Stream::psi, plan.dtype,
                              place_)) {
    require(op.size() == plan.rows && op.dtype() == plan.dtype, op.name(), ", D = ", op.size(), ", ",
            op.dtype(), ", is not what the plan measures: D = ", plan.rows, ", ", plan.dtype);
    const int64_t block =
        op.preferred_block() * plan.rows * static_cast<int64_t>(c10::elementSize(plan.dtype));
    transfers_ = std::make_unique<Transfers>(place_, piece_bytes(block), context);
  }

  // Where there is room for the work on a block, and for so many columns beside it.
  static c10::Device work_place(LinearOperator& op, const SketchPlan& plan, const Context& context,
                                int64_t kept = 0) {
    // Its transform takes several of a block's size.
    const int64_t columns = kept + 16 * op.preferred_block();
    return place_of(op, op.preferred_block(),
                    columns * plan.rows * static_cast<int64_t>(c10::elementSize(plan.dtype)), context);
  }

  // Y where `place` says, all else on the CPU.
  Columns operator()(int64_t begin, int64_t end, c10::Device place = at::kCPU) const {
    Columns c{empty_block(plan_.rows, end - begin, plan_.dtype, place),
              at::empty({plan_.s, end - begin}, wide(plan_.dtype)),
              {}};
    // Equal blocks: a small one costs nearly as much as a full one where graphs are built anew for each.
    const int64_t blocks = (end - begin + op_.preferred_block() - 1) / op_.preferred_block();
    const int64_t width = (end - begin + blocks - 1) / blocks;
    for (int64_t first = begin; first < end; first += width) {
      context_.check_cancelled();
      const int64_t last = std::min(first + width, end);
      at::Tensor y = op_.apply(omega_->block(first, last - first).to(place_));
      if (plan_.scaled() && first < plan_.k) y = rounded(y, plan_.stored_dtype());
      c.inner.slice(1, first - begin, last - begin).copy_(psi_->transposed_product(y));
      transfers_->copy(c.y.slice(1, first - begin, last - begin), y);
    }
    const int64_t outer = std::clamp<int64_t>(plan_.k - begin, 0, end - begin);
    c.omega_outer = at::empty({plan_.s, outer}, wide(plan_.dtype));
    if (outer > 0) c.omega_outer.copy_(omega_->transposed_product(c.y.slice(1, 0, outer)));
    return c;
  }

 private:
  LinearOperator& op_;
  const SketchPlan& plan_;
  Context context_;
  c10::Device place_;  // of the work on blocks
  std::unique_ptr<TestMatrix> omega_, psi_;
  std::unique_ptr<Transfers> transfers_;
};

}  // namespace

Sketch measure(LinearOperator& op, const SketchPlan& plan, const Context& context) {
  plan.validate();
  const Context::Scope scope(context);
  const FullPrecision full(op.device());
  const int64_t width = plan.width > 0 ? plan.width : op.preferred_block();
  const c10::Device place = Measurer::work_place(op, plan, context, plan.k + width);
  const Measurer measurer(op, plan, context,
                          place.is_cpu() ? Measurer::work_place(op, plan, context) : place);
  at::Tensor outer = empty_block_at(place, plan.rows, plan.k, plan.dtype);
  Sketch sketch;
  sketch.seed = plan.seed;
  sketch.inner = at::empty({plan.s, plan.s}, wide(plan.dtype));
  sketch.omega_outer = at::empty({plan.s, plan.k}, wide(plan.dtype));
  sketch.outer_columns = at::arange(plan.k, at::kLong);
  context.progress().begin("measuring " + op.name(), plan.s, "products");
  for (int64_t begin = 0; begin < plan.s; begin += width) {
    const int64_t end = std::min(begin + width, plan.s);
    const Columns c = measurer(begin, end, outer.device());
    sketch.inner.slice(1, begin, end).copy_(c.inner);
    const int64_t kept = c.omega_outer.size(1);
    if (kept > 0) {
      outer.slice(1, begin, begin + kept).copy_(c.y.slice(1, 0, kept));
      sketch.omega_outer.slice(1, begin, begin + kept).copy_(c.omega_outer);
    }
    context.progress().advance(end - begin);
  }
  context.progress().end();
  sketch.outer = std::make_shared<MemoryTallMatrix>(outer, context);
  sketch.products = plan.s;
  return sketch;
}

void measure(LinearOperator& op, SketchStore& store, int64_t part, int64_t parts, const Context& context) {
  const SketchPlan& plan = store.plan();
  require(1 <= parts && 0 <= part && part < parts, "part ", part, " of ", parts, " does not exist");
  for (const auto& [shard, what] : damaged_shards(store, part, parts, context))
    if (store.remove_damaged(shard)) context.progress().note(what + "; it is measured again");
  std::vector<int64_t> mine;
  for (int64_t shard = part; shard < plan.shards(); shard += parts) {
    if (!store.finished(shard)) mine.push_back(shard);
  }
  if (mine.empty()) return;
  const Context::Scope scope(context);
  const FullPrecision full(op.device());
  // Shards are every rank's own, unless the ranks multiply together.
  const Context mine_alone = op.collective() ? context : context.alone();
  const Measurer measurer(op, plan, context, Measurer::work_place(op, plan, mine_alone));
  int64_t total = 0;
  for (const int64_t shard : mine) total += plan.columns_of(shard).all;
  context.progress().begin("measuring " + op.name(), total, "products");
  for (const int64_t shard : mine) {
    const SketchPlan::Columns columns = plan.columns_of(shard);
    if (store.claim(shard)) {
      const Columns c = measurer(columns.begin, columns.begin + columns.all);
      store.write(shard, c.y, c.inner, c.omega_outer);
      store.release(shard);
    }
    context.progress().advance(columns.all);
  }
  context.progress().end();
}

std::map<int64_t, std::string> damaged_shards(const SketchStore& store, int64_t part, int64_t parts,
                                              const Context& context) {
  std::vector<int64_t> mine;
  for (const int64_t shard : store.finished()) {
    if (shard % parts == part) mine.push_back(shard);
  }
  std::map<int64_t, std::string> damaged;
  if (mine.empty()) return damaged;
  context.progress().begin("checksums of " + store.folder().filename().string(),
                           static_cast<int64_t>(mine.size()), "shards");
  for (const int64_t shard : mine) {
    context.check_cancelled();
    try {
      store.verify(shard);
    } catch (const Error& error) {
      damaged.emplace(shard, error.what());
    }
    context.progress().advance(1);
  }
  context.progress().end();
  return damaged;
}

Sketch sketch_of(const SketchStore& store) {
  const SketchStore::Small small = store.read_small();
  Sketch sketch;
  sketch.seed = store.plan().seed;
  sketch.outer = store.outer();
  sketch.inner = small.inner;
  // Of Omega^T Y the rows that belong to columns measured with.
  sketch.omega_outer = small.omega_outer.index_select(0, small.columns);
  sketch.products = small.columns.numel();
  std::vector<at::Tensor> places;
  require(small.outer_columns.numel() >= 1, store.folder().string(),
          " holds none of the first k columns yet; measure more of them with seigh measure");
  for (int64_t i = 0; i < small.outer_columns.numel(); ++i)
    places.push_back((small.columns == small.outer_columns[i]).nonzero().reshape({1}));
  sketch.outer_columns = at::cat(places);
  return sketch;
}

double remeasure(LinearOperator& op, const SketchStore& store, int64_t column, const Context& context) {
  const Context::Scope scope(context);
  const FullPrecision full(op.device());
  const SketchPlan& plan = store.plan();
  require(0 <= column && column < plan.s && store.finished(column / plan.width), "column ", column,
          " is not in ", store.folder().string());
  // One product, not a block of them to see where there would be room.
  const Columns c = Measurer(op, plan, context, at::kCPU)(column, column + 1);
  const at::Tensor kept = Hdf5Reader(store.shard_file(column / plan.width), Maker::seigh).read("inner");
  const at::Tensor difference = c.inner.select(1, 0) - kept.select(0, column % plan.width);
  const double squared = squared_abs(difference).sum().item<double>(),
               norm = squared_abs(c.inner).sum().item<double>();
  return squared == 0 ? 0 : std::sqrt(squared / norm);  // also of the zero matrix
}

}  // namespace seigh
