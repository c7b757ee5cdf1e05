#include "seigh/overlap/synthetic.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <numbers>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/overlap/masks.h"
#include "seigh/overlap/metrics.h"

namespace seigh {
namespace {

constexpr int64_t kMostPairs = 10'000, kMostDimension = 4096, kMostInAll = 1'000'000;
constexpr size_t kMostEntries = 100, kMetrics = all_metrics.size() + 1, kKinds = all_pair_kinds.size();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

using Cells = std::vector<std::pair<int64_t, double>>;  // (dimension, ratio), the order of the study

Cells cells_of(const SyntheticOptions& o) {
  std::set<std::pair<int64_t, double>> all;  // with the ratio negative, so that it falls
  for (const int64_t d : o.dimensions)
    for (const double r : o.ratios) all.insert({d, -r});
  for (const int64_t d : o.fine_dimensions)
    for (const double r : o.fine_ratios) all.insert({d, -r});
  Cells cells;
  for (const auto& [d, r] : all) cells.emplace_back(d, -r);
  return cells;
}

// Numbers of its own for each side of each pair of each dimension.
int64_t draw_of(int64_t dimension, int64_t pair, int64_t side) {
  return (dimension * kMostPairs + pair) * 2 + side;
}

// Spans the leading columns of a Haar basis: column-major numbers, so that fewer columns are the same ones.
at::Tensor haar_basis(int64_t dimension, int64_t columns, uint64_t seed, int64_t draw) {
  const at::Tensor gaussian =
      random_gaussian(seed, Stream::synthetic, dimension * columns, draw, 1, at::kDouble);
  return std::get<0>(at::linalg_qr(gaussian.reshape({columns, dimension}).t()));
}

// The metrics of one pair with these angles; k - angles.numel() more are zero.
void measure(const at::Tensor& angles, int64_t k, double* out, int64_t stride) {
  at::Tensor all = at::zeros({k}, at::kDouble);
  all.narrow(0, 0, angles.numel()).copy_(angles);
  for (const Metric one : all_metrics) {
    *out = metric(one, all);
    out += stride;
  }
}

// For every k, how many of the first k of one order are among the first k of the other.
std::vector<int64_t> intersections(const at::Tensor& a, const at::Tensor& b) {
  const size_t n = static_cast<size_t>(a.numel());
  std::vector<int64_t> place(n), common(n + 1);
  for (size_t i = 0; i < n; ++i)
    place[static_cast<size_t>(a.data_ptr<int64_t>()[i])] = static_cast<int64_t>(i);
  for (size_t i = 0; i < n; ++i) {
    const int64_t other = place[static_cast<size_t>(b.data_ptr<int64_t>()[i])];
    ++common[static_cast<size_t>(std::max(other, static_cast<int64_t>(i))) + 1];
  }
  std::partial_sum(common.begin(), common.end(), common.begin());
  return common;
}

template <typename T>
void check_list(const char* name, const std::vector<T>& values, T least, T most, const char* range) {
  require(!values.empty() && values.size() <= kMostEntries, name, " must have 1 to ", kMostEntries,
          " entries, not ", values.size());
  std::set<T> once;
  for (const T value : values) {
    require(least <= value && value <= most, "every element of ", name, " must lie ", range, ", not ", value);
    require(once.insert(value).second, name, " has ", value, " twice; name it once");
  }
}

}  // namespace

void SyntheticOptions::validate() const {
  require(2 <= pairs && pairs <= kMostPairs, "pairs must lie between 2 and ", kMostPairs, ", not ", pairs);
  const std::string sizes = "between 2 and " + std::to_string(kMostDimension);
  check_list("dimensions", dimensions, int64_t{2}, kMostDimension, sizes.c_str());
  check_list("fine_dimensions", fine_dimensions, int64_t{2}, kMostDimension, sizes.c_str());
  const double tiny = std::numeric_limits<double>::denorm_min();
  check_list("ratios", ratios, tiny, 1.0, "above 0 and at most at 1");
  check_list("fine_ratios", fine_ratios, tiny, 1.0, "above 0 and at most at 1");
  const auto cells = static_cast<int64_t>(cells_of(*this).size());
  require(cells * pairs <= kMostInAll, "pairs = ", pairs, " in each of ", cells, " cells are more than ",
          kMostInAll, "; take fewer pairs, dimensions or ratios");
}

std::string_view pair_kind_name(PairKind kind) {
  switch (kind) {
    case PairKind::haar_haar:
      return "Haar-Haar";
    case PairKind::mask_mask:
      return "mask-mask";
    case PairKind::haar_mask:
      return "Haar-mask";
  }
  fail("no kind of pair has the number ", static_cast<int>(kind));
}

const std::vector<std::string>& synthetic_metrics() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Metric metric : all_metrics) all.emplace_back(metric_name(metric));
    all.emplace_back("intersection_over_union");
    return all;
  }();
  return names;
}

bool is_similarity(const std::string& metric) {
  return metric == metric_name(Metric::overlap) || metric == synthetic_metrics().back();
}

int64_t synthetic_size(int64_t dimension, double ratio) {
  return std::max<int64_t>(std::llround(ratio * static_cast<double>(dimension)), 1);
}

SyntheticStudy synthetic_study(const SyntheticOptions& options, uint64_t seed, const Context& context) {
  options.validate();
  const Context::Scope scope(context);
  const Cells cells = cells_of(options);
  const auto count = static_cast<int64_t>(cells.size());
  SyntheticStudy study;
  study.dimension = at::empty({count}, at::kLong);
  study.ratio = at::empty({count}, at::kDouble);
  study.k = at::empty({count}, at::kLong);
  std::vector<int64_t> begins;  // the first cell of each dimension
  for (int64_t i = 0; i < count; ++i) {
    const auto& [dimension, ratio] = cells[static_cast<size_t>(i)];
    if (i == 0 || dimension != cells[static_cast<size_t>(i) - 1].first) begins.push_back(i);
    study.dimension.data_ptr<int64_t>()[i] = dimension;
    study.ratio.data_ptr<double>()[i] = ratio;
    study.k.data_ptr<int64_t>()[i] = synthetic_size(dimension, ratio);
  }
  begins.push_back(count);
  study.values =
      at::full({static_cast<int64_t>(kKinds), static_cast<int64_t>(kMetrics), count, options.pairs}, kNaN,
               at::kDouble);
  double* values = study.values.data_ptr<double>();
  const int64_t* sizes = study.k.data_ptr<int64_t>();
  const int64_t stride = count * options.pairs;  // from metric to metric
  const auto slot = [&](PairKind kind, int64_t cell, int64_t pair) {
    return values + static_cast<int64_t>(kind) * static_cast<int64_t>(kMetrics) * stride +
           cell * options.pairs + pair;
  };

  const auto one_pair = [&](size_t group, int64_t pair) {
    const int64_t begin = begins[group], end = begins[group + 1];
    const int64_t dimension = cells[static_cast<size_t>(begin)].first;
    const auto free_of = [&](int64_t k) { return std::min(k, dimension - k); };
    int64_t columns = 0;
    for (int64_t i = begin; i < end; ++i) columns = std::max(columns, free_of(sizes[i]));
    const int64_t first = draw_of(dimension, pair, 0), second = draw_of(dimension, pair, 1);
    const at::Tensor mask = random_order(dimension, dimension, seed, first),
                     other_mask = random_order(dimension, dimension, seed, second);
    const std::vector<int64_t> common = intersections(mask, other_mask);
    at::Tensor haar_haar, haar_mask;
    if (columns > 0) {
      const at::Tensor basis = haar_basis(dimension, columns, seed, first);
      haar_haar = at::matmul(basis.t(), haar_basis(dimension, columns, seed, second));
      haar_mask = basis.index_select(0, mask.narrow(0, 0, columns));
    }
    for (int64_t i = begin; i < end; ++i) {
      context.check_cancelled();
      const int64_t k = sizes[i], m = free_of(k);
      const bool seen = i > begin && sizes[i - 1] == k;  // another ratio of the same size
      for (const PairKind kind : all_pair_kinds) {
        double* out = slot(kind, i, pair);
        if (seen) {
          const double* before = slot(kind, i - 1, pair);
          for (size_t j = 0; j < kMetrics; ++j)
            out[static_cast<int64_t>(j) * stride] = before[static_cast<int64_t>(j) * stride];
        } else if (kind == PairKind::mask_mask) {
          const int64_t n = common[static_cast<size_t>(k)];
          measure(at::full({k - n}, std::numbers::pi / 2, at::kDouble), k, out, stride);
          const double shared = static_cast<double>(n) / static_cast<double>(k);  // free of cos(pi/2) > 0
          out[static_cast<int64_t>(Metric::overlap) * stride] = shared;
          out[(static_cast<int64_t>(kMetrics) - 1) * stride] = intersection_over_union(shared);
        } else {
          const at::Tensor& cross = kind == PairKind::haar_haar ? haar_haar : haar_mask;
          measure(m == 0 ? at::zeros({0}, at::kDouble)
                         : mask_principal_angles(cross.narrow(0, 0, m).narrow(1, 0, m)),
                  k, out, stride);
        }
      }
    }
  };

  // Pair by pair, each of all dimensions, the largest first: so the time left is known early, and the threads
  // end together.
  const auto groups = static_cast<int64_t>(begins.size()) - 1;
  std::atomic<int64_t> next = 0;
  std::mutex telling;
  context.progress().begin("synthetic pairs", groups * options.pairs, "pairs");
  const int64_t workers = std::min<int64_t>(context.threads(), groups * options.pairs);
  context.run_workers(static_cast<int>(workers), [&](int) {
    for (int64_t task = next++; task < groups * options.pairs; task = next++) {
      context.check_cancelled();
      one_pair(static_cast<size_t>(groups - 1 - task % groups), task / groups);
      const std::lock_guard lock(telling);
      context.progress().advance(1);
    }
  });
  context.progress().end();
  return study;
}

at::Tensor synthetic_quantiles(const SyntheticStudy& study) {
  const at::Tensor sorted = std::get<0>(study.values.contiguous().sort(-1));
  const int64_t pairs = sorted.size(-1), rows = sorted.numel() / pairs;
  const auto levels = static_cast<int64_t>(synthetic_levels.size());
  at::Tensor result = at::empty({sorted.size(0), sorted.size(1), sorted.size(2), levels}, at::kDouble);
  for (int64_t row = 0; row < rows; ++row) {
    const double* x = sorted.data_ptr<double>() + row * pairs;
    for (int64_t i = 0; i < levels; ++i) {
      const double at = synthetic_levels[static_cast<size_t>(i)] * static_cast<double>(pairs - 1);
      const auto below = static_cast<int64_t>(at);
      const int64_t above = std::min(below + 1, pairs - 1);
      result.data_ptr<double>()[row * levels + i] =
          x[below] + (at - static_cast<double>(below)) * (x[above] - x[below]);
    }
  }
  return result;
}

std::vector<MetricFinding> synthetic_findings(const SyntheticStudy& study) {
  const at::Tensor quantiles = synthetic_quantiles(study);
  const int64_t cells = study.k.numel(), levels = quantiles.size(-1);
  const int64_t *k = study.k.data_ptr<int64_t>(), *dimension = study.dimension.data_ptr<int64_t>();
  std::vector<MetricFinding> findings;
  for (size_t m = 0; m < kMetrics; ++m) {
    MetricFinding f;
    f.metric = synthetic_metrics()[m];
    f.follows = true;
    f.between_kinds = kNaN;
    const auto median = [&](size_t kind, int64_t cell) {
      const int64_t row =
          (static_cast<int64_t>(kind) * static_cast<int64_t>(kMetrics) + static_cast<int64_t>(m)) * cells +
          cell;
      const double value = quantiles.data_ptr<double>()[row * levels + levels / 2];
      return is_similarity(f.metric) ? value : 1.0 - value;
    };
    const auto resolved = [&](int64_t cell) { return k[cell] * k[cell] >= dimension[cell]; };
    for (size_t kind = 0; kind < kKinds; ++kind) {
      f.off[kind] = f.off_resolved[kind] = f.saturated[kind] = f.slope[kind] = kNaN;
      if (cells == 0 || std::isnan(median(kind, 0))) continue;
      double off = 0, off_resolved = 0, low = 0, n = 0, apart = 0, points = 0, x1 = 0, x2 = 0, y1 = 0, xy = 0;
      bool logs = true;
      for (int64_t i = 0; i < cells; ++i) {
        const double share = static_cast<double>(k[i]) / static_cast<double>(dimension[i]),
                     s = median(kind, i);
        off = std::max(off, std::abs(s - share));
        if (!resolved(i)) continue;
        ++n;
        off_resolved = std::max(off_resolved, std::abs(s - share));
        if (k[i] == dimension[i]) continue;  // one and the same space, whatever the metric
        ++apart;
        low += s < kSaturated ? 1 : 0;
        // Angles of pi/2 come out as distances of 1 to rounding.
        logs = logs && s > 1e-12;
        if (!logs) continue;
        const double x = std::log(share), y = std::log(s);
        ++points;
        x1 += x;
        x2 += x * x;
        y1 += y;
        xy += x * y;
      }
      f.off[kind] = off;
      if (n > 0) f.off_resolved[kind] = off_resolved;
      if (apart > 0) f.saturated[kind] = low / apart;
      const double spread = points * x2 - x1 * x1;
      if (logs && spread > 1e-9 * points * x2) f.slope[kind] = (points * xy - x1 * y1) / spread;
      f.follows = f.follows && f.off_resolved[kind] <= kFollows && f.saturated[kind] == 0 &&
                  std::abs(f.slope[kind] - 1) <= kSlope;
    }
    for (int64_t i = 0; i < cells; ++i) {
      if (!resolved(i)) continue;
      std::vector<double> medians;
      for (size_t kind = 0; kind < kKinds; ++kind)
        if (const double s = median(kind, i); !std::isnan(s)) medians.push_back(s);
      if (medians.size() < 2) continue;
      const auto [least, most] = std::minmax_element(medians.begin(), medians.end());
      f.between_kinds = std::fmax(f.between_kinds, *most - *least);
    }
    findings.push_back(f);
  }
  return findings;
}

}  // namespace seigh
