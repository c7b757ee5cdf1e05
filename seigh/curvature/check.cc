#include "seigh/curvature/check.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/dot.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/core/random.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/make.h"
#include "seigh/curvature/replaced_kernels.h"

namespace seigh {
namespace {

// Of a product's length: what float32 and float64 may leave of it by rounding before anything else is looked
// for, and what rounding alone may take of it, be it lost by cancellation. Dropout and batch statistics
// change leading digits.
constexpr double kSuspiciousFloat = 1e-4, kSuspiciousDouble = 1e-6, kTooMuch = 0.5;
// Differences of the gradient agree with a right product so far, but for its own rounding.
// What the user is told of.
constexpr double kNoticeable = 1e-3;
constexpr double kUsualOfTf32 = 0.05, kUsualOfBf16 = 0.2;
constexpr double kSameDerivative = 1e-5;
const double kHalves = std::ldexp(1.0, -29);  // float64's unit of rounding over float32's

// A second derivative that is wrong, not just inexact: differences may serve instead.
class WrongDerivative : public Error {
 public:
  using Error::Error;
};

double length(const at::Tensor& x) {
  return x.to(at::kDouble).norm().item<double>();
}
double distance(const at::Tensor& a, const at::Tensor& b) {
  return length(a.to(at::kDouble) - b.to(at::kDouble));
}
double dot_of(const at::Tensor& a, const at::Tensor& b) {
  return at::dot(a.to(at::kDouble), b.to(at::kDouble)).item<double>();
}

std::string percent(double share) {
  std::ostringstream text;
  text.precision(2);
  text << share * 100 << " %";
  return text.str();
}

class Check {
 public:
  Check(CurvatureOperator& op, std::shared_ptr<const GraphSource> source)
      : op_(op),
        full_(op.in_full_precision()),
        source_(std::move(source)),
        single_(op.dtype() == at::kFloat) {}

  void run() {
    const Context::Scope scope(op_.context());
    const double loss = op_.loss();
    measure();
    require(std::isfinite(loss), op_.name(), ": the loss is ", loss);
    compute_anew();
    look_for_dependence();
    look_at_derivatives();
    look_at_symmetry();
    precision();
    error_ = std::max(error_, rounding() * size_);
    if (op_.rounds())
      judge_rounding();
    else
      op_.set_product_error(error_);
    if (error_ > kNoticeable * size_)
      op_.add_note(
          text_of("products are off by some ", percent(error_ / size_),
                  " of their length, which is in every bound: nearly equal numbers cancel, or the network "
                  "computes in lower precision within (autocast)"));
    require(error_ <= kTooMuch * size_, op_.name(), ": products in ", single_ ? "float32" : "float64",
            " are wrong by ", percent(error_ / size_), " of their length: nearly equal numbers cancel",
            single_
                ? "; use eigh.dtype = \"float64\""
                : ", as where a network fits its targets perfectly; take an earlier checkpoint, or a loss "
                  "written without the difference");
  }

 private:
  using Operator = std::unique_ptr<AutogradCurvatureOperator>;

  bool by_differences() const { return op_.options().products == Products::difference; }
  double rounding() const {
    return single_ ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
  }
  at::Tensor product(LinearOperator& op, const at::Tensor& vector) const {
    return op.apply(vector.to(op.dtype()).unsqueeze(1)).select(1, 0);
  }

  // Another operator for the same matrix, null where there is none: it does not run in this precision, or
  // there is no memory for it.
  Operator another(const at::Tensor& order, at::ScalarType dtype, Products products, int64_t most) {
    if (source_ == nullptr) return nullptr;
    try {
      std::shared_ptr<const GraphSource> source = source_;
      if (order.defined() || dtype != source_->dtype()) source = source_->again(order, dtype);
      if (source == nullptr) return nullptr;
      CurvatureOptions options = op_.options();
      options.products = products;
      options.dtype = dtype;
      options.precision = Precision::float32;
      options.replay = false;
      if (select_parameters(source->parameters(), {}).count == op_.size())
        options.parameters.clear();  // they may have other names in a faster operator
      options.batch_size = 0;
      options.most_samples = most;
      return std::make_unique<AutogradCurvatureOperator>(std::move(source), options, op_.name(),
                                                         op_.context());
    } catch (const Cancelled&) {
      throw;
    } catch (const std::exception&) {
      return nullptr;
    }
  }
  at::Tensor permutation() const { return random_permutation(0, Stream::check, source_->samples()); }
  // Mini-batches that are not the operator's.
  int64_t other_cut() const {
    const int64_t batch = std::min(op_.batch_size(), source_->samples());
    return batch == 1 ? 2 : (batch + 1) / 2;
  }
  Products same_products() const { return by_differences() ? Products::difference : Products::graph; }

  void measure() {
    // The first vectors that a solver will probe the matrix with: it need not multiply them again.
    const at::Tensor block =
        random_gaussian(op_.options().seed, Stream::error_probe, op_.size(), 0, 2, op_.dtype());
    at::Tensor products = full_.known_products(op_.options().seed);
    if (!products.defined()) products = full_.apply(block);
    u_ = block.select(1, 0);
    v_ = block.select(1, 1);
    const double norm = length(products.select(1, 1));
    w_ = norm > 0 ? products.select(1, 1) / norm : v_ / length(v_);
    if (auto* const differences = dynamic_cast<AutogradCurvatureOperator*>(&op_);
        by_differences() && differences != nullptr) {
      error_ = differences->choose_step(w_);
      step_error_ = error_;
      products = op_.apply(block);  // at that step
    }
    au_ = products.select(1, 0);
    av_ = products.select(1, 1);
    if (!op_.rounds()) op_.set_known_products(products);
    aw_ = product(full_, w_);
    size_ = std::max(length(aw_), length(av_) / length(v_));
    const double along = dot_of(w_, v_) < 0 ? -length(v_) : length(v_);
    x_ = w_ + v_ / along;
    const double both = length(x_);
    x_ = x_ / both;
    ax_ = (aw_ + av_ / along) / both;
  }

  // A' x.
  void compute_anew() {
    if (source_ == nullptr) {
      const at::Tensor again = product(full_, w_);
      const double change = distance(again, aw_);
      require(change <= (single_ ? kSuspiciousFloat : kSuspiciousDouble) * size_,
              not_the_same(change / size_));
      error_ = std::max(error_, change);
      return;
    }
    const at::Tensor order = source_->batches().empty() ? permutation() : at::Tensor();
    const int64_t most = source_->batches().empty() ? other_cut() : 0;
    anew_ = another(order, at::kDouble, same_products(), most);
    if (anew_ == nullptr) {
      op_.add_note(
          text_of("products could not be compared with float64's: it does not run there, or there is "
                  "too little memory"));
      anew_ = another(order, source_->dtype(), same_products(), most);
    }
    if (anew_ == nullptr) return;
    if (auto* const differences = dynamic_cast<AutogradCurvatureOperator*>(&op_);
        by_differences() && differences != nullptr)
      anew_->set_step(differences->step());
    exact_ = anew_->dtype() == at::kDouble;
    x_anew_ = product(*anew_, x_);
    change_ = distance(x_anew_, ax_);
    size_ = std::max(size_, length(x_anew_));
    error_ = std::max(error_, change_);
  }

  std::string not_the_same(double change) const {
    return text_of(
        op_.name(), ": products or gradients differ by ", percent(change),
        " when they are computed twice; usual causes are dropout left on and random numbers in the "
        "network: put it into evaluation mode");
  }

  // Does the change come from the mini-batches, or is it rounding's?
  void look_for_dependence() {
    if (anew_ == nullptr || change_ <= (single_ ? kSuspiciousFloat : kSuspiciousDouble) * size_) return;
    // Graphs may have been kept, with the random numbers in them; gradients are always computed anew.
    const at::Tensor gradient = op_.gradient();
    const double twice = std::max(distance(product(full_, w_), aw_) / size_,
                                  distance(op_.gradient(), gradient) / std::max(length(gradient), 1e-300));
    require(twice <= change_ / size_ / 10, not_the_same(twice));
    double rounded = 0;  // what of it is rounding's
    if (by_differences()) {
      rounded = step_error_;
    } else if (single_ && exact_) {
      if (const Operator natural = another({}, at::kDouble, Products::graph, op_.batch_size())) {
        const double apart = distance(product(*natural, x_), x_anew_);
        rounded = apart <= change_ / 100 ? change_ : 0;
      }
    } else if (!single_) {
      rounded = 1000 * kHalves * change_to_single();
    }
    if (change_ <= std::max(rounded, (single_ ? kSuspiciousFloat : kSuspiciousDouble) * size_)) return;
    if (by_differences() && change_ <= 10 * rounded) return;
    fail(op_.name(), ": products change by ", percent(change_ / size_),
         " with the order of the samples and their mini-batches: ", what_depends());
  }

  std::string what_depends() const {
    const bool network = source_->supports(CurvatureKind::ggn) && [&] {
      const at::NoGradGuard no_grad;
      const ReplacedKernels replaced;
      const std::vector<at::Tensor> leaves = source_->leaves();
      const int64_t together = std::min<int64_t>(op_.batch_size(), source_->samples());
      const at::Tensor all = source_->outputs(leaves, 0, together);
      for (int64_t i = 0; i < std::min<int64_t>(together, 16); ++i) {
        if (distance(all.slice(0, i, i + 1).reshape({-1}), source_->outputs(leaves, i, i + 1).reshape({-1})) >
            1e-3 * length(all.reshape({-1})) / std::sqrt(static_cast<double>(together)))
          return true;
      }
      return false;
    }();
    return network
               ? "outputs of a sample depend on the others of its batch, as with batch norm in training "
                 "mode or a maximum over the batch; the network must treat each sample by itself"
               : "the loss of a batch is neither a mean over its samples nor a share of that of all; divide "
                 "by the number of samples, or take them all at once (curvature.batch_size)";
  }

  // |A x - A32 x| of an operator in float64; 0 where there is no float32.
  double change_to_single() {
    if (to_single_ >= 0) return to_single_;
    to_single_ = 0;
    try {
      if (const Operator single = another({}, at::kFloat, Products::graph, op_.batch_size()))
        to_single_ = distance(product(*single, x_), ax_);
    } catch (const Error&) {  // too large for float32: nothing is learnt
    } catch (const c10::Error&) {
    }
    return to_single_;
  }

  // A x against differences of the gradient (of the outputs).
  void look_at_derivatives() {
    if (by_differences() || anew_ == nullptr || !exact_) return;
    // In float32 of the same samples in the same order as A' x.
    const at::Tensor expected = (single_ ? x_anew_ : ax_).to(at::kDouble);
    const bool permuted = single_ && source_->batches().empty();
    const Operator differences = another(permuted ? permutation() : at::Tensor(), at::kDouble,
                                         Products::difference, permuted ? other_cut() : op_.batch_size());
    if (differences == nullptr) return;
    double own = kSameDerivative * length(expected);
    if (single_) own = std::max(own, 1000 * kHalves * change_);
    std::vector<at::Tensor> all;
    std::vector<double> off;
    // The smallest first: of the ReLUs of a network of 10^6 parameters hundreds switch within 1e-5.
    for (const double step : {1e-9, 1e-7, 1e-5, 1e-3}) {
      differences->set_step(step);
      try {
        all.push_back(product(*differences, x_));
      } catch (const Error&) {  // beyond what it is defined on
        continue;
      }
      off.push_back(distance(all.back(), expected));
      nearest_ = nearest_ < 0 ? off.back() : std::min(nearest_, off.back());
      if (off.back() <= own) return;
    }
    for (size_t i = 0; i < all.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (distance(all[i], all[j]) > std::min(off[i], off[j]) / 4) continue;
        throw WrongDerivative(
            text_of("a second derivative is wrong: a product and the change of the gradient differ by ",
                    percent(off[i] / std::max(length(all[i]), std::numeric_limits<double>::min()))));
      }
    }
  }

  void look_at_symmetry() {
    const double there = dot_of(u_, av_), back = dot_of(v_, au_);
    const double asymmetry =
        std::abs(there - back) * std::sqrt(static_cast<double>(op_.size()) / 2) / (length(u_) * length(v_));
    const double explained = std::max(1000 * error_, kSuspiciousFloat * size_);
    require(
        asymmetry <= explained, op_.name(), ": the matrix is not symmetric: <u, A v> = ", there,
        ", <v, A u> = ", back,
        "; an operation of the network or the loss hides something from its derivative (detach, no_grad, a "
        "rounding to few digits)");
    error_ = std::max(error_, asymmetry);
  }

  // All of the above is of products in full precision; how far from them are the others?
  void judge_rounding() {
    op_.set_full_product_error(error_);
    if (op_.product_error() == 0) measure_rounding(op_);
    const double off = std::max(op_.product_error(), error_) / size_;
    op_.set_product_error(off * size_);
    const Precision precision = op_.options().precision;
    require(off <= kTooMuch, op_.name(), ": products with precision = \"", to_string(precision),
            "\" are wrong by ", percent(off), " of their length; use \"float32\"");
    if (off > (precision == Precision::tf32 ? kUsualOfTf32 : kUsualOfBf16))
      op_.add_note(text_of("products with precision = \"", to_string(precision), "\" are off by some ",
                           percent(off), " of their length, more than usual; \"float32\" may find more"));
  }

  void precision() {
    anew_.reset();
    if (single_ || by_differences() || source_ == nullptr) return;
    error_ = std::max(error_, kHalves * change_to_single());
    // Where nothing is left in float32, that tells nothing of float64.
    if (change_to_single() > kTooMuch * size_ && nearest_ >= 0) error_ = std::max(error_, nearest_);
  }

  CurvatureOperator& op_;
  LinearOperator& full_;  // its products in full precision
  const std::shared_ptr<const GraphSource> source_;
  const bool single_;   // products are in float32
  Operator anew_;       // A'
  bool exact_ = false;  // it is in float64
  at::Tensor u_, v_, w_, x_, au_, av_, aw_, ax_, x_anew_;
  double size_ = 0;    // of products with unit vectors
  double change_ = 0;  // between A and A'
  double to_single_ = -1;
  double nearest_ = -1;  // difference of the gradient to the product with x
  double step_error_ = 0;
  double error_ = 0;
};

}  // namespace

void check_products(CurvatureOperator& op, const std::shared_ptr<const GraphSource>& source) {
  Check(op, source).run();
}

std::unique_ptr<CurvatureOperator> make_checked_operator(const std::shared_ptr<const GraphSource>& source,
                                                         const CurvatureOptions& options,
                                                         const std::string& name, const Context& context) {
  const auto attempt = [&](Products products) {
    CurvatureOptions chosen = options;
    chosen.products = products;
    auto op = make_curvature_operator(source, chosen, name, context);
    check_products(*op, source);
    return op;
  };
  if (options.products == Products::difference) return attempt(Products::difference);
  std::string why;
  try {
    return attempt(options.products == Products::automatic ? Products::autograd : options.products);
  } catch (const WrongDerivative& error) {
    why = error.what();
  } catch (const Exception&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    if (std::string(error.what()).find("memory") != std::string::npos) throw;
    why = text_of("no second derivative: ", first_line(error.what()));
  }
  require(options.products == Products::automatic, name, ": ", why,
          options.precision == Precision::float32
              ? "; use curvature.products = \"difference\", or other operations"
              : "; use precision = \"float32\", curvature.products = \"auto\", or other operations");
  std::unique_ptr<CurvatureOperator> op;
  try {
    op = attempt(Products::difference);
  } catch (const MemoryError&) {
    throw;
  } catch (const Error& error) {
    fail(name, ": ", why, "; differences of the gradient do not serve either: ", error.what());
  }
  // Once in a run, not with another figure for every matrix.
  op->add_note(text_of(why.substr(0, why.find(": a product and")),
                       "; products are differences of the gradient instead, at two gradients each"));
  return op;
}

}  // namespace seigh
