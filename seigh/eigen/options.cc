#include "seigh/eigen/options.h"

#include <algorithm>
#include <cmath>

#include "seigh/core/error.h"
#include "seigh/sketch/store.h"

namespace seigh {

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

void SolverOptions::validate(int64_t dimension) const {
  require(1 <= k && k <= dimension, "k must lie between 1 and the number of parameters, ", dimension,
          ", not ", k);
  require(method != Method::dense || dimension <= kLargestDense, "dense: D = ", dimension,
          " is more than LAPACK can decompose, ", kLargestDense, "; use another method");
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
  require(0 <= probes && probes <= kMostProbes, "probes must lie between 0 and ", kMostProbes, ", not ",
          probes);
  require(0 <= checks && checks <= kMostProbes, "checks must lie between 0 and ", kMostProbes, ", not ",
          checks);
  constexpr int64_t kMostBlock = 1'000'000;
  require(0 <= block && block <= kMostBlock, "block must lie between 0 and ", kMostBlock, ", not ", block);
  require(basis >= 0, "basis must not be negative: ", basis);
  require(start.count() == 0 || start.dimension() == dimension, "the vectors to start from must have ",
          dimension, " rows, not ", start.count() > 0 ? start.dimension() : 0);
  require(!on_disk || !state.empty(), "a basis on disk needs a folder for it");
  require(test_matrix == "auto" || test_matrix == "ssrft" || test_matrix == "sparse",
          "there is no test matrix \"", test_matrix, "\"; the kinds are ssrft, sparse and auto");
  const bool adaptive = tolerance > 0 || error > 0;
  require(!adaptive || method == Method::krylov || method == Method::automatic,
          "a tolerance or an error to be reached is for krylov, not for ", to_string(method));
  require(!adaptive || !independent,
          "a tolerance or an error to be reached needs products that depend on each other");
  require(!independent || (method != Method::krylov && method != Method::hmt), to_string(method),
          "'s products depend on each other; independent ones are for seigh and nystrom");
  if (method == Method::seigh || method == Method::nystrom || method == Method::hmt) {
    SketchPlan plan;
    plan.rows = dimension;
    plan.k = k;
    plan.s = products > 0 ? products : resolved(dimension).products;
    plan.storage = storage;
    plan.validate();
  }
}

SolverOptions SolverOptions::resolved(int64_t dimension) const {
  // An SSRFT takes five FFTs of the parameters' length for a product; with this many that is more than the
  // product.
  constexpr int64_t kMany = 2'000'000;
  SolverOptions o = *this;
  const bool adaptive = tolerance > 0 || error > 0;
  if (o.products == 0) o.products = (adaptive ? 20 : 2) * k;
  o.products = std::min(o.products, dimension);
  if (o.test_matrix == "auto") o.test_matrix = dimension < kMany ? "ssrft" : "sparse";
  return o;
}

SolverOptions SolverOptions::of(Method chosen, int64_t dimension) const {
  SolverOptions o = *this;
  o.method = chosen;
  o.validate(dimension);
  return o.resolved(dimension);
}

}  // namespace seigh
