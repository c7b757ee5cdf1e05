#include "seigh/eigen/eigh.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "seigh/core/context.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/hmt.h"
#include "seigh/eigen/krylov.h"
#include "seigh/eigen/nystrom.h"
#include "seigh/eigen/refine.h"
#include "seigh/eigen/seigh.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/stored_matrix.h"

namespace seigh {
namespace {

// Below this size the whole matrix costs a moment.
constexpr int64_t kSmall = 1000;

}  // namespace

EighPlan plan_eigh(int64_t dimension, at::ScalarType dtype, const SolverOptions& options, int64_t memory,
                   const Ranks& ranks, int64_t device_memory) {
  options.validate(dimension);
  const SolverOptions o = options.resolved(dimension);
  const double d = static_cast<double>(dimension), k = static_cast<double>(o.k);
  const int64_t element = static_cast<int64_t>(c10::elementSize(dtype)), small = wide_bytes(dtype);
  const KrylovSizes krylov = krylov_sizes(options, dimension, dtype, ranks);
  const int64_t rows = ranks.share(dimension, 0).count;  // of the largest rank
  const int64_t whole = dense_bytes(dimension, dtype);
  const int64_t vector = rows * element, squares = 5 * small * krylov.ideal_basis * krylov.ideal_basis;
  // The device takes a basis, or a part of it, where it has the room, and the host the rest, and the
  // eigenvectors in the end.
  const DeviceShare on_device =
      o.on_disk || device_memory == 0
          ? DeviceShare{0, 0}
          : device_share(vector, o.k, krylov.block, krylov.ideal_basis, device_memory - krylov.on_device,
                         memory - krylov.beside_device - squares);
  EighPlan plan;
  plan.method = o.method;
  if (o.method == Method::automatic) {
    const int64_t least = krylov.smallest_basis * vector + krylov.working_memory;
    const bool adaptive = o.tolerance > 0 || o.error > 0;
    if (o.independent) {
      plan.method = Method::seigh;
      plan.reason = "products must be independent";
    } else if (!adaptive && whole < memory && dimension <= kLargestDense &&
               (dimension <= kSmall || dimension <= krylov.products)) {
      plan.method = Method::dense;
      plan.reason =
          dimension <= kSmall ? "the matrix is small" : "the products asked for make the whole matrix";
    } else if (least < memory || adaptive || on_device.columns >= krylov.smallest_basis) {
      plan.method = Method::krylov;
      plan.reason = "the smallest error for the products";
    } else {
      plan.method = Method::seigh;
      plan.reason =
          "krylov's basis takes at least " + format_bytes(least) + ", " + format_bytes(memory) + " are left";
    }
  }
  const double s = static_cast<double>(o.products);
  switch (plan.method) {
    case Method::krylov: {
      const int64_t working = krylov.working_memory;
      const int64_t ideal = krylov.ideal_basis, least = std::min(krylov.smallest_basis, ideal);
      const int64_t in_memory = std::clamp((memory - working) / vector, int64_t{0}, ideal);
      const bool device = on_device.columns >= std::max(least, in_memory);
      plan.on_disk = o.on_disk || (!device && !o.state.empty() && least > (memory - working) / vector);
      if (device)
        plan.basis = on_device.columns;
      else
        plan.basis = plan.on_disk ? ideal : std::clamp((memory - working) / vector, least, ideal);
      const double p = static_cast<double>(krylov.products), m = static_cast<double>(plan.basis);
      plan.products = krylov.products + o.probes + o.checks;
      plan.flops = 4 * d * p * std::min(p, m) + 2 * d * m * k;
      // And T, its decomposition and what is selected of it.
      plan.on_device = device ? on_device.bytes + krylov.on_device : 0;
      const int64_t on_host = device ? plan.basis * vector - on_device.bytes : 0;
      plan.memory = (device ? krylov.beside_device : working) + 5 * small * plan.basis * plan.basis +
                    (plan.on_disk ? 4 * StoredMatrix::panel_bytes(memory)
                     : device     ? on_host + on_device.bytes / plan.basis * o.k
                                  : plan.basis * vector);
      if (on_host > 0)
        plan.reason +=
            (plan.reason.empty() ? "" : "; ") + format_bytes(on_host) + " of its basis on the host";
      plan.disk = o.state.empty() ? 0 : (plan.basis + (plan.on_disk ? o.k : 0)) * dimension * element;
      if (plan.on_disk)
        plan.reason += (plan.reason.empty() ? "" : "; ") +
                       std::string("its basis on disk: in memory it takes at least ") +
                       format_bytes(least * vector + working);
      break;
    }
    case Method::hmt:
      plan.products = o.products + o.probes;
      plan.flops = 1.5 * d * s * s;
      plan.memory = o.products * dimension * element;
      break;
    case Method::nystrom:
      plan.products = o.products + o.probes;
      plan.flops = 2 * d * s * s + 2 * d * s * k;
      plan.memory = o.products * dimension * element;
      break;
    case Method::dense:
      plan.products = dimension;
      plan.flops = 9 * d * d * d;
      plan.memory = whole;
      break;
    case Method::seigh:
    case Method::automatic:
      plan.products = o.products + o.probes;
      // Two FFTs (or 8 D additions) for a test vector and for its product, the Gram matrix, rotations.
      plan.flops = (o.test_matrix == "ssrft" ? 4 * s * 5 * d * std::log2(d) : 16 * s * d) + 4 * d * k * k;
      plan.memory = o.k * dimension * element + 6 * small * o.products * o.products;
      if (!o.state.empty()) {
        // In memory: a shard, the test vectors and products behind it, the test matrices; then panels of Y.
        SketchPlan store = sketch_plan(o, "", dimension, dtype);
        store.width = 0;
        plan.disk = store.bytes();
        plan.memory = std::min(plan.memory, (3 * store.shard_width() + 2 * o.probes) * dimension * element +
                                                80 * dimension + 6 * small * o.products * o.products +
                                                4 * StoredMatrix::panel_bytes(memory));
      }
      break;
  }
  // Vectors in terms of measurements are formed by a device where there is room for them
  // (Eigenvectors::on_host).
  if (device_memory > 0 && plan.method != Method::krylov && plan.method != Method::dense)
    plan.memory += std::min(o.k * dimension * element, std::max<int64_t>(memory - plan.memory, 0) / 2);
  if (o.rounds && plan.method != Method::dense) {
    const bool twice = plan.method == Method::krylov && o.error > 0;  // probes that tell when to stop
    plan.refining = o.k + o.probes + (plan.method == Method::krylov ? o.checks : 0);
    plan.products += o.k + (twice ? o.probes : 0);
    plan.flops += 8 * d * k * k;
    const bool by_panels = plan.on_disk || (plan.method == Method::seigh && !o.state.empty());
    plan.memory = std::max(plan.memory, (by_panels ? 2 : o.k) * dimension * element +
                                            refinement_memory(o, dimension, dtype) + 8 * small * o.k * o.k);
  }
  return plan;
}

std::string EighPlan::text() const {
  const std::string of_them = refining > 0 ? text_of(" (", refining, " of them in full precision)") : "";
  char costs[200];
  std::snprintf(costs, sizeof(costs), "%lld products%s, %.3g GFLOP of algebra, %s of memory",
                static_cast<long long>(products), of_them.c_str(), flops / 1e9, format_bytes(memory).c_str());
  std::string line = to_string(method) + (reason.empty() ? "" : " (" + reason + ")") + ": at most " + costs;
  if (on_device > 0) line += ", " + format_bytes(on_device) + " on the device";
  if (disk > 0) line += ", " + format_bytes(disk) + " on disk meanwhile";
  return line;
}

int64_t basis_memory(c10::Device device, const Context& context) {
  return device.is_cpu()
             ? 0
             : context.ranks().least(DeviceMemory(device, context.device_memory()).available() / 2);
}

namespace {

// Of a block that ranks share out, each one's device wants some vectors, as long as the block stays small
// beside the basis.
int64_t block_of_ranks(const LinearOperator& whole, const SolverOptions& o, const Ranks& ranks) {
  constexpr int64_t kEach = 8, kMost = 64;
  const bool columns = !whole.collective() || dynamic_cast<const DividedColumns*>(&whole) != nullptr;
  if (o.block > 0 || ranks.alone() || !columns || whole.device().is_cpu()) return o.block;
  const KrylovSizes usual = krylov_sizes(o, whole.size(), whole.dtype());
  const int64_t fitting = o.basis > 0 ? (o.basis - o.k) / 4 : kMost;
  return std::max(usual.block, std::min({kEach * ranks.size(), kMost, usual.products / 16, fitting}));
}

}  // namespace

EigenResult eigh(LinearOperator& whole, const SolverOptions& options, const Context& context) {
  Ranks& ranks = context.ranks();
  SolverOptions o = options;
  // Where products depend on each other, ranks share each block; SEIGH's are shared out by the store.
  DividedColumns divided(whole, context);
  const bool together = !ranks.alone() && !whole.collective();
  o.rounds = together ? divided.rounds() : whole.rounds();
  if (o.method == Method::krylov || o.method == Method::automatic) o.block = block_of_ranks(whole, o, ranks);
  const EighPlan plan = plan_eigh(whole.size(), whole.dtype(), o, ranks.agree(context.memory().available()),
                                  ranks, basis_memory(whole.device(), context));
  if (!ranks.alone() && !ranks.takes(whole.device()))
    context.progress().note(text_of("what ranks exchange goes from ", whole.device(),
                                    " by way of the host: what joins them reads no memory of such devices"));
  const bool by_shards = plan.method == Method::seigh && !o.state.empty();
  LinearOperator& op = together && !by_shards ? divided : whole;
  o.method = plan.method;
  if (o.method != Method::krylov) o.block = options.block;
  switch (plan.method) {
    case Method::krylov:
      if (whole.device().is_cpu()) o.on_disk = plan.on_disk;  // krylov sees itself what a device has room for
      return krylov(op, o, context);
    case Method::nystrom:
      return nystrom(op, o, context);
    case Method::hmt:
      return hmt(op, o, context);
    case Method::dense:
      return dense(op, o.k, o.selection, context).result;
    case Method::seigh:
    case Method::automatic:
      break;
  }
  return seigh(op, o, context);
}

}  // namespace seigh
