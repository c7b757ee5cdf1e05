// What the solvers promise, held against exact answers: many small matrices whose spectra are known, every
// method, selection and precision; counted are the promises made and those broken.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "seigh/core/random.h"
#include "seigh/eigen/eigh.h"
#include "seigh/linop/linear_operator.h"
#include "tests/support/haar.h"

namespace seigh::test {

/// Promises of one kind by one method: how often made, how often broken, and how often that may be.
struct Count {
  int64_t made = 0, broken = 0;
  double probability = 0;  ///< with which one may be broken
  double worst = 0;        ///< the largest ratio of truth and bound
  /// More would happen by chance once in 10 000 audits.
  int64_t allowed() const {
    if (probability == 0) return 0;
    const double mean = probability * static_cast<double>(made);
    return static_cast<int64_t>(mean + 3.8 * std::sqrt(mean) + 3);
  }
};

struct Audit {
  std::map<std::string, Count> counts;  ///< by "promise, method"
  std::map<std::string, std::pair<int64_t, int64_t>>
      certified;  ///< by method: pairs certified, pairs asked for
  int64_t solves = 0;

  void tell(const std::string& promise, const std::string& method, double probability, double truth,
            double bound) {
    Count& c = counts[promise + ", " + method];
    c.probability = probability;
    ++c.made;
    const bool kept = truth <= bound;
    c.broken += kept ? 0 : 1;
    if (bound > 0) c.worst = std::max(c.worst, truth / bound);
  }
  void print() const {
    std::printf("%-44s %8s %9s %8s %8s\n", "promise", "made", "broken", "may be", "worst");
    for (const auto& [name, c] : counts)
      std::printf("%-44s %8lld %9lld %8.0e %8.3g\n", name.c_str(), static_cast<long long>(c.made),
                  static_cast<long long>(c.broken), c.probability, c.worst);
    for (const auto& [method, pairs] : certified)
      std::printf("certified by %-31s %8lld of %lld\n", method.c_str(), static_cast<long long>(pairs.first),
                  static_cast<long long>(pairs.second));
    std::printf("%lld solves\n", static_cast<long long>(solves));
  }
};

/// Names of spectra; every one stands for a way in which eigenvalues are easily missed or mistaken.
inline const std::vector<std::string>& audited_spectra() {
  static const std::vector<std::string> all = {
      "line",       "exponential", "polynomial", "indefinite", "plus_minus", "almost_plus_minus",
      "copies",     "clustered",   "low_rank",   "bulk",       "network",    "negative",
      "two_scales", "identity",    "zero"};
  return all;
}

inline at::Tensor audited_spectrum(const std::string& name, int64_t n, uint64_t seed) {
  const at::Tensor i = at::arange(n, at::kDouble);
  const at::Tensor u = random_uniform(seed, Stream::test, n, 7);
  const at::Tensor alternate = at::where(i.remainder(2) == 1, -1.0, 1.0);
  if (name == "line") return 1 - 0.1 * i / static_cast<double>(n);
  if (name == "exponential") return at::pow(0.85, i);
  if (name == "polynomial") return 1 / (1 + i);
  if (name == "indefinite") return at::pow(0.9, i) * at::where(i.remainder(3) == 1, -1.0, 1.0);
  if (name == "plus_minus") return at::pow(0.85, (i / 2).floor()) * alternate;
  if (name == "almost_plus_minus") return at::pow(0.85, (i / 2).floor()) * alternate * (1 + 1e-6 * u);
  if (name == "copies") return at::where(i < 50, 5 - (i / 10).floor(), 0.5 * at::ones_like(i)) * (i < n);
  if (name == "clustered")
    return at::where(i < 5, 3 + 1e-4 * u, at::where(i < 12, 1 + 1e-7 * u, 1e-3 / (1 + i)));
  if (name == "low_rank") return at::where(i < 7, 7 - i, at::zeros_like(i));
  if (name == "bulk") return at::where(i < 3, 2 - 0.3 * i, 2 * u - 1);
  if (name == "network")
    return at::where(i < 10, 10 * at::pow(0.6, i),
                     0.05 * at::pow(u, 3) * at::where(u * 37 - (u * 37).floor() < 0.4, -1.0, 1.0));
  if (name == "negative") return -at::pow(0.8, i);
  if (name == "two_scales") return at::where(i < 4, 1e6 * at::pow(0.5, i), at::pow(0.9, i));
  if (name == "identity") return at::ones_like(i);
  return at::zeros_like(i);
}

/// A symmetric matrix whose products are not: rounded to float32, or of a slightly asymmetric matrix.
class AuditedOperator final : public LinearOperator {
 public:
  enum class Products { plain, rounded, asymmetric };
  AuditedOperator(at::Tensor matrix, at::ScalarType dtype, Products products, uint64_t seed)
      : LinearOperator(matrix.size(0), dtype, "audited"), matrix_(std::move(matrix)), products_(products) {
    if (products_ == Products::asymmetric) {
      const at::Tensor noise = random_gaussian(seed, Stream::test, size(), 900, size(), at::kDouble);
      error_ = 1e-7 * matrix_.abs().max() * (noise - noise.t()) / 2;
    }
  }
  double product_error() const override {
    if (products_ == Products::plain) return 0;
    // As a check would measure it: of a few random unit vectors.
    const int64_t d = size();
    at::Tensor v = random_gaussian(11, Stream::test, d, 500, 4, at::kDouble);
    v = v / v.norm(2, 0);
    const at::Tensor error = const_cast<AuditedOperator*>(this)->apply_impl(v.to(dtype())).to(at::kDouble) -
                             at::matmul(matrix_, v);
    return std::sqrt(error.square().sum(0).mean().item<double>());
  }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override {
    if (products_ == Products::rounded)
      return at::matmul(matrix_.to(at::kFloat), block.to(at::kFloat)).to(dtype());
    if (products_ == Products::asymmetric)
      return at::matmul(matrix_ + error_, block.to(at::kDouble)).to(dtype());
    return at::matmul(matrix_.to(dtype()), block);
  }

 private:
  at::Tensor matrix_, error_;
  Products products_;
};

/// A symmetric matrix whose products are as fast ones are: operands and results of 8 bits, by an operator
/// that is not even symmetric. In full precision they are the matrix' own.
class RoundedOperator final : public LinearOperator {
 public:
  RoundedOperator(const at::Tensor& matrix, at::ScalarType dtype)
      : LinearOperator(matrix.size(0), dtype, "rounded"),
        full_(matrix, dtype, AuditedOperator::Products::plain, 0),
        rough_(matrix.triu().to(at::kBFloat16).to(at::kDouble) + 1.01 * matrix.tril(-1)) {}
  LinearOperator& in_full_precision() override { return full_; }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override {
    return at::matmul(rough_, block.to(at::kBFloat16).to(at::kDouble)).to(at::kBFloat16).to(dtype());
  }

 private:
  AuditedOperator full_;
  at::Tensor rough_;
};

/// The exact answer: of the matrix itself, by LAPACK in float64.
struct Truth {
  at::Tensor matrix, values, vectors;  // rising
};

inline double value_of(const at::Tensor& x, int64_t i) {
  return x.data_ptr<double>()[i];
}

/// Adds to `audit` what one solve promises, against the truth.
inline void check_solve(Audit& audit, const Truth& truth, const EigenResult& r, const SolverOptions& o,
                        bool own_products) {
  const std::string method = to_string(o.method);
  const int64_t d = truth.values.numel(), k = r.rank;
  const at::Tensor u = k > 0 ? r.eigenvectors.all().to(at::kDouble) : at::zeros({d, 0}, at::kDouble);
  const at::Tensor theta = r.eigenvalues.contiguous();
  const double norm = truth.values.abs().max().item<double>();
  const double tiny = 1e-13 * norm + 1e-300;  // of the truth itself
  const double chance = own_products ? 0 : kProbeFailure;
  ++audit.solves;
  auto& [certified, wanted] = audit.certified[method];
  certified += r.certificates.certified();
  wanted += r.wanted(o.k);
  // Signs are kept.
  for (int64_t i = 0; i < k; ++i) {
    if (o.selection == Selection::positive) audit.tell("sign", method, 0, -value_of(theta, i), 0);
    if (o.selection == Selection::negative) audit.tell("sign", method, 0, value_of(theta, i), 0);
  }
  if (!r.residuals.defined() || k == 0) return;
  const at::Tensor residuals = (at::matmul(truth.matrix, u) - u * theta).norm(2, 0).contiguous();
  const Certificates& c = r.certificates;
  const at::Tensor falling = truth.values.flip(0).contiguous(), rising = truth.values.contiguous();
  // Order of the selection, for places: by magnitude, or of an end.
  const at::Tensor by_size = truth.values.abs().argsort(0, true).contiguous();
  const at::Tensor spectrum = r.spectrum.contiguous();
  const auto rank_in_spectrum = [&](double v, bool high) {
    int64_t before = 0;
    for (int64_t i = 0; i < spectrum.numel(); ++i)
      before += high ? value_of(spectrum, i) > v : value_of(spectrum, i) < v;
    return before;
  };
  // Which end `both` counts a pair from.
  std::vector<double> sorted(theta.data_ptr<double>(), theta.data_ptr<double>() + k);
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  for (int64_t i = 0; i < k; ++i) {
    const double v = value_of(theta, i);
    audit.tell("residual", method, chance, value_of(residuals, i) - tiny, value_of(r.residuals, i));
    bool high = v >= 0;
    if (o.selection == Selection::positive) high = true;
    if (o.selection == Selection::negative) high = false;
    if (o.selection == Selection::both) {
      if (own_products || method == "hmt") {
        high = v >= sorted[static_cast<size_t>(std::min((o.k + 1) / 2, k) - 1)];
      }
    }
    // The enclosure is of the eigenvalue of that index.
    const int64_t index = rank_in_spectrum(v, high);
    const double exact = high ? value_of(falling, index) : value_of(rising, index);
    const double low = value_of(c.low, i), top = value_of(c.high, i);
    audit.tell("enclosure by index", method, 2 * kProbeFailure,
               std::max({0.0, low - exact - tiny, exact - top - tiny}), 0);
    const int64_t trust = c.trust[i].item<int64_t>();
    if (trust < static_cast<int64_t>(Trust::cluster)) continue;
    // The eigenvectors at the places that are named, and those that equal the value.
    const int64_t first = c.first[i].item<int64_t>(), last = c.last[i].item<int64_t>();
    std::vector<int64_t> mine;
    for (int64_t place = first; place <= last; ++place) {
      const int64_t at = o.selection == Selection::magnitude ? by_size.data_ptr<int64_t>()[place - 1]
                         : high                              ? d - place
                                                             : place - 1;
      mine.push_back(at);
    }
    for (int64_t j = 0; j < d; ++j)
      if (std::abs(value_of(rising, j) - v) <= 1e-4 * std::abs(v) &&
          trust == static_cast<int64_t>(Trust::cluster))
        mine.push_back(j);
    std::sort(mine.begin(), mine.end());
    mine.erase(std::unique(mine.begin(), mine.end()), mine.end());
    const at::Tensor space = truth.vectors.index_select(1, at::tensor(mine, at::kLong));
    const at::Tensor ui = u.select(1, i);
    const double sine = (ui - at::matmul(space, at::matmul(space.t(), ui))).norm().item<double>();
    audit.tell("angle of certified", method, 2 * kProbeFailure, sine - 1e-12,
               std::sin(c.angle[i].item<double>()) + (u.scalar_type() == at::kDouble ? 1e-7 : 0));
    audit.tell("place of certified", method, 2 * kProbeFailure,
               static_cast<double>(trust == static_cast<int64_t>(Trust::pair) ? last : first),
               static_cast<double>(o.k));
  }
  audit.tell("orthonormality", method, 0,
             (at::matmul(u.t(), u) - at::eye(k, at::kDouble)).abs().max().item<double>(),
             r.eigenvectors.dtype() == at::kFloat ? 1e-5 : 1e-8);
  // Leading subspaces, for every j that is no matter of rounding.
  for (int64_t j = 1; j <= k; ++j) {
    at::Tensor leading;
    if (o.selection == Selection::magnitude) {
      leading = at::from_blob(by_size.data_ptr(), {j}, at::kLong).clone();
    } else if (o.selection == Selection::positive) {
      leading = at::arange(d - j, d);
    } else if (o.selection == Selection::negative) {
      leading = at::arange(j);
    } else {
      if (j != k || k != o.k || k == d) continue;
      leading = at::cat({at::arange(d - (k + 1) / 2, d), at::arange(k / 2)});
    }
    const at::Tensor space = truth.vectors.index_select(1, leading), mine = u.slice(1, 0, j);
    const double error = (mine - at::matmul(space, at::matmul(space.t(), mine))).norm().item<double>() /
                         std::sqrt(static_cast<double>(j));
    const double bound = value_of(c.subspace.contiguous(), j - 1);
    if (bound < 1) audit.tell("subspace", method, 3 * kProbeFailure, error - 1e-7, bound);
  }
  if (r.error) {
    const double error = (truth.matrix - at::matmul(u * theta, u.t())).norm().item<double>();
    // Off by a factor of two: (e^(3/4) / 4)^(q / 2).
    audit.tell("error within a factor of 2", method, probability_underestimate(r.error->probes, 0.75),
               error - tiny, 2 * r.error->error() + 4 * r.rounding * std::sqrt(static_cast<double>(d)));
    if (o.error > 0 && r.error->relative_error() <= o.error && r.products < 20 * o.k)
      audit.tell("error that was asked for", method, 1e-3, error,
                 o.error * truth.matrix.norm().item<double>());
  }
  if (o.tolerance > 0 && method == "krylov" && r.converged == o.k && k == o.k &&
      o.selection == Selection::magnitude) {
    double missed = 0;
    for (int64_t i = 0; i < k; ++i)
      missed = std::max(missed, std::abs(value_of(truth.values.abs().index_select(0, by_size), i)) -
                                    std::abs(value_of(theta, i)));
    if (r.certificates.certified() == k)
      audit.tell("tolerance of what was missed", method, kProbeFailure, missed - tiny,
                 2 * o.tolerance * norm + r.rounding);
  }
}

/// `rounds` of all of it: small matrices of `sizes` rows; `rounded`: by products of 8 bits.
inline Audit run_audit(const std::vector<int64_t>& sizes, int64_t rounds, uint64_t seed,
                       bool rounded = false) {
  Audit audit;
  using Products = AuditedOperator::Products;
  for (int64_t round = 0; round < rounds; ++round) {
    for (const int64_t d : sizes) {
      for (const std::string& name : audited_spectra()) {
        ++seed;
        const at::Tensor basis = haar_basis(seed, d, d), values = audited_spectrum(name, d, seed);
        const at::Tensor made = at::matmul(basis * values, basis.t());
        const at::Tensor symmetric = 0.5 * (made + made.t());
        for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
          Truth truth;
          truth.matrix = symmetric.to(dtype).to(at::kDouble);
          std::tie(truth.values, truth.vectors) = at::linalg_eigh(truth.matrix);
          const Products kinds[] = {Products::plain, Products::rounded, Products::asymmetric};
          const Products products = kinds[dtype == at::kFloat ? 0 : seed % 3];
          AuditedOperator plain(truth.matrix, dtype, products, seed);
          RoundedOperator rough(truth.matrix, dtype);
          LinearOperator& op = rounded ? static_cast<LinearOperator&>(rough) : plain;
          const int64_t k = std::min<int64_t>(d, std::vector<int64_t>{1, 5, 12}[seed % 3]);
          const Selection selection = selections()[static_cast<size_t>((seed / 3) % 4)];
          const auto solve = [&](SolverOptions o) {
            o.k = k;
            o.seed = seed;
            if (o.error == 0) o.selection = selection;
            o.products = std::min(o.products, d);
            check_solve(audit, truth, eigh(op, o), o,
                        rounded || o.method == Method::krylov || o.method == Method::dense ||
                            o.method == Method::hmt);
          };
          solve({.method = Method::dense});
          solve({.method = Method::krylov});
          solve({.method = Method::krylov, .products = 2 * k, .block = 2});
          solve({.method = Method::krylov, .tolerance = dtype == at::kDouble ? 1e-8 : 1e-4, .block = 3});
          if (d >= 40)
            solve({.method = Method::krylov, .products = d, .tolerance = 1e-6, .block = 2, .basis = k + 20});
          if (d >= 40) solve({.method = Method::krylov, .error = 0.3});
          if (4 * k <= d) {
            solve({.method = Method::seigh, .products = 4 * k});
            solve({.method = Method::nystrom, .products = 4 * k});
            solve({.method = Method::hmt, .products = 4 * k});
          }
        }
      }
    }
  }
  return audit;
}

}  // namespace seigh::test
