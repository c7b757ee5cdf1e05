#include "seigh/eigen/eigh.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "seigh/core/communicator.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/memory_pool.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/hmt.h"
#include "seigh/eigen/nystrom.h"
#include "seigh/eigen/seigh.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/stored_matrix.h"

namespace seigh {
namespace {

// Below this size the whole matrix costs a moment.
constexpr int64_t kSmall = 1000;

SeighOptions sketch_options(const EighOptions& o, int64_t dimension) {
  return {.k = o.k,
          .s = o.products > 0 ? o.products : std::min(2 * o.k, dimension),
          .seed = o.seed,
          .probes = o.probes,
          .block = o.block,
          .selection = o.selection,
          .test_matrix = o.test_matrix,
          .store = o.state,
          .storage = o.storage};
}

}  // namespace

const std::vector<Method>& methods() {
  static const std::vector<Method> all = {Method::automatic, Method::krylov, Method::seigh,
                                          Method::nystrom,   Method::hmt,    Method::dense};
  return all;
}

std::string to_string(Method method) {
  switch (method) {
    case Method::automatic:
      return "auto";
    case Method::krylov:
      return "krylov";
    case Method::seigh:
      return "seigh";
    case Method::nystrom:
      return "nystrom";
    case Method::hmt:
      return "hmt";
    case Method::dense:
      return "dense";
  }
  return "";
}

Method parse_method(const std::string& name) {
  std::string known;
  for (const Method m : methods()) {
    if (to_string(m) == name) return m;
    known += (known.empty() ? "" : ", ") + to_string(m);
  }
  fail("there is no method \"", name, "\"; the methods are ", known);
}

KrylovOptions EighOptions::krylov() const {
  return {.k = k,
          .products = products,
          .tolerance = tolerance,
          .error = error,
          .selection = selection,
          .seed = seed,
          .probes = probes,
          .block = block,
          .basis = basis,
          .start = start,
          .state = state,
          .on_disk = on_disk};
}

void EighOptions::validate(int64_t dimension) const {
  krylov().validate(dimension);  // what all have in common, and its own
  const bool adaptive = tolerance > 0 || error > 0;
  require(!adaptive || method == Method::krylov || method == Method::automatic,
          "a tolerance or an error to be reached is for krylov, not for ", to_string(method));
  require(!adaptive || !independent,
          "a tolerance or an error to be reached needs products that depend on each other");
  require(!independent || (method != Method::krylov && method != Method::hmt), to_string(method),
          "'s products depend on each other; independent ones are for seigh and nystrom");
  if (method == Method::seigh || method == Method::nystrom || method == Method::hmt)
    sketch_options(*this, dimension).validate(dimension);
}

EighPlan plan_eigh(int64_t dimension, at::ScalarType dtype, const EighOptions& o, int64_t memory) {
  o.validate(dimension);
  const double d = static_cast<double>(dimension), k = static_cast<double>(o.k);
  const int64_t element = static_cast<int64_t>(c10::elementSize(dtype)), small = wide_bytes(dtype);
  const KrylovOptions krylov = o.krylov().resolved(dimension);
  const SeighOptions sketch = sketch_options(o, dimension);
  const int64_t rows = world().share(dimension, 0).count;  // of the largest rank
  const int64_t whole = 3 * small * dimension * dimension;
  EighPlan plan;
  plan.method = o.method;
  if (o.method == Method::automatic) {
    const int64_t least =
        krylov.smallest_basis(dimension) * rows * element + krylov.working_memory(dimension, element);
    const bool adaptive = o.tolerance > 0 || o.error > 0;
    if (o.independent) {
      plan.method = Method::seigh;
      plan.reason = "products must be independent";
    } else if (!adaptive && whole < memory && (dimension <= kSmall || dimension <= krylov.products)) {
      plan.method = Method::dense;
      plan.reason =
          dimension <= kSmall ? "the matrix is small" : "the products asked for make the whole matrix";
    } else if (least < memory || adaptive) {
      plan.method = Method::krylov;
      plan.reason = "the smallest error for the products";
    } else {
      plan.method = Method::seigh;
      plan.reason =
          "krylov's basis takes at least " + format_bytes(least) + ", " + format_bytes(memory) + " are left";
    }
  }
  const double s = static_cast<double>(sketch.s);
  switch (plan.method) {
    case Method::krylov: {
      const int64_t vector = rows * element, working = krylov.working_memory(dimension, element);
      const int64_t ideal = krylov.ideal_basis(dimension),
                    least = std::min(krylov.smallest_basis(dimension), ideal);
      plan.on_disk = o.on_disk || (!o.state.empty() && least > (memory - working) / vector);
      plan.basis = plan.on_disk ? ideal : std::clamp((memory - working) / vector, least, ideal);
      const double p = static_cast<double>(krylov.products), m = static_cast<double>(plan.basis);
      plan.products = krylov.products + o.probes;
      plan.flops = 4 * d * p * std::min(p, m) + 2 * d * m * k;
      // And T, its decomposition and what is selected of it.
      plan.memory = working + (plan.on_disk ? 4 * StoredMatrix::panel_bytes(memory) : plan.basis * vector) +
                    5 * small * plan.basis * plan.basis;
      plan.disk = o.state.empty() ? 0 : (plan.basis + (plan.on_disk ? o.k : 0)) * dimension * element;
      if (plan.on_disk)
        plan.reason += (plan.reason.empty() ? "" : "; ") +
                       std::string("its basis on disk: in memory it takes at least ") +
                       format_bytes(least * vector + working);
      break;
    }
    case Method::hmt:
      plan.products = sketch.s + o.probes;
      plan.flops = 1.5 * d * s * s;
      plan.memory = sketch.s * dimension * element;
      break;
    case Method::nystrom:
      plan.products = sketch.s + o.probes;
      plan.flops = 2 * d * s * s + 2 * d * s * k;
      plan.memory = sketch.s * dimension * element;
      break;
    case Method::dense:
      plan.products = dimension;
      plan.flops = 9 * d * d * d;
      plan.memory = whole;
      break;
    case Method::seigh:
    case Method::automatic:
      plan.products = sketch.s + o.probes;
      // Two FFTs (or 8 D additions) for a test vector and for its product, the Gram matrix, rotations.
      plan.flops = (o.test_matrix == "ssrft" ? 4 * s * 5 * d * std::log2(d) : 16 * s * d) + 4 * d * k * k;
      plan.memory = o.k * dimension * element + 6 * small * sketch.s * sketch.s;
      if (!o.state.empty()) {
        // In memory: a shard, the test vectors and products behind it, the test matrices; then panels of Y.
        SketchPlan store{.operator_name = "",
                         .rows = dimension,
                         .k = o.k,
                         .s = sketch.s,
                         .dtype = dtype,
                         .storage = o.storage,
                         .width = 0};
        plan.disk = store.bytes();
        plan.memory = std::min(plan.memory, (3 * store.shard_width() + 2 * o.probes) * dimension * element +
                                                80 * dimension + 6 * small * sketch.s * sketch.s +
                                                4 * StoredMatrix::panel_bytes(memory));
      }
      break;
  }
  return plan;
}

std::string EighPlan::text() const {
  char costs[200];
  std::snprintf(costs, sizeof(costs), "%lld products, %.3g GFLOP of algebra, %s of memory",
                static_cast<long long>(products), flops / 1e9, format_bytes(memory).c_str());
  std::string line = to_string(method) + (reason.empty() ? "" : " (" + reason + ")") + ": at most " + costs;
  if (disk > 0) line += ", " + format_bytes(disk) + " on disk meanwhile";
  return line;
}

EigenResult eigh(LinearOperator& whole, const EighOptions& options, Progress& progress) {
  const EighPlan plan = plan_eigh(whole.size(), whole.dtype(), options, world().agree(available_memory()));
  // Where products depend on each other, ranks share each block; SEIGH's are shared out by the store.
  const bool by_shards = plan.method == Method::seigh && !options.state.empty();
  DividedColumns divided(whole);
  LinearOperator& op = world().size() > 1 && !whole.collective() && !by_shards ? divided : whole;
  switch (plan.method) {
    case Method::krylov: {
      KrylovOptions o = options.krylov();
      o.on_disk = plan.on_disk;
      return krylov(op, o, progress);
    }
    case Method::nystrom:
      return nystrom(op, sketch_options(options, op.size()), progress);
    case Method::hmt:
      return hmt(op, sketch_options(options, op.size()), progress);
    case Method::dense:
      return dense(op, options.k, options.selection, progress).result;
    case Method::seigh:
    case Method::automatic:
      break;
  }
  return seigh(op, sketch_options(options, op.size()), progress);
}

}  // namespace seigh
