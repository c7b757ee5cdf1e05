#include "seigh/eigen/selection.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>

#include <limits>

#include "seigh/core/error.h"

namespace seigh {

const std::vector<Selection>& selections() {
  static const std::vector<Selection> all = {Selection::magnitude, Selection::positive, Selection::negative,
                                             Selection::both};
  return all;
}

std::string to_string(Selection selection) {
  switch (selection) {
    case Selection::magnitude:
      return "magnitude";
    case Selection::positive:
      return "positive";
    case Selection::negative:
      return "negative";
    case Selection::both:
      return "both";
  }
  return "";
}

Selection parse_selection(const std::string& name) {
  for (const Selection s : selections()) {
    if (to_string(s) == name) return s;
  }
  fail("eigenvalues are selected by \"magnitude\", \"positive\", \"negative\" or \"both\", not \"", name,
       "\"");
}

at::Tensor selection_order(const at::Tensor& values, int64_t k, Selection selection) {
  switch (selection) {
    case Selection::magnitude:
      return values.abs().argsort(0, /*descending=*/true);
    case Selection::positive:
      return values.argsort(0, /*descending=*/true);
    case Selection::negative:
      return values.argsort(0, /*descending=*/false);
    case Selection::both:
      break;
  }
  const int64_t n = values.numel(), largest = std::min((k + 1) / 2, n);
  return ends_order(values, largest, std::min(k / 2, n - largest));
}

at::Tensor ends_order(const at::Tensor& values, int64_t highs, int64_t lows) {
  const at::Tensor falling = values.argsort(0, /*descending=*/true);
  const int64_t n = values.numel();
  const auto by_magnitude = [&](const at::Tensor& index) {
    return index.index_select(0, values.index_select(0, index).abs().argsort(0, /*descending=*/true));
  };
  return at::cat({by_magnitude(at::cat({falling.slice(0, 0, highs), falling.slice(0, n - lows)})),
                  by_magnitude(falling.slice(0, highs, n - lows))});
}

Interval unselected(const at::Tensor& selected, const at::Tensor& others, Selection selection) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const bool known = others.defined() && others.numel() > 0;
  switch (selection) {
    case Selection::magnitude: {
      const double m = known ? others.abs().max().item<double>() : selected.abs().min().item<double>();
      return {-m, m};
    }
    case Selection::positive:
      return {-inf, (known ? others.max() : selected.min()).item<double>()};
    case Selection::negative:
      return {(known ? others.min() : selected.max()).item<double>(), inf};
    case Selection::both:
      break;
  }
  if (known) return {others.min().item<double>(), others.max().item<double>()};
  const int64_t lowest = selected.numel() / 2;
  const at::Tensor rising = selected.msort();
  return {lowest > 0 ? rising[lowest - 1].item<double>() : -inf, rising[lowest].item<double>()};
}

}  // namespace seigh
