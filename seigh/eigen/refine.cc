#include "seigh/eigen/refine.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/real.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/complement.h"
#include "seigh/eigen/range.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/placement.h"

namespace seigh {
namespace {

// Of complement_bounds(), that no search has come to.
constexpr int64_t kFreshDraw = int64_t{1} << 30;

int64_t bytes_of_column(int64_t dimension, at::ScalarType dtype) {
  return dimension * static_cast<int64_t>(c10::elementSize(dtype));
}

double largest(const at::Tensor& values) {
  return values.numel() > 0 ? values.abs().max().item<double>() : 0;
}

class Refinement {
 public:
  Refinement(LinearOperator& op, EigenResult& result, const SolverOptions& options, const Context& context,
             int64_t most)
      : op_(op),
        result_(result),
        o_(options),
        context_(context),
        most_(most),
        column_(bytes_of_column(op.size(), op.dtype())) {}
  void run();

 private:
  void place();
  void multiply();
  void rotate();
  double rounding(double norm) const;
  void certify();

  at::Tensor empty_columns(int64_t n) const { return empty_block_at(place_, op_.size(), n, op_.dtype()); }
  // U^T x, and x - U c in place.
  at::Tensor project(const at::Tensor& x) const {
    return block_.defined() ? transposed_product(block_, x.to(place_)) : u_.transposed_times(x);
  }
  void subtract(const at::Tensor& x, const at::Tensor& c) const {
    if (block_.defined())
      subtract_product(x, block_, c);
    else
      x.sub_(u_.times(c).to(x.device()));
  }
  at::Tensor small_zeros() const { return at::zeros({k_, k_}, wide(op_.dtype())); }

  LinearOperator& op_;
  EigenResult& result_;
  const SolverOptions& o_;
  const Context& context_;
  const int64_t most_, column_;
  c10::Device place_ = at::kCPU;
  int64_t k_ = 0, group_ = 1;
  Eigenvectors u_;
  at::Tensor block_;  // U, where it is in memory as a whole
  std::optional<Probes> probes_;
  at::Tensor left_;                // B G, of the probes G
  at::Tensor overlaps_, t_;        // U^T U, T
  std::vector<at::Tensor> grams_;  // R_j^T R_j
  at::Tensor y_, rotated_;         // Y, Y^T T Y
};

void Refinement::run() {
  const Timer timer;
  u_ = std::exchange(result_.eigenvectors, {}).on_host();
  k_ = u_.count();
  const int64_t before = op_.products();
  place();
  multiply();
  rotate();
  certify();
  result_.products += op_.products() - before;
  result_.peak_bytes = peak_memory_bytes();
  result_.seconds += timer.seconds();
}

void Refinement::place() {
  Ranks& ranks = context_.ranks();
  const int64_t left = ranks.least(context_.memory().available() -
                                   refinement_memory(o_, op_.size(), op_.dtype())),
                all = k_ * column_;
  const int64_t to_form = u_.in_memory() && u_.formed() ? 0 : all;
  if (to_form < left && !u_.divided())
    place_ = place_of(op_, op_.preferred_block(), 2 * all + all / 4, context_);
  const bool whole = !u_.divided() && (!place_.is_cpu() || to_form == 0 || to_form + all < left);
  if (k_ > 0 && whole && most_ == 0) {
    block_ = as_block(u_.all().to(place_));
    u_ = {};
  }
  const int64_t gathered = u_.divided() ? 2 : 1;  // with what ranks give and get
  const int64_t fitting = block_.defined() ? (left - to_form) / column_ : left / (2 * gathered * column_);
  group_ = !place_.is_cpu() ? k_ : std::clamp<int64_t>(fitting, 1, std::max<int64_t>(k_, 1));
  if (most_ > 0) group_ = std::min(group_, most_);
  group_ = std::max<int64_t>(group_, 1);
}

void Refinement::multiply() {
  at::Tensor seen;  // U^T G
  if (o_.probes > 0) {
    probes_.emplace(op_, o_.probes, o_.seed, context_);
    left_ = empty_columns(probes_->count());
    left_.copy_(probes_->products(0, probes_->count()));
    if (k_ > 0) {
      subtract(left_, project(left_));
      seen = project(probes_->vectors(0, probes_->count()));
    }
  }
  overlaps_ = small_zeros();
  t_ = small_zeros();
  context_.progress().begin("eigenpairs of " + op_.name() + " in full precision", k_, "products");
  for (int64_t begin = 0; begin < k_; begin += group_) {
    const int64_t end = std::min(begin + group_, k_);
    const at::Tensor z = empty_columns(end - begin);
    z.copy_(block_.defined() ? block_.slice(1, begin, end) : u_.columns(begin, end - begin));
    overlaps_.slice(1, begin, end).copy_(project(z));
    for_blocks(op_, 0, end - begin, context_, [&](int64_t first, int64_t last) {
      const at::Tensor some = z.slice(1, first, last);
      some.copy_(op_.apply(some));
      context_.progress().advance(last - first);
    });
    const at::Tensor t = project(z);
    t_.slice(1, begin, end).copy_(t);
    subtract(z, t);
    grams_.push_back(symmetric_part(transposed_product(z, z)));
    if (seen.defined()) subtract_product(left_, z, seen.slice(0, begin, end));
  }
  context_.progress().end();
  t_ = symmetric_part(t_);
  // Of what ranks computed alike: they must decide alike.
  for (const at::Tensor& small : grams_) context_.ranks().agree_on(small);
  context_.ranks().agree_on(overlaps_);
  context_.ranks().agree_on(t_);
}

// The Ritz pairs of each group, then all in the selection's order.
void Refinement::rotate() {
  y_ = small_zeros();
  at::Tensor squares = at::zeros({k_}, at::kDouble);  // of R y
  for (int64_t begin = 0; begin < k_; begin += group_) {
    const int64_t end = std::min(begin + group_, k_);
    const auto [values, y] = at::linalg_eigh(t_.slice(0, begin, end).slice(1, begin, end));
    context_.ranks().agree_on(y);
    y_.slice(0, begin, end).slice(1, begin, end).copy_(y);
    const at::Tensor& gram = grams_[static_cast<size_t>(begin / group_)];
    squares.slice(0, begin, end).copy_(at::real((y.conj() * at::matmul(gram, y)).sum(0)));
  }
  rotated_ = at::matmul(y_.mH(), at::matmul(t_, y_));
  context_.ranks().agree_on(rotated_);
  at::Tensor values = at::real(rotated_.diagonal()).clone();
  // What T has between groups is part of the residual.
  rotated_.diagonal().zero_();
  squares += squared_abs(rotated_).sum(0);
  context_.ranks().agree_on(squares);
  // Those selected may be far from the largest, by which rounding is measured; all that was found tells.
  const double norm = 1.1 * std::max(largest(result_.spectrum), largest(values));
  const auto [order, rank] = select_pairs(values, o_.k, result_.selection);
  result_.spectrum = values.index_select(0, order);
  result_.rank = rank;
  result_.eigenvalues = result_.spectrum.slice(0, 0, rank).clone();
  result_.rounding = rounding(norm);
  result_.residuals = squares.index_select(0, order).clamp_min(0).sqrt() + result_.rounding;
  const at::Tensor y = y_.index_select(1, order.slice(0, 0, rank));
  if (result_.replicates.defined())
    result_.replicates = rank == k_
                             ? at::matmul(y.mH().to(result_.replicates.scalar_type()), result_.replicates)
                             : at::Tensor();
  y_ = y;
}

// Of the products, and of vectors that are not quite orthonormal.
double Refinement::rounding(double norm) const {
  if (k_ == 0) return rounding_bound(op_.product_error(), norm, op_.dtype());
  const double loss = at::linalg_eigvalsh(symmetric_part(overlaps_) - at::eye(k_, overlaps_.options()))
                          .abs()
                          .max()
                          .item<double>();
  return rounding_bound(op_.product_error(), norm, op_.dtype()) + 2 * loss * norm;
}

void Refinement::certify() {
  const int64_t d = op_.size();
  double high = std::numeric_limits<double>::infinity(), low = high;
  if (probes_) {
    const at::Tensor gram = symmetric_part(transposed_product(left_, left_));
    context_.ranks().agree_on(gram);
    high = low = probes_->norm_bound(at::linalg_eigvalsh(gram)[-1].item<double>());
    double coupling = squared_abs(rotated_).sum().item<double>() / 2;
    for (const at::Tensor& one : grams_) coupling += at::real(one.diagonal()).sum().item<double>();
    result_.error = probes_->error_of_projection(result_.spectrum, result_.rank, coupling,
                                                 at::real(gram.diagonal()).mean().item<double>());
    left_.reset();
    probes_.reset();
  }
  if (result_.method == "krylov" && o_.checks > 0) {
    const auto complement = [&](const at::Tensor& x) {
      at::Tensor v = empty_columns(x.size(1));
      v.copy_(x);
      for (int pass = 0; pass < 2 && k_ > 0; ++pass) subtract(v, project(v));
      return v;
    };
    const int64_t before = op_.products();
    const ComplementBounds rest =
        complement_bounds(op_, complement, d - k_, o_.checks, o_.seed, kFreshDraw, context_);
    result_.checks += op_.products() - before;
    high = std::min(high, rest.high);
    low = std::min(low, rest.low);
  }
  const at::Tensor coupling = small_zeros();
  for (int64_t begin = 0; begin < k_; begin += group_) {
    const int64_t end = std::min(begin + group_, k_);
    const auto [sizes, x] = at::linalg_eigh(grams_[static_cast<size_t>(begin / group_)]);
    coupling.slice(0, begin, end)
        .slice(1, begin, end)
        .copy_((sizes.clamp_min(0) * static_cast<double>(grams_.size())).sqrt().unsqueeze(1) * x.mH());
  }
  context_.ranks().agree_on(coupling);
  const auto there = [&](const at::Tensor& small) { return k_ < kWorthADevice ? small : small.to(place_); };
  result_.certificates =
      certify_pairs(result_.spectrum, result_.residuals, result_.rank, result_.selection, o_.k,
                    interlacing_bounds(there(t_), there(coupling), high, low, d, result_.rounding), d);
  result_.residuals = result_.residuals.slice(0, 0, result_.rank).clone();
  if (block_.defined())
    result_.eigenvectors = Eigenvectors(times_small_in_place(block_, y_), {}, context_).on_host();
  else
    result_.eigenvectors = k_ > 0 ? u_.rotated(y_) : u_;
}

}  // namespace

EigenResult refined(LinearOperator& op, EigenResult found, const SolverOptions& options,
                    const Context& context, int64_t most) {
  if (!context.ranks().alone() && !op.collective()) {
    DividedColumns divided(op, context);
    return refined(divided, std::move(found), options, context, most);
  }
  if (op.rounds()) Refinement(op.in_full_precision(), found, options, context, most).run();
  return found;
}

int64_t refinement_memory(const SolverOptions& options, int64_t dimension, at::ScalarType dtype) {
  constexpr int64_t kWorking = 8;  // products and what is made of them
  return (2 * options.probes + std::max(options.checks, options.probes) + kWorking) *
         bytes_of_column(dimension, dtype);
}

}  // namespace seigh
