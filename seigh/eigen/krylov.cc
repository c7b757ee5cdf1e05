#include "seigh/eigen/krylov.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <sstream>
#include <tuple>
#include <utility>

#include "seigh/base/communicator.h"
#include "seigh/base/error.h"
#include "seigh/base/memory_pool.h"
#include "seigh/base/random.h"
#include "seigh/base/timer.h"
#include "seigh/eigen/krylov_state.h"
#include "seigh/eigen/range.h"
#include "seigh/linop/panels.h"
#include "seigh/linop/tall_matrix.h"

namespace seigh {
namespace {

double epsilon(at::ScalarType dtype) {
  return dtype == at::kFloat ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
}

struct RitzPairs {
  at::Tensor values;     // float64 [p], the selected ones first
  at::Tensor vectors;    // float64 [p, p], in terms of the basis
  at::Tensor residuals;  // float64 [p], upper bounds
};

// Sums over the ranks what each has computed from its rows.
at::Tensor over_ranks(const at::Tensor& part) {
  world().sum(part);
  return part;
}

// The root's, so that no two ranks ever differ by rounding and part ways.
std::tuple<at::Tensor, at::Tensor> eigh_of(const at::Tensor& a) {
  if (world().size() == 1) return at::linalg_eigh(a);
  at::Tensor values = at::empty({a.size(0)}, at::kDouble), vectors = at::empty_like(a, at::kDouble);
  if (world().root()) std::tie(values, vectors) = at::linalg_eigh(a);
  vectors = vectors.contiguous();
  world().agree_on(values);
  world().agree_on(vectors);
  return {values, vectors};
}

class BlockKrylov {
 public:
  BlockKrylov(LinearOperator& op, const KrylovOptions& options, Progress& progress)
      : op_(op), o_(options), progress_(progress), timer_() {
    allocate();
  }
  EigenResult run();

 private:
  void allocate();
  void begin();
  void inject(const at::Tensor& columns);
  at::Tensor random_columns();
  at::Tensor append(at::Tensor z);
  void expand(int64_t count);
  void make_room(int64_t count);
  RitzPairs ritz() const;
  bool finished(const RitzPairs& pairs);
  void save(bool always);
  std::string fingerprint() const;

  at::Tensor columns(int64_t begin, int64_t count) const { return basis_.slice(1, begin, begin + count); }
  Eigenvectors vectors(const at::Tensor& basis, const at::Tensor& coefficients) const;
  at::Tensor my_rows(const at::Tensor& block) const { return block.slice(0, rows_.begin, rows_.end()); }
  double eps() const { return epsilon(op_.dtype()); }
  // Of residuals, which allow 20 eps for rounding, relative to the largest eigenvalue.
  double tolerance() const { return o_.tolerance > 0 ? std::max(o_.tolerance, 40 * eps()) : 22 * eps(); }
  // Below it, a vector that ought to have the size of ||H|| is rounding.
  double floor() const { return 10 * eps() * now_.norm; }

  LinearOperator& op_;
  const KrylovOptions& o_;
  Progress& progress_;
  Timer timer_;
  const Share rows_ = world().share(op_.size());  // of the basis, this rank's
  at::Tensor basis_;                              // [rows, capacity]: processed, then waiting columns
  KrylovSnapshot now_;
  std::optional<KrylovState> state_;
  double saved_at_ = 0;
  std::optional<Probes> probes_;
  int64_t wanted_ = 0;  // k, or what the error asked for calls for
};

void BlockKrylov::allocate() {
  const int64_t d = op_.size(), element = static_cast<int64_t>(c10::elementSize(op_.dtype()));
  const int64_t whole =
      4 * o_.block * d * element;  // besides the basis: a block, its product and copies of them
  const int64_t ideal = std::min(d, o_.products + o_.block), least = o_.smallest_basis(d);
  const int64_t fitting = (available_memory() - whole) / (rows_.count * element);
  const int64_t capacity =
      world().agree(std::min({ideal, o_.basis > 0 ? o_.basis : ideal, std::max(fitting, int64_t{0})}));
  require(capacity >= std::min(least, ideal), "k = ", o_.k, " eigenpairs of ", op_.name(),
          " take a basis of ", least, " vectors, ", format_bytes(least * rows_.count * element + whole),
          " of memory, ",
          o_.basis > 0 && o_.basis < least ? "but the basis may have " + std::to_string(o_.basis)
                                           : format_bytes(available_memory()) + " are left",
          "; lower k or raise the ceiling (--memory)");
  basis_ = empty_block(rows_.count, capacity, op_.dtype());
}

// Without the vectors to start from, which a computation that has begun no longer needs.
std::string BlockKrylov::fingerprint() const {
  std::ostringstream text;
  text << op_.name() << "; D " << op_.size() << "; " << op_.dtype() << "; k " << o_.k << "; "
       << to_string(o_.selection) << "; seed " << o_.seed << "; block " << o_.block;
  if (world().size() > 1) text << "; ranks " << world().size();
  return text.str();
}

at::Tensor BlockKrylov::random_columns() {
  const int64_t count = std::min(o_.block, op_.size() - now_.processed);
  const at::Tensor random =
      random_gaussian(o_.seed, Stream::krylov, op_.size(), now_.draws, count, op_.dtype());
  now_.draws += count;
  return my_rows(random);
}

void BlockKrylov::begin() {
  now_.t = at::zeros({0, 0}, at::kDouble);
  now_.coupling = at::zeros({0, 0}, at::kDouble);
  at::Tensor first = random_columns();
  if (o_.start.defined()) {
    // Random combinations of the vectors given, and a little of every other direction, so that none is out of
    // reach.
    const at::Tensor mix =
        random_gaussian(o_.seed, Stream::krylov, o_.start.size(1), now_.draws, first.size(1), at::kDouble);
    now_.draws += first.size(1);
    const double little =
        0.01 * std::sqrt(static_cast<double>(o_.start.size(1)) / static_cast<double>(op_.size()));
    first = times_small(my_rows(o_.start), mix).to(op_.dtype()).add_(first, little);
  }
  inject(first);
}

// Makes the part of `z` outside the basis waiting columns of their own, without coupling.
void BlockKrylov::inject(const at::Tensor& z) {
  const double norm = now_.norm;
  // The size that rounding is measured by.
  now_.norm = std::sqrt(over_ranks(z.square().sum(at::kDouble)).item<double>());
  append(z);
  now_.norm = norm;
  now_.coupling = at::zeros({now_.waiting, now_.processed}, at::kDouble);
}

// Z = V C + Q S for the basis V with the new orthonormal columns Q, which become waiting: returns [C; S].
// "Twice is enough" (Kahan, Parlett): columns are made orthogonal to the basis before and after they are
// scaled to length 1. Directions that are small beside the others of the block, and so would be inaccurate,
// take their turn when those have been taken out.
at::Tensor BlockKrylov::append(at::Tensor z) {
  int64_t columns_now = now_.processed + now_.waiting;
  const int64_t most = std::min(op_.size(), basis_.size(1));
  at::Tensor coefficients = over_ranks(projections(columns(0, columns_now), z));
  subtract_product(z, columns(0, columns_now), coefficients);
  for (int round = 0; round < 8 && columns_now < most; ++round) {
    const auto [squares, x] = eigh_of(over_ranks(transposed_product(z, z)));
    const at::Tensor sizes = squares.clamp_min(0).sqrt();  // rising
    const int64_t b = sizes.numel();
    const double largest = sizes[b - 1].item<double>();
    if (!(largest > floor())) break;
    const int64_t accurate = (sizes > std::max(1e-3 * largest, floor())).sum().item<int64_t>();
    const int64_t kept = std::min(accurate, most - columns_now);
    at::Tensor q = times_small(z, x.slice(1, b - kept) / sizes.slice(0, b - kept));
    subtract_product(q, columns(0, columns_now), over_ranks(projections(columns(0, columns_now), q)));
    const auto [again, y] = eigh_of(over_ranks(transposed_product(q, q)));
    // What has lost most of its length was in the basis but for rounding.
    const int64_t sound = (again > 0.25).sum().item<int64_t>();
    if (sound == 0) break;
    q = times_small(q, y.slice(1, kept - sound) / again.slice(0, kept - sound).sqrt());
    columns(columns_now, sound).copy_(q);
    columns_now += sound;
    const at::Tensor s = over_ranks(projections(q, z));
    subtract_product(z, q, s);
    coefficients = at::cat({coefficients, s});
  }
  now_.waiting = columns_now - now_.processed;
  return coefficients;
}

// Multiplies the first `count` waiting columns.
void BlockKrylov::expand(int64_t count) {
  const int64_t p = now_.processed, w = now_.waiting;
  at::Tensor z = empty_block(rows_.count, count, op_.dtype());
  const int64_t width = op_.preferred_block();
  for (int64_t begin = 0; begin < count; begin += width) {
    const int64_t end = std::min(begin + width, count);
    z.slice(1, begin, end)
        .copy_(my_rows(op_.apply(gather_rows(op_.size(), columns(p + begin, end - begin)))));
  }
  now_.products += count;
  progress_.advance(count);
  const double size = std::sqrt(over_ranks(z.norm(2, 0, false, at::kDouble).square()).max().item<double>());
  now_.norm = std::max(now_.norm, size);
  now_.exhausted = !(size > floor());
  const at::Tensor c = append(z);
  const int64_t added = c.size(0) - p - w;
  const at::Tensor t = at::zeros({p + count, p + count}, at::kDouble);
  t.slice(0, 0, p).slice(1, 0, p).copy_(now_.t);
  t.slice(1, p).copy_(c.slice(0, 0, p + count));
  t.slice(0, p).copy_(t.slice(1, p).t().clone());
  const at::Tensor corner = t.slice(0, p).slice(1, p);
  corner.copy_(0.5 * (corner + corner.t()));
  now_.t = t;
  now_.coupling = at::cat(
      {at::cat({now_.coupling.slice(0, count), at::zeros({added, p}, at::kDouble)}), c.slice(0, p + count)},
      1);
  now_.processed = p + count;
  now_.waiting = w - count + added;
}

RitzPairs BlockKrylov::ritz() const {
  const auto [values, vectors] = eigh_of(now_.t);
  const at::Tensor order = selection_order(values, std::min(o_.k, values.numel()), o_.selection);
  RitzPairs pairs{values.index_select(0, order), vectors.index_select(1, order), {}};
  // Rounding of the products and of the basis, on top of what the recurrence says.
  pairs.residuals = at::matmul(now_.coupling, pairs.vectors).norm(2, 0) +
                    20 * eps() * pairs.values.abs().max().item<double>();
  world().agree_on(pairs.residuals);
  return pairs;
}

Eigenvectors BlockKrylov::vectors(const at::Tensor& basis, const at::Tensor& coefficients) const {
  if (world().size() == 1) return Eigenvectors(basis, coefficients);
  return {std::make_shared<DividedTallMatrix>(op_.size(), basis), coefficients};
}

// Thick restart, when `count` more columns would not fit.
void BlockKrylov::make_room(int64_t count) {
  const int64_t capacity = basis_.size(1), p = now_.processed, w = now_.waiting;
  if (p + w + count <= capacity || capacity == op_.size()) return;
  const RitzPairs pairs = ritz();
  // Beside the wanted pairs, a third of the room keeps those on their way; the rest is for new directions.
  const int64_t kept = std::min({o_.k + (capacity - o_.k) / 3, capacity - w - 2 * count, p});
  const at::Tensor y = pairs.vectors.slice(1, 0, kept).contiguous();
  const at::Tensor waiting = columns(p, w).clone();
  times_small_in_place(columns(0, p), y);
  columns(kept, w).copy_(waiting);
  now_.t = at::diag(pairs.values.slice(0, 0, kept));
  now_.coupling = at::matmul(now_.coupling, y);
  now_.processed = kept;
  ++now_.generation;
}

bool BlockKrylov::finished(const RitzPairs& pairs) {
  wanted_ = std::min(o_.k, pairs.values.numel());
  if (o_.error > 0) {
    const at::Tensor left = probes_->squared_errors(
        pairs.values.slice(0, 0, wanted_),
        vectors(columns(0, now_.processed), pairs.vectors.slice(1, 0, wanted_).contiguous()));
    const at::Tensor good = left <= o_.error * o_.error * left[0];
    if (!good.any().item<bool>()) return false;
    wanted_ = std::max<int64_t>(1, good.to(at::kByte).argmax().item<int64_t>());
    if (o_.tolerance == 0) return true;
  } else if (wanted_ < o_.k) {
    return false;
  }
  const double scale = pairs.values.abs().max().item<double>();
  return (pairs.residuals.slice(0, 0, wanted_) <= tolerance() * scale).all().item<bool>();
}

void BlockKrylov::save(bool always) {
  if (!state_ || !world().agree(always || timer_.seconds() - saved_at_ >= o_.save_seconds)) return;
  state_->save(now_, basis_);
  saved_at_ = timer_.seconds();
}

EigenResult BlockKrylov::run() {
  if (!o_.state.empty()) {
    state_.emplace(o_.state, fingerprint());
    if (auto kept = state_->load(basis_)) now_ = std::move(*kept);
  }
  if (o_.error > 0 || o_.probes > 0)
    probes_.emplace(op_, std::max<int64_t>(o_.probes, 1), o_.seed, progress_);
  if (now_.processed + now_.waiting == 0) begin();
  progress_.begin("eigenpairs of " + op_.name(), std::max<int64_t>(o_.products - now_.products, 0),
                  "products");
  now_.done = now_.done && finished(ritz());
  while (!now_.done && now_.products < o_.products) {
    const bool broken = now_.at_breakdown.defined();
    // A look costs a decomposition of T: not after every block when T is large.
    if (!broken && now_.waiting > 0 && (o_.error > 0 || now_.processed >= o_.k) &&
        now_.products - now_.looked_at >= std::max(o_.block, now_.processed / 20)) {
      now_.looked_at = now_.products;
      now_.done = finished(ritz());
      if (now_.done) break;
    }
    if (now_.waiting == 0) {
      if (now_.processed == op_.size() || now_.exhausted) break;
      const RitzPairs pairs = ritz();
      const bool enough = finished(pairs);
      const at::Tensor wanted = pairs.values.slice(0, 0, wanted_).clone();
      // Invariant, but blind to what the random start had no part in: only fresh directions that change
      // nothing end the search.
      now_.done = enough && broken && now_.at_breakdown.sizes() == wanted.sizes() &&
                  (now_.at_breakdown - wanted).abs().max().item<double>() <= floor();
      if (now_.done) break;
      now_.at_breakdown = wanted;
      make_room(o_.block);
      inject(random_columns());
      if (now_.waiting == 0) break;
    }
    const int64_t count = std::min({now_.waiting, o_.block, o_.products - now_.products});
    make_room(count);
    expand(count);
    save(false);
  }
  save(true);
  progress_.end();

  const RitzPairs pairs = ritz();
  finished(pairs);
  EigenResult result;
  result.method = "krylov";
  result.selection = o_.selection;
  result.seed = o_.seed;
  result.products = now_.products;
  result.spectrum = pairs.values;
  // Zero eigenvalues are no pairs when the operator is exhausted: any vector would do.
  result.rank = wanted_;
  if (now_.exhausted || now_.processed == op_.size()) {
    const at::Tensor zero = pairs.values.slice(0, 0, wanted_).abs() <= floor();
    if (zero.any().item<bool>() && o_.selection == Selection::magnitude)
      result.rank = zero.to(at::kByte).argmax().item<int64_t>();
  }
  result.eigenvalues = pairs.values.slice(0, 0, result.rank).clone();
  result.residuals = pairs.residuals.slice(0, 0, result.rank).clone();
  const at::Tensor v = columns(0, now_.processed);
  if (now_.processed > 0) {
    const at::Tensor x = random_gaussian(o_.seed, Stream::check, now_.processed, 0, 8, at::kDouble);
    result.orthogonality_loss =
        (over_ranks(transposed_product(v, times_small(v, x))) - x).norm().item<double>() / std::sqrt(8.0);
  }
  const double scale = result.rank > 0 ? pairs.values.abs().max().item<double>() : 0;
  result.converged =
      (result.residuals > tolerance() * scale).to(at::kLong).cumsum(0).eq(0).sum().item<int64_t>();
  result.eigenvectors =
      vectors(times_small_in_place(v, pairs.vectors.slice(1, 0, result.rank).contiguous()), {});
  if (probes_ && o_.probes > 0) {
    result.error = probes_->error(result.eigenvalues, result.eigenvectors);
  }
  if (probes_) result.products += probes_->count();
  result.peak_bytes = peak_memory_bytes();
  result.seconds = timer_.seconds();
  return result;
}

}  // namespace

void KrylovOptions::validate(int64_t dimension) const {
  require(1 <= k && k <= dimension, "k must lie between 1 and the number of parameters, ", dimension,
          ", not ", k);
  require(products >= 0, "products must not be negative: ", products);
  require(products == 0 || products >= std::min(k, dimension),
          "products must be at least k: products = ", products, ", k = ", k, " (the usual choice is 2 k)");
  require(std::isfinite(tolerance) && tolerance >= 0 && tolerance < 1,
          "the tolerance must be at least 0 and below 1, not ", tolerance);
  require(std::isfinite(error) && error >= 0 && error < 1, "the error must be at least 0 and below 1, not ",
          error);
  require(error == 0 || selection == Selection::magnitude,
          "an error to be reached needs the eigenpairs of largest magnitude, not selection \"",
          to_string(selection), "\"");
  require(error == 0 || probes >= 1, "an error to be reached needs probes that estimate it");
  require(probes >= 0, "probes must not be negative: ", probes);
  require(block >= 0, "block must not be negative: ", block);
  require(basis >= 0, "basis must not be negative: ", basis);
  require(!start.defined() || (start.dim() == 2 && start.size(0) == dimension && start.size(1) >= 1),
          "the vectors to start from must have shape [", dimension, ", c]");
}

KrylovOptions KrylovOptions::resolved(int64_t dimension) const {
  KrylovOptions o = *this;
  if (o.products == 0) o.products = (tolerance > 0 || error > 0 ? 20 : 2) * k;
  o.products = std::min(o.products, dimension);
  // Small blocks converge in fewer products; but each takes four passes over the basis, which are dear when
  // it is long.
  if (o.block == 0) o.block = std::clamp<int64_t>(k / 20, dimension < 100'000 ? 8 : 16, 32);
  o.block = std::min(o.block, dimension);
  return o;
}

int64_t KrylovOptions::smallest_basis(int64_t dimension) const {
  return std::min(dimension, k + 4 * resolved(dimension).block);
}

EigenResult krylov(LinearOperator& op, const KrylovOptions& options, Progress& progress) {
  options.validate(op.size());
  const KrylovOptions resolved = options.resolved(op.size());
  return BlockKrylov(op, resolved, progress).run();
}

}  // namespace seigh
