#include "seigh/eigen/krylov.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <tuple>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/basis.h"
#include "seigh/eigen/complement.h"
#include "seigh/eigen/krylov_state.h"
#include "seigh/eigen/range.h"
#include "seigh/eigen/refine.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/placement.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {
namespace {

constexpr int64_t kRoundingProducts = 2;  // of the checks, those that measure rounding
constexpr double kNoise = 4;              // standard deviations of an estimate that is looked at many times

// Of residuals, which allow 20 eps for rounding, and of enclosures, relative to the largest eigenvalue.
double tolerance_of(const SolverOptions& o, const KrylovSizes& sizes, at::ScalarType dtype) {
  const double asked = o.tolerance > 0 ? o.tolerance : sizes.until_found ? kKrylovTolerance : 0;
  return asked > 0 ? std::max(asked, 40 * epsilon(dtype)) : 22 * epsilon(dtype);
}

// How many of the leading residuals are within `bound`.
int64_t leading_within(const at::Tensor& residuals, double bound) {
  return (residuals > bound).to(at::kLong).cumsum(0).eq(0).sum().item<int64_t>();
}

struct RitzPairs {
  at::Tensor values;     // float64 [p], the selected ones first
  at::Tensor vectors;    // wide() [p, p], in terms of the basis, where T was decomposed
  at::Tensor residuals;  // float64 [p], upper bounds
};

class BlockKrylov {
 public:
  BlockKrylov(LinearOperator& op, const SolverOptions& options, const Context& context)
      : op_(op),
        o_(options),
        sizes_(krylov_sizes(options, op.size(), op.dtype(), context.ranks())),
        context_(context),
        ranks_(context.ranks()),
        rows_(ranks_.share(op.size())) {}
  EigenResult run();

 private:
  void allocate();
  bool allocate_on_device(int64_t least, int64_t ideal, int64_t otherwise);
  int64_t capacity_on_disk(int64_t least, int64_t ideal, int64_t besides) const;
  void begin();
  void inject(const at::Tensor& columns);
  at::Tensor random_columns();
  at::Tensor append(at::Tensor z);
  void expand(int64_t count);
  void make_room(int64_t count);
  RitzPairs ritz() const;
  bool finished(const RitzPairs& pairs);
  bool complete(const RitzPairs& pairs);
  void look_for_missed(const ComplementBounds& left);
  void make_probes();
  struct Rest {
    double squared = 0, deviation = 0;  // |B|_F^2 estimated, and the standard deviation of the estimate
    double norm = 0;                    // |B|_2 is below it
  };
  Rest rest_of_probes() const;
  ComplementBounds left_over();
  double measured_rounding(const RitzPairs& pairs);
  void certify(const RitzPairs& pairs, EigenResult& result);
  void save(bool always);
  std::string fingerprint() const;

  // Sums over the ranks what each has computed from its rows.
  at::Tensor over_ranks(const at::Tensor& part) const {
    ranks_.sum(part);
    return part;
  }
  // Of columns of which each rank has its rows: float64 [b].
  at::Tensor squared_lengths(const at::Tensor& z) const {
    return over_ranks(at::linalg_vector_norm(z, 2, 0, false, wide(z.scalar_type())).square().cpu());
  }
  std::tuple<at::Tensor, at::Tensor> eigh_of(const at::Tensor& a) const;
  // `small`, which belongs to a decomposition of n rows, where that is made.
  at::Tensor to_decompose(const at::Tensor& small, int64_t n) const {
    return n < kWorthADevice ? small : small.to(place_);
  }
  SpectrumBounds bounds_of_all(double eta_high, double eta_low, double rounding) const {
    const int64_t n = now_.processed + now_.waiting;
    return interlacing_bounds(to_decompose(now_.t, n), to_decompose(now_.coupling, n), eta_high, eta_low,
                              op_.size(), rounding);
  }
  Eigenvectors vectors(int64_t columns, const at::Tensor& coefficients) const;
  at::Tensor zeros(int64_t rows, int64_t columns) const {
    return at::zeros({rows, columns}, wide(op_.dtype()));
  }
  at::Tensor my_rows(const at::Tensor& block) const { return block.slice(0, rows_.begin, rows_.end()); }
  // A block for columns of which each rank has its rows, beside the basis.
  at::Tensor empty_rows(int64_t columns) const {
    return empty_block(rows_.count, columns, op_.dtype(), place_);
  }
  double eps() const { return epsilon(op_.dtype()); }
  double tolerance() const { return tolerance_of(o_, sizes_, op_.dtype()); }
  // Columns between two looks at the pairs, each of which costs a decomposition of T: seldom where nobody has
  // asked for less than all the products.
  int64_t between_looks() const {
    const bool adaptive = o_.tolerance > 0 || o_.error > 0 || sizes_.until_found;
    return std::max(sizes_.block, now_.processed / (adaptive ? 20 : 5));
  }
  // Below it, a vector that ought to have the size of ||H|| is rounding.
  double floor() const { return 10 * eps() * now_.norm; }

  LinearOperator& op_;
  const SolverOptions& o_;
  const KrylovSizes sizes_;
  const Context& context_;
  Ranks& ranks_;
  Timer timer_;
  const Share rows_;              // of the basis, this rank's
  c10::Device place_ = at::kCPU;  // of the basis and all blocks
  bool brought_ = false;          // some rank's rows of the basis are brought there from the host
  std::optional<Basis> basis_;    // processed, then waiting columns
  KrylovSnapshot now_;
  std::optional<KrylovState> state_;
  double saved_at_ = 0;
  std::optional<Probes> probes_;
  int64_t wanted_ = 0;  // k, or what the error asked for calls for
  int64_t checks_ = 0;  // products spent on what the basis leaves
};

// Vectors lie where the matrix does. The root's, so that no two ranks ever differ by rounding and part ways.
std::tuple<at::Tensor, at::Tensor> BlockKrylov::eigh_of(const at::Tensor& a) const {
  if (ranks_.alone()) {
    const auto [values, vectors] = at::linalg_eigh(a);
    return {values.cpu(), vectors};
  }
  at::Tensor values = at::empty({a.size(0)}, at::kDouble), vectors = at::empty_like(a);
  if (ranks_.root()) {
    std::tie(values, vectors) = at::linalg_eigh(a);
    values = values.cpu();
  }
  vectors = vectors.resolve_conj().contiguous();
  ranks_.agree_on(values);
  ranks_.agree_on(vectors);
  return {values, vectors};
}

// Room for the basis: what the products call for, or as much of it as there is and restarts for the rest; at
// least what a computation to go on from has already.
void BlockKrylov::allocate() {
  const int64_t element = static_cast<int64_t>(c10::elementSize(op_.dtype()));
  const int64_t saved = now_.processed + now_.waiting;
  const int64_t smallest = sizes_.smallest_basis;
  require(o_.basis == 0 || o_.basis >= smallest, "k = ", o_.k, " eigenpairs of ", op_.name(),
          " take a basis of ", smallest, " vectors, but the basis may have ", o_.basis, "; lower k");
  const int64_t least = std::max(smallest, saved), ideal = std::max(sizes_.ideal_basis, saved);
  const int64_t working = sizes_.working_memory, column = std::max<int64_t>(rows_.count, 1) * element;
  const int64_t left = ranks_.agree(context_.memory().available());
  const int64_t fitting = ranks_.agree(std::max<int64_t>((left - working) / column, 0));
  const bool in_memory = !o_.on_disk && fitting >= least;
  if (allocate_on_device(least, ideal, in_memory ? fitting : 0)) return;
  if (in_memory) {
    int64_t capacity = std::min(ideal, fitting);
    if (!o_.state.empty()) capacity = capacity_on_disk(least, capacity, 0);  // where it is kept
    basis_.emplace(rows_.count, capacity, op_.dtype(), o_.state, false, context_);
    return;
  }
  require(!o_.state.empty(), "k = ", o_.k, " eigenpairs of ", op_.name(), " take a basis of ", least,
          " vectors, ", format_bytes(least * column + working), " of memory, ", format_bytes(left),
          " are left; lower k or raise the ceiling (--memory)");
  require(working < left, "blocks of ", sizes_.block, " vectors of ", op_.name(), " take ",
          format_bytes(working), " of memory, ", format_bytes(left),
          " are left; lower the block or raise the ceiling (--memory)");
  basis_.emplace(rows_.count, capacity_on_disk(least, ideal, o_.k), op_.dtype(), o_.state, true, context_);
}

// The basis on the operator's device, or as many of its rows as fit there and the others on the host, where
// it is no smaller than `otherwise`; false: it is to lie elsewhere.
bool BlockKrylov::allocate_on_device(int64_t least, int64_t ideal, int64_t otherwise) {
  if (o_.on_disk || op_.device().is_cpu()) return false;
  const int64_t element = static_cast<int64_t>(c10::elementSize(op_.dtype())),
                column =
                    std::max<int64_t>(ranks_.share(op_.size(), 0).count, 1) * element;  // of the largest rank
  const int64_t host = ranks_.least(context_.memory().available()) - sizes_.beside_device -
                       5 * wide_bytes(op_.dtype()) * ideal * ideal;
  if (host < 0) return false;
  const int64_t working = sizes_.on_device;
  const int64_t room =
      room_on_device(op_, sizes_.block, working, ideal * column + working, context_, /*by_rows=*/true);
  const DeviceShare share = device_share(column, o_.k, sizes_.block, ideal, room - working, host);
  int64_t capacity = share.columns;
  if (capacity < std::max(least, std::min(ideal, otherwise))) return false;
  if (!o_.state.empty()) capacity = capacity_on_disk(least, capacity, 0);
  const int64_t there = std::min(rows_.count, share.bytes / (capacity * element));
  try {
    basis_.emplace(rows_.count, capacity, op_.dtype(), o_.state, false, context_, op_.device(), there);
  } catch (const c10::OutOfMemoryError&) {  // in pieces that are too small
    DeviceMemory(op_.device()).release();
  }
  if (ranks_.least(basis_ ? 1 : 0) == 0) {
    basis_.reset();
    return false;
  }
  place_ = op_.device();
  brought_ = ranks_.least(there < rows_.count ? 0 : 1) == 0;
  if (there < rows_.count)
    context_.progress().note(text_of("of the basis of ", capacity, " vectors, ",
                                     format_bytes(there * capacity * element), " are on ", op_.device(),
                                     " and ", format_bytes((rows_.count - there) * capacity * element),
                                     " in the host's memory, from where they are brought in turn"));
  return true;
}

// Between `least` and `ideal` columns, whichever fit the disk.
int64_t BlockKrylov::capacity_on_disk(int64_t least, int64_t ideal, int64_t besides) const {
  // For all ranks: m columns and the `besides` that come of them; where there are restarts, besides m what
  // one keeps, k + (m - k) / 3 columns and the waiting ones.
  const int64_t full = sizes_.full_basis;
  const int64_t column = op_.size() * static_cast<int64_t>(c10::elementSize(op_.dtype()));
  const auto bytes_of = [&](int64_t m, bool restarts) {
    return (m + 1 + (restarts ? o_.k + (m - o_.k) / 3 + sizes_.block + 1 : besides)) * column;
  };
  fs::create_directories(o_.state);
  std::error_code none;
  const fs::space_info space = fs::space(o_.state, none);
  int64_t room = none ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(space.available);
  for (const auto& entry : fs::directory_iterator(o_.state)) {
    const auto bytes = entry.file_size(none);  // of what is there already
    if (!none && room < std::numeric_limits<int64_t>::max()) room += static_cast<int64_t>(bytes);
  }
  room = ranks_.agree(room);
  int64_t capacity = ideal;
  while (capacity > least && bytes_of(capacity, capacity < full) > room) --capacity;
  require(bytes_of(capacity, capacity < full) <= room, "the basis for k = ", o_.k, " eigenpairs of ",
          op_.name(), " takes ", format_bytes(bytes_of(capacity, capacity < full)), " of disk in ",
          o_.state.string(), ", ", format_bytes(room),
          " are free; free some, choose another folder with --out, or lower k");
  return capacity;
}

// Without the vectors to start from, which a computation that has begun no longer needs.
std::string BlockKrylov::fingerprint() const {
  std::ostringstream text;
  text << op_.name() << "; D " << op_.size() << "; " << op_.dtype() << "; k " << o_.k << "; "
       << to_string(o_.selection) << "; seed " << o_.seed << "; block " << sizes_.block;
  if (o_.checks == 0) text << "; no checks";
  if (!ranks_.alone()) text << "; ranks " << ranks_.size();
  return text.str();
}

at::Tensor BlockKrylov::random_columns() {
  const int64_t count = std::min(sizes_.block, op_.size() - now_.processed);
  const at::Tensor random =
      random_gaussian(o_.seed, Stream::krylov, op_.size(), now_.draws, count, op_.dtype());
  now_.draws += count;
  return my_rows(random).to(place_);
}

void BlockKrylov::begin() {
  now_.t = zeros(0, 0);
  now_.coupling = zeros(0, 0);
  at::Tensor first = random_columns();
  if (o_.start.count() > 0) {
    // Random combinations of the vectors given, and a little of every other direction, so that none is out of
    // reach.
    const int64_t given = o_.start.count();
    const at::Tensor mix =
        random_gaussian(o_.seed, Stream::krylov, given, now_.draws, first.size(1), wide(op_.dtype()));
    now_.draws += first.size(1);
    const double little = 0.01 * std::sqrt(static_cast<double>(given) / static_cast<double>(op_.size()));
    first = my_rows(o_.start.times(mix)).to(place_, op_.dtype()).add_(first, little);
  }
  inject(first);
}

// Makes the part of `z` outside the basis waiting columns, without coupling, behind those that wait.
void BlockKrylov::inject(const at::Tensor& z) {
  const double norm = now_.norm;
  // The size that rounding is measured by.
  now_.norm = std::sqrt(squared_lengths(z).sum().item<double>());
  append(z);
  now_.norm = norm;
  const int64_t added = now_.waiting - now_.coupling.size(0);
  now_.coupling = at::cat({now_.coupling, zeros(added, now_.processed)});
}

// Z = V C + Q S for the basis V with the new orthonormal columns Q, which become waiting: returns [C; S].
// "Twice is enough" (Kahan, Parlett): columns are made orthogonal to the basis before and after they are
// scaled to length 1; what is left of the basis in them then follows from what was left before. Directions
// that are small beside the others of the block, and so would be inaccurate, take their turn when those have
// been taken out.
at::Tensor BlockKrylov::append(at::Tensor z) {
  const int64_t most = std::min(op_.size(), basis_->capacity());
  at::Tensor coefficients = over_ranks(basis_->projections(z));
  // What is left of the basis in Z on the way, where passes over the basis are dear; where it is all on a
  // device, instead in each block of unit vectors, with one more pass.
  const bool on_the_way = place_.is_cpu() || brought_;
  at::Tensor left;
  if (on_the_way)
    left = over_ranks(basis_->subtract_and_project(z, coefficients));
  else
    basis_->subtract(z, coefficients);
  for (int round = 0; round < 8 && basis_->size() < most; ++round) {
    const auto [squares, x] = eigh_of(over_ranks(transposed_product(z, z)));
    const at::Tensor sizes = squares.clamp_min(0).sqrt();  // rising
    const int64_t b = sizes.numel();
    const double largest = sizes[b - 1].item<double>();
    if (!(largest > floor())) break;
    const int64_t accurate = (sizes > std::max(1e-3 * largest, floor())).sum().item<int64_t>();
    const int64_t kept = std::min(accurate, most - basis_->size());
    // The largest first: should products run out within the block, these have had their turn.
    const at::Tensor scaled = (x.slice(1, b - kept) / sizes.slice(0, b - kept)).flip(1);
    if (on_the_way && round > 0) left = over_ranks(basis_->projections(z));
    at::Tensor q = times_small(z, scaled);
    basis_->subtract(q, on_the_way ? at::matmul(left, scaled) : over_ranks(basis_->projections(q)));
    const auto [again, y] = eigh_of(over_ranks(transposed_product(q, q)));
    // What has lost most of its length was in the basis but for rounding.
    const int64_t sound = (again > 0.25).sum().item<int64_t>();
    if (sound == 0) break;
    // Q (Q^T Q)^(-1/2), which leaves the columns in their order (Q^T Q is close to the identity, and its
    // eigenvectors a matter of rounding), unless some have to go.
    const at::Tensor orthonormal = y.slice(1, kept - sound) / again.slice(0, kept - sound).sqrt();
    q = times_small(q, sound == kept ? at::matmul(orthonormal, y.mH()) : orthonormal);
    basis_->append(q);
    const at::Tensor s = over_ranks(projections(q, z));
    subtract_product(z, q, s);
    coefficients = at::cat({coefficients, s});
  }
  now_.waiting = basis_->size() - now_.processed;
  return coefficients;
}

// Multiplies the first `count` waiting columns.
void BlockKrylov::expand(int64_t count) {
  const int64_t p = now_.processed, w = now_.waiting;
  at::Tensor z = empty_rows(count);
  const int64_t width = op_.preferred_block();
  for (int64_t begin = 0; begin < count; begin += width) {
    context_.check_cancelled();
    const int64_t end = std::min(begin + width, count);
    z.slice(1, begin, end).copy_(apply_rows(op_, basis_->columns(p + begin, end - begin), context_));
  }
  now_.products += count;
  context_.progress().advance(count);
  const double size = std::sqrt(squared_lengths(z).max().item<double>());
  now_.norm = std::max(now_.norm, size);
  now_.exhausted = !(size > floor());
  const at::Tensor c = append(z);
  const int64_t added = c.size(0) - p - w;
  const at::Tensor t = zeros(p + count, p + count);
  t.slice(0, 0, p).slice(1, 0, p).copy_(now_.t);
  t.slice(1, p).copy_(c.slice(0, 0, p + count));
  t.slice(0, p).copy_(t.slice(1, p).mH().clone());
  const at::Tensor corner = t.slice(0, p).slice(1, p);
  corner.copy_(symmetric_part(corner));
  now_.t = t;
  now_.coupling =
      at::cat({at::cat({now_.coupling.slice(0, count), zeros(added, p)}), c.slice(0, p + count)}, 1);
  now_.processed = p + count;
  now_.waiting = w - count + added;
}

RitzPairs BlockKrylov::ritz() const {
  const auto [values, vectors] = eigh_of(to_decompose(now_.t, now_.processed));
  const at::Tensor order = selection_order(values, std::min(o_.k, values.numel()), o_.selection);
  RitzPairs pairs{values.index_select(0, order), vectors.index_select(1, order.to(vectors.device())), {}};
  // Rounding of the products and of the basis, on top of what the recurrence says.
  const at::Tensor coupling = now_.coupling.to(vectors.device());
  pairs.residuals = squared_abs(at::matmul(coupling, pairs.vectors)).sum(0).sqrt().cpu() +
                    20 * eps() * pairs.values.abs().max().item<double>();
  ranks_.agree_on(pairs.residuals);
  return pairs;
}

// The leading columns of the basis times coefficients, if there are any.
Eigenvectors BlockKrylov::vectors(int64_t columns, const at::Tensor& coefficients) const {
  std::shared_ptr<const TallMatrix> v = basis_->leading(columns);
  if (!ranks_.alone()) v = std::make_shared<DividedTallMatrix>(op_.size(), v, context_);
  return {v, coefficients};
}

// Thick restart, when `count` more columns would not fit.
void BlockKrylov::make_room(int64_t count) {
  const int64_t capacity = basis_->capacity(), p = now_.processed, w = now_.waiting;
  if (p + w + count <= capacity || capacity == op_.size()) return;
  const RitzPairs pairs = ritz();
  // Beside the wanted pairs, a third of the room keeps those on their way; the rest is for new directions.
  const int64_t kept = std::min({o_.k + (capacity - o_.k) / 3, capacity - w - 2 * count, p});
  const at::Tensor y = pairs.vectors.slice(1, 0, kept).contiguous().cpu();
  basis_->restart(p, y);
  now_.t = at::diag(pairs.values.slice(0, 0, kept)).to(wide(op_.dtype()));
  now_.coupling = at::matmul(now_.coupling, y);
  now_.processed = kept;
  // Two generations are on disk until the later one is safe.
  if (basis_->on_disk()) save(true);
}

// What the residuals say.
bool BlockKrylov::finished(const RitzPairs& pairs) {
  wanted_ = std::min(o_.k, pairs.values.numel());
  // Of one sign, there may be fewer.
  if (o_.selection == Selection::positive || o_.selection == Selection::negative) {
    const double sign = o_.selection == Selection::positive ? 1 : -1;
    wanted_ = (sign * pairs.values.slice(0, 0, wanted_) > floor()).sum().item<int64_t>();
    if (wanted_ < o_.k && pairs.values.numel() < o_.k) return false;
  }
  if (o_.error > 0) {
    // |H - H^|^2 for the first 0, 1, ... Ritz pairs: the others', twice the coupling's, and the rest's, which
    // alone is estimated. It is looked at again and again, so that its noise is allowed for.
    const Rest rest = rest_of_probes();
    const double known = 2 * squared_abs(now_.coupling).sum().item<double>();
    const at::Tensor squares = pairs.values.square();
    const at::Tensor left =
        at::cat({squares.flip(0).cumsum(0).flip(0), at::zeros({1}, at::kDouble)}).slice(0, 0, wanted_ + 1) +
        known;
    const double noise = kNoise * rest.deviation, all = left[0].item<double>() + rest.squared;
    const at::Tensor good = left + rest.squared + noise <= o_.error * o_.error * std::max(all - noise, 0.0);
    if (!good.any().item<bool>()) return false;
    wanted_ = std::max<int64_t>(1, good.to(at::kByte).argmax().item<int64_t>());
    if (o_.tolerance == 0) return true;
  } else if (wanted_ < o_.k && o_.selection != Selection::positive && o_.selection != Selection::negative) {
    return false;
  }
  const double scale = pairs.values.abs().max().item<double>();
  return (pairs.residuals.slice(0, 0, wanted_) <= tolerance() * scale).all().item<bool>();
}

void BlockKrylov::save(bool always) {
  if (!state_ || !ranks_.agree(always || timer_.seconds() - saved_at_ >= o_.save_seconds)) return;
  state_->save(now_, *basis_);
  saved_at_ = timer_.seconds();
}

EigenResult BlockKrylov::run() {
  if (!o_.state.empty()) {
    state_.emplace(o_.state, fingerprint(), o_.fingerprint, context_);
    if (auto kept = state_->read()) now_ = std::move(*kept);
  }
  allocate();
  if (state_) state_->load(now_, *basis_);
  if (o_.error > 0) make_probes();
  if (now_.processed + now_.waiting == 0) begin();
  context_.progress().begin("eigenpairs of " + op_.name(),
                            std::max<int64_t>(sizes_.products - now_.products, 0), "products");
  now_.done = now_.done && finished(ritz());
  while (!now_.done && now_.products < sizes_.products) {
    if (now_.waiting > 0 && (o_.error > 0 || now_.processed >= o_.k) &&
        now_.products - now_.looked_at >= between_looks()) {
      now_.looked_at = now_.products;
      const RitzPairs pairs = ritz();
      now_.done = finished(pairs) && complete(pairs);
      if (now_.done) break;
    }
    if (now_.waiting == 0) {
      if (now_.processed == op_.size() || now_.exhausted) break;
      // Invariant, but blind to what the random start had no part in.
      const RitzPairs pairs = ritz();
      now_.done = finished(pairs) && complete(pairs);
      if (now_.done) break;
      if (now_.waiting == 0) {
        make_room(sizes_.block);
        inject(random_columns());
      }
      if (now_.waiting == 0) break;
    }
    const int64_t count = std::min({now_.waiting, sizes_.block, sizes_.products - now_.products});
    make_room(count);
    expand(count);
    save(false);
  }
  save(true);
  context_.progress().end();

  const RitzPairs pairs = ritz();
  finished(pairs);
  EigenResult result;
  result.method = "krylov";
  result.selection = o_.selection;
  result.seed = o_.seed;
  result.products = now_.products;
  result.spectrum = pairs.values;
  // Zero eigenvalues are no pairs when nothing else is left of the operator: any vector would do.
  result.rank = wanted_;
  if (now_.exhausted || now_.done || now_.processed == op_.size()) {
    const at::Tensor zero = pairs.values.slice(0, 0, wanted_).abs() <= floor();
    if (zero.any().item<bool>() && o_.selection == Selection::magnitude)
      result.rank = zero.to(at::kByte).argmax().item<int64_t>();
  }
  const at::Tensor y = pairs.vectors.slice(1, 0, result.rank).contiguous().cpu();
  if (now_.processed > 0) {
    const std::shared_ptr<const TallMatrix> v = basis_->leading(now_.processed);
    const at::Tensor x = random_gaussian(o_.seed, Stream::check, now_.processed, 0, 8, wide(op_.dtype()));
    result.orthogonality_loss = std::sqrt(
        squared_abs(over_ranks(transposed_product(*v, times_small(*v, x))) - x).sum().item<double>() / 8);
  }
  result.eigenvalues = pairs.values.slice(0, 0, result.rank).clone();
  if (!op_.rounds()) {
    certify(pairs, result);
    const double scale = result.rank > 0 ? pairs.values.abs().max().item<double>() : 0;
    // Where none was asked for, by the recurrence: what was measured of rounding may be more than it assumes.
    const at::Tensor& judged = o_.tolerance > 0 ? result.residuals : pairs.residuals;
    result.converged = leading_within(judged.slice(0, 0, result.rank), tolerance() * scale);
  }
  basis_->truncate(now_.processed);
  basis_->restart(now_.processed, y);
  result.eigenvectors = vectors(result.rank, {}).on_host();
  result.checks = checks_;
  result.products += checks_ + (probes_ ? probes_->count() : 0);
  result.peak_bytes = peak_memory_bytes();
  result.seconds = timer_.seconds();
  return result;
}

void BlockKrylov::make_probes() {
  if (!probes_ && o_.probes > 0) probes_.emplace(op_, o_.probes, o_.seed, context_);
}

// B G = (I - V1 V1^T) H G - V2 S V1^T G, the probes' G.
BlockKrylov::Rest BlockKrylov::rest_of_probes() const {
  const int64_t q = probes_->count(), p = now_.processed;
  const at::Tensor left = empty_rows(q);
  left.copy_(my_rows(probes_->products(0, q)));
  at::Tensor c = over_ranks(basis_->projections(left));
  const at::Tensor g = over_ranks(basis_->projections(as_block(my_rows(probes_->vectors(0, q))).to(place_)));
  c.slice(0, p).copy_(at::matmul(now_.coupling, g.slice(0, 0, p)));
  basis_->subtract(left, c);
  const at::Tensor gram = over_ranks(transposed_product(left, left));
  const at::Tensor squares = at::real(gram.diagonal());
  Rest rest;
  rest.squared = squares.mean().item<double>();
  if (q > 1)
    rest.deviation = std::sqrt(squares.var(0, /*unbiased=*/true).item<double>() / static_cast<double>(q));
  const auto [values, unused] = eigh_of(symmetric_part(gram));
  rest.norm = probes_->norm_bound(values[q - 1].item<double>());
  return rest;
}

ComplementBounds BlockKrylov::left_over() {
  const int64_t p = now_.processed;
  const auto project = [&](const at::Tensor& x) {
    at::Tensor z = empty_rows(x.size(1));
    z.copy_(my_rows(x));
    for (int pass = 0; pass < 2; ++pass) {
      const at::Tensor c = over_ranks(basis_->projections(z));
      c.slice(0, p).zero_();
      basis_->subtract(z, c);
    }
    return gather_rows(op_.size(), z, ranks_);
  };
  const int64_t before = op_.products();
  ComplementBounds left = complement_bounds(op_, project, op_.size() - p, o_.checks - kRoundingProducts,
                                            o_.seed, now_.draws++, context_);
  checks_ += op_.products() - before;
  return left;
}

// Products and recurrence held against each other: the root mean square length, over the wanted pairs, of
// what H V1 y differs from V1 T y + V2 S y. Restarts, rounding, asymmetry, all that has come together.
double BlockKrylov::measured_rounding(const RitzPairs& pairs) {
  const int64_t n = std::min<int64_t>(std::max<int64_t>(wanted_, 1), pairs.values.numel());
  if (o_.checks < kRoundingProducts || now_.processed == 0) return 0;
  at::Tensor mix = random_gaussian(o_.seed, Stream::check, n, 0, kRoundingProducts, wide(op_.dtype()));
  const at::Tensor y =
      at::matmul(pairs.vectors.slice(1, 0, n).cpu(), mix / std::sqrt(static_cast<double>(n)));
  const at::Tensor x = times_small(*basis_->leading(now_.processed), y);
  const at::Tensor z = apply_rows(op_, x, context_);
  checks_ += kRoundingProducts;
  basis_->subtract(z, at::cat({at::matmul(now_.t, y), at::matmul(now_.coupling, y)}));
  return std::sqrt(squared_lengths(z).mean().item<double>());
}

// What the enclosures say: can an eigenvalue of those wanted be larger than the one found by more than the
// tolerance? Else goes after what has been missed.
bool BlockKrylov::complete(const RitzPairs& pairs) {
  if (o_.error > 0 || o_.checks <= kRoundingProducts || now_.processed == op_.size()) return true;
  // Not again before there is something new.
  if (now_.waiting > 0 && now_.checked_at > 0 && now_.products - now_.checked_at < o_.checks) return false;
  now_.checked_at = now_.products;
  const ComplementBounds left = left_over();
  const SpectrumBounds bounds = bounds_of_all(left.high, left.low, 0);
  const double slack = tolerance() * pairs.values.abs().max().item<double>();
  // Without rounding, lower bounds are the Ritz values.
  const auto end_complete = [&](const EndBounds& end, int64_t n, bool signed_only) {
    for (int64_t i = 0; i < n; ++i) {
      const size_t at = static_cast<size_t>(i);
      const double value = at < end.lower.size() ? end.lower[at] : 0,
                   upper = at < end.upper.size() ? end.upper[at] : end.rest;
      if (upper > (signed_only ? std::max(value, 0.0) : value) + slack) return false;
    }
    return true;
  };
  bool all = false;
  switch (o_.selection) {
    case Selection::positive:
      all = end_complete(bounds.high, o_.k, true);
      break;
    case Selection::negative:
      all = end_complete(bounds.low, o_.k, true);
      break;
    case Selection::both:
      all = end_complete(bounds.high, (o_.k + 1) / 2, false) && end_complete(bounds.low, o_.k / 2, false);
      break;
    case Selection::magnitude: {
      std::vector<double> upper;
      for (const EndBounds* end : {&bounds.high, &bounds.low})
        for (int64_t i = 0; i < o_.k; ++i)
          upper.push_back(static_cast<size_t>(i) < end->upper.size() ? end->upper[static_cast<size_t>(i)]
                                                                     : end->rest);
      std::sort(upper.begin(), upper.end(), std::greater<>());
      const at::Tensor found = pairs.values.abs().contiguous();
      all = true;
      for (int64_t i = 0; i < o_.k; ++i) {
        const double value = i < found.numel() ? found[i].item<double>() : 0;
        all = all && upper[static_cast<size_t>(i)] <= value + slack;
      }
      break;
    }
  }
  all = ranks_.agree(all);
  if (!all) look_for_missed(left);
  return all;
}

// Fresh directions: the leading ones of what is left, and random ones.
void BlockKrylov::look_for_missed(const ComplementBounds& left) {
  if (now_.waiting > sizes_.block || !left.vectors.defined()) return;
  make_room(sizes_.block);
  inject(as_block(my_rows(left.vectors)).clone());
  if (sizes_.block > 2) inject(random_columns().slice(1, 0, std::max<int64_t>(sizes_.block - 2, 1)).clone());
}

void BlockKrylov::certify(const RitzPairs& pairs, EigenResult& result) {
  const double norm = pairs.values.numel() > 0 ? pairs.values.abs().max().item<double>() : 0;
  const double measured = std::max(measured_rounding(pairs), op_.product_error());
  result.rounding = rounding_bound(measured, norm, op_.dtype());
  const at::Tensor residuals = pairs.residuals - (20 * eps() * norm - result.rounding);
  double eta_high = std::numeric_limits<double>::infinity(), eta_low = eta_high;
  if (o_.probes > 0) {
    make_probes();
    const Rest rest = rest_of_probes();
    eta_high = eta_low = rest.norm;
    result.error = probes_->error_of_projection(
        pairs.values, result.rank, squared_abs(now_.coupling).sum().item<double>(), rest.squared);
  }
  if (o_.checks > kRoundingProducts) {
    // Anew, even where one has just said that all is found: among several looks the one that ends the search
    // is no fair draw.
    const ComplementBounds left = left_over();
    eta_high = std::min(eta_high, left.high);
    eta_low = std::min(eta_low, left.low);
  }
  const SpectrumBounds bounds = bounds_of_all(eta_high, eta_low, result.rounding);
  result.residuals = residuals.slice(0, 0, result.rank).clone();
  result.certificates =
      certify_pairs(pairs.values, residuals, result.rank, o_.selection, o_.k, bounds, op_.size());
}

}  // namespace

// All there, unless a part of each column on the host makes it longer: a basis that is too short is
// restarted, which costs products. In the end the device's part of k columns comes to the host.
DeviceShare device_share(int64_t column, int64_t k, int64_t block, int64_t ideal, int64_t room,
                         int64_t host) {
  const auto moved = [&](int64_t bytes, int64_t columns) {
    return bytes / std::max<int64_t>(columns, 1) * k;
  };
  const int64_t alone = std::clamp<int64_t>(room / column, 0, ideal);
  const bool fits = k * column <= host;
  if (fits && alone == ideal) return {ideal, ideal * column};
  // A block of the basis is then a copy.
  const int64_t beside = room - Transfers::on_device(piece_bytes(ideal * column)) - block * column;
  int64_t both = beside > 0 ? std::clamp<int64_t>((beside + host) / column, 0, ideal) : 0;
  while (both > 0 &&
         std::max<int64_t>(both * column - beside, 0) + moved(std::min(beside, both * column), both) > host)
    --both;
  if (fits && alone >= both) return {alone, alone * column};
  return {both, std::min(beside, both * column)};
}

KrylovSizes krylov_sizes(const SolverOptions& options, int64_t dimension, at::ScalarType dtype,
                         const Ranks& ranks) {
  const SolverOptions o = options.resolved(dimension);
  const int64_t element = static_cast<int64_t>(c10::elementSize(dtype));
  KrylovSizes sizes = {};
  // Small blocks converge in fewer products; but each takes three passes over the basis, which are dear when
  // it is long.
  sizes.block = o.block > 0 ? o.block : std::clamp<int64_t>(o.k / 20, dimension < 100'000 ? 8 : 16, 32);
  sizes.block = std::min(sizes.block, dimension);
  // Until what is wanted is found, where nobody says how many.
  sizes.until_found = options.products == 0 && o.tolerance == 0 && o.error == 0;
  sizes.products =
      options.products > 0 ? o.products : std::min(std::max(o.products, 20 * sizes.block), dimension);
  sizes.full_basis = std::min(dimension, sizes.products + sizes.block);
  sizes.smallest_basis = std::min(sizes.full_basis, o.k + 4 * sizes.block);
  sizes.ideal_basis = o.basis > 0 ? std::min(sizes.full_basis, o.basis) : sizes.full_basis;
  // A block, its product and copies of them; panels of them in float64, with what is computed from them. The
  // products of the probes, with a few vectors of the work on them, follow after all that, unless they say
  // when to stop.
  const int64_t blocks = 4 * sizes.block * dimension * element,
                certificate = (2 * o.probes + o.checks + 2) * dimension * element,
                panel = std::min(8 * std::max(sizes.block, o.probes) * dimension, int64_t{32} << 20);
  sizes.working_memory = (o.error > 0 ? blocks + certificate : std::max(blocks, certificate)) + 3 * panel;
  // T, its eigenvectors, some of them, and what their computation takes.
  const int64_t small =
      sizes.ideal_basis < kWorthADevice ? 0 : 6 * wide_bytes(dtype) * sizes.ideal_basis * sizes.ideal_basis;
  // Of ranks, blocks on the device have a rank's rows, but while they are multiplied; the probes' products
  // are on the host.
  const int64_t rows = ranks.share(dimension, 0).count, each = ranks.share(sizes.block, 0).count,
                of_ranks = 4 * sizes.block * rows * element +
                           std::max(3 * each, o.checks + 2) * dimension * element + 3 * panel;
  sizes.on_device = (ranks.alone() ? sizes.working_memory : of_ranks) +
                    panels_on_device(sizes.ideal_basis * rows * element) + small;
  // Random vectors on their way there, what the certificates take, and what panels are brought through.
  sizes.beside_device = std::max(2 * sizes.block * dimension * element, certificate) + panel +
                        2 * piece_bytes(sizes.ideal_basis * rows * element);
  if (!options.state.empty())
    sizes.beside_device += std::min(Basis::file_bytes(rows * element), sizes.ideal_basis * rows * element);
  return sizes;
}

EigenResult krylov(LinearOperator& op, const SolverOptions& options, const Context& context) {
  options.of(Method::krylov, op.size());
  require(
      options.start.count() == 0 || at::isComplexType(options.start.dtype()) == at::isComplexType(op.dtype()),
      "the vectors to start from and ", op.name(), " must both be real or both complex");
  const Context::Scope scope(context);
  return on_device_of(op, "krylov", [&] {
    EigenResult result = BlockKrylov(op, options, context).run();
    result = refined(op, std::move(result), options, context);
    if (op.rounds() && result.rank > 0)
      result.converged = leading_within(
          result.residuals, tolerance_of(options, krylov_sizes(options, op.size(), op.dtype()), op.dtype()) *
                                result.spectrum.abs().max().item<double>());
    return result;
  });
}

}  // namespace seigh
