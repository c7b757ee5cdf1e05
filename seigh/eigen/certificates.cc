#include "seigh/eigen/certificates.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "seigh/core/error.h"

namespace seigh {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kClusterSpread = 0.05;  // of a cluster's value
constexpr int64_t kLargestCluster = 512;
constexpr double kEqual = 1e-4;  // relative distance of eigenvalues that are taken for equal

std::vector<double> to_vector(const at::Tensor& x) {
  const at::Tensor flat = x.cpu().to(at::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

// Eigenvalues are ordered, so what bounds one bounds its neighbours.
void order(EndBounds& end) {
  for (size_t i = 1; i < end.upper.size(); ++i) end.upper[i] = std::min(end.upper[i], end.upper[i - 1]);
  for (size_t i = end.lower.size(); i-- > 1;) end.lower[i - 1] = std::max(end.lower[i - 1], end.lower[i]);
  if (!end.upper.empty()) end.rest = std::min(end.rest, end.upper.back());
}

// The high end of a projection: `values` rising, S and T as in interlacing_bounds().
EndBounds interlacing(const at::Tensor& values, const at::Tensor& t, const at::Tensor& s, double eta,
                      int64_t dimension, double rounding) {
  EndBounds end;
  const int64_t p = t.size(0), w = s.size(0);
  for (const double theta : to_vector(values.flip(0))) end.lower.push_back(theta - rounding);
  if (p == dimension) {
    for (const double theta : end.lower) end.upper.push_back(theta + 2 * rounding);
    end.rest = -kInf;
  } else if (std::isinf(eta)) {
    end.upper.assign(static_cast<size_t>(p), kInf);
  } else {
    const at::Tensor bordered = at::zeros({p + w, p + w}, t.options());
    bordered.slice(0, 0, p).slice(1, 0, p).copy_(t);
    bordered.slice(0, p).slice(1, 0, p).copy_(s);
    bordered.slice(0, 0, p).slice(1, p).copy_(s.mH());
    bordered.slice(0, p).slice(1, p).diagonal().fill_(eta);
    for (const double u : to_vector(at::linalg_eigvalsh(bordered).flip(0)))
      end.upper.push_back(std::max(u, eta) + rounding);
    if (w > 0)
      end.rest = end.upper[static_cast<size_t>(p)];
    else
      end.rest = eta + rounding;
    end.upper.resize(static_cast<size_t>(p));
  }
  order(end);
  return end;
}

EndBounds perturbation(std::vector<std::pair<double, double>> pairs, double eta) {
  std::erase_if(pairs, [](const auto& pair) { return !(pair.first > 0); });
  std::sort(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  const size_t n = pairs.size();
  size_t isolated = 0;  // so many leading intervals hold one eigenvalue each
  for (size_t i = 0; i < n; ++i) {
    const auto [value, residual] = pairs[i];
    const double next = i + 1 < n ? pairs[i + 1].first : 0;
    if (i > 0 && !(pairs[i - 1].first - pairs[i - 1].second > value + residual)) break;
    if (value - residual > next + eta) isolated = i + 1;
  }
  EndBounds end;
  for (size_t i = 0; i < n; ++i) {
    const double margin = i < isolated ? std::min(pairs[i].second, eta) : eta;
    end.lower.push_back(pairs[i].first - margin);
    end.upper.push_back(pairs[i].first + margin);
  }
  end.rest = eta;
  order(end);
  return end;
}

// The pairs found, as one end sees them.
struct End {
  std::vector<double> value, residual;  // falling
  std::vector<double> lower, upper;
  double rest;
  std::vector<int64_t> place;        // of every pair of the spectrum, -1: not at this end
  std::vector<int64_t> begin, end_;  // its window, inclusive
  std::vector<double> sine;          // of the window's span

  int64_t count() const { return static_cast<int64_t>(value.size()); }
  double v(int64_t i) const { return value[static_cast<size_t>(i)]; }
  double r(int64_t i) const { return residual[static_cast<size_t>(i)]; }
  double before(int64_t i) const { return i > 0 ? lower[static_cast<size_t>(i - 1)] : kInf; }
  double behind(int64_t i) const { return i + 1 < count() ? upper[static_cast<size_t>(i + 1)] : rest; }
};

End end_of(const std::vector<double>& spectrum, const std::vector<double>& residuals, double sign,
           const EndBounds& bounds) {
  const int64_t n = static_cast<int64_t>(spectrum.size());
  std::vector<int64_t> falling(spectrum.size());
  for (int64_t i = 0; i < n; ++i) falling[static_cast<size_t>(i)] = i;
  std::stable_sort(falling.begin(), falling.end(), [&](int64_t a, int64_t b) {
    return sign * spectrum[static_cast<size_t>(a)] > sign * spectrum[static_cast<size_t>(b)];
  });
  falling.resize(bounds.lower.size());
  End end;
  end.place.assign(spectrum.size(), -1);
  for (const int64_t i : falling) {
    end.place[static_cast<size_t>(i)] = end.count();
    end.value.push_back(sign * spectrum[static_cast<size_t>(i)]);
    end.residual.push_back(residuals[static_cast<size_t>(i)]);
  }
  end.lower = bounds.lower;
  end.upper = bounds.upper;
  end.rest = bounds.rest;
  return end;
}

// Finds, for the place i, the smallest run of places around it that is separated from all other eigenvalues.
void separate(End& end, int64_t i) {
  int64_t a = i, b = i;
  for (;;) {
    bool up = false, down = false;
    for (int64_t m = a; m <= b; ++m) {
      up = up || !(2 * end.r(m) < end.before(a) - end.v(m));
      down = down || !(2 * end.r(m) < end.v(m) - end.behind(b));
    }
    if (!up && !down) break;
    if (up) --a;
    if (down) ++b;
    if (a < 0 || b >= end.count() || b - a >= kLargestCluster ||
        end.v(a) - end.v(b) > kClusterSpread * std::abs(end.v(i)))
      return;
  }
  double squares = 0;
  for (int64_t m = a; m <= b; ++m) {
    const double ratio = end.r(m) / std::min(end.before(a) - end.v(m), end.v(m) - end.behind(b));
    squares += ratio * ratio;
  }
  for (int64_t m = a; m <= b; ++m) {
    const size_t at = static_cast<size_t>(m);
    if (end.begin[at] >= 0 && end.end_[at] - end.begin[at] <= b - a) continue;  // known more finely
    end.begin[at] = a;
    end.end_[at] = b;
    end.sine[at] = std::min(1.0, std::sqrt(squares));
  }
}

void separate_all(End& end, int64_t upto) {
  end.begin.assign(end.value.size(), -1);
  end.end_.assign(end.value.size(), -1);
  end.sine.assign(end.value.size(), 1);
  for (int64_t i = 0; i < std::min(upto, end.count()); ++i)
    if (end.begin[static_cast<size_t>(i)] < 0) separate(end, i);
}

// Of falling numbers, how many are above x; with `reached`, or equal to it.
int64_t above(const std::vector<double>& falling, double x, bool reached) {
  const auto end =
      reached ? std::partition_point(falling.begin(), falling.end(), [&](double y) { return y >= x; })
              : std::partition_point(falling.begin(), falling.end(), [&](double y) { return y > x; });
  return end - falling.begin();
}

// The (j + 1)-th largest magnitude that j = 0, 1, ..., k eigenvalues may have at most.
std::vector<double> largest_magnitudes(const SpectrumBounds& bounds, int64_t k, int64_t dimension) {
  std::vector<double> all;
  const double rest = std::max({bounds.high.rest, bounds.low.rest, 0.0});
  for (const EndBounds* end : {&bounds.high, &bounds.low})
    for (const double u : end->upper)
      if (u > rest) all.push_back(u);
  std::sort(all.begin(), all.end(), std::greater<>());
  std::vector<double> result;
  for (int64_t j = 0; j <= k; ++j) {
    const bool any = j < dimension;
    result.push_back(!any                                   ? -kInf
                     : j < static_cast<int64_t>(all.size()) ? all[static_cast<size_t>(j)]
                                                            : rest);
  }
  return result;
}

// How many of the wanted pairs are of the high end.
int64_t from_high(Selection selection, int64_t wanted) {
  return selection == Selection::negative ? 0 : selection == Selection::both ? (wanted + 1) / 2 : wanted;
}

// Which of the k selected pairs are counted from the high end.
std::vector<bool> ends(const std::vector<double>& values, int64_t k, Selection selection, int64_t wanted,
                       const End& high, const End& low) {
  std::vector<double> selected(values.begin(), values.begin() + k);
  std::sort(selected.begin(), selected.end(), std::greater<>());
  const int64_t highs = std::min(from_high(selection, wanted), k);
  int64_t taken = 0;  // equal values may be at the border of `both`
  std::vector<bool> at_high;
  for (int64_t i = 0; i < k; ++i) {
    const size_t at = static_cast<size_t>(i);
    bool up = values[at] >= 0;
    if (selection == Selection::positive || selection == Selection::negative)
      up = selection == Selection::positive;
    if (selection == Selection::both) {
      up = highs > taken && values[at] >= selected[static_cast<size_t>(highs - 1)] &&
           (high.place[at] >= 0 || low.place[at] < 0);
      taken += up ? 1 : 0;
    }
    at_high.push_back(up);
  }
  return at_high;
}

// Of the first pairs, as many as `at_high` has entries.
at::Tensor subspace_errors(const std::vector<double>& lambda, const std::vector<double>& r,
                           const std::vector<bool>& at_high, Selection selection,
                           const SpectrumBounds& bounds, int64_t dimension) {
  const int64_t k = static_cast<int64_t>(at_high.size());
  at::Tensor result = at::empty({k}, at::kDouble);
  if (k == 0) return result;
  // No eigenvalue behind the first j of an end is above this.
  const auto behind = [&](const EndBounds& end, int64_t j) {
    if (j >= dimension) return -kInf;
    return j < static_cast<int64_t>(end.upper.size()) ? end.upper[static_cast<size_t>(j)] : end.rest;
  };
  std::vector<double> magnitudes;
  if (selection == Selection::magnitude) magnitudes = largest_magnitudes(bounds, k, dimension);
  double most = -kInf, least = kInf;  // what both ends together leave out
  if (selection == Selection::both) {
    const int64_t highs = std::count(at_high.begin(), at_high.end(), true);
    most = behind(bounds.high, highs);
    least = -behind(bounds.low, k - highs);
    // The (j + 1)-th largest in magnitude of the selected ones themselves.
    for (int64_t i = 0; i < k; ++i) {
      const bool up = i < highs;
      const int64_t place = up ? i : i - highs;
      const double upper = behind(up ? bounds.high : bounds.low, place);
      const EndBounds& end = up ? bounds.high : bounds.low;
      const double lower =
          place < static_cast<int64_t>(end.lower.size()) ? end.lower[static_cast<size_t>(place)] : -kInf;
      magnitudes.push_back(std::max(std::abs(upper), std::abs(lower)));
    }
    std::sort(magnitudes.begin(), magnitudes.end(), std::greater<>());
    magnitudes.push_back(-kInf);
  }
  for (int64_t j = 1; j <= k; ++j) {
    double sum = 0;
    for (int64_t i = 0; i < j; ++i) {
      const double v = lambda[static_cast<size_t>(i)], residual = r[static_cast<size_t>(i)];
      double distance = 0;
      switch (selection) {
        case Selection::positive:
          distance = v - behind(bounds.high, j);
          break;
        case Selection::negative:
          distance = -v - behind(bounds.low, j);
          break;
        case Selection::magnitude:
          distance = std::abs(v) - magnitudes[static_cast<size_t>(j)];
          break;
        case Selection::both:
          distance = k == dimension ? kInf : std::max(v - most, least - v);
          if (j < k) distance = std::min(distance, std::abs(v) - magnitudes[static_cast<size_t>(j)]);
          break;
      }
      const double ratio = residual / distance;
      sum += distance > 0 && ratio < 1 ? ratio * ratio : 1;
    }
    result.data_ptr<double>()[j - 1] = std::sqrt(sum / static_cast<double>(j));
  }
  return result;
}

}  // namespace

SpectrumBounds interlacing_bounds(const at::Tensor& t, const at::Tensor& s, double eta_high, double eta_low,
                                  int64_t dimension, double rounding) {
  const at::Tensor values = at::linalg_eigvalsh(t);
  return {interlacing(values, t, s, eta_high, dimension, rounding),
          interlacing(values.neg().flip(0), t.neg(), s.neg(), eta_low, dimension, rounding)};
}

SpectrumBounds perturbation_bounds(const at::Tensor& values, const at::Tensor& residuals, double eta,
                                   int64_t dimension) {
  const std::vector<double> v = to_vector(values), r = to_vector(residuals);
  std::vector<std::pair<double, double>> high, low;
  for (size_t i = 0; i < v.size(); ++i) {
    high.emplace_back(v[i], r[i]);
    low.emplace_back(-v[i], r[i]);
  }
  const bool all = static_cast<int64_t>(v.size()) == dimension;
  SpectrumBounds bounds{perturbation(std::move(high), eta), perturbation(std::move(low), eta)};
  // Where all eigenvalues are of one sign, none is left behind them.
  if (all && static_cast<int64_t>(bounds.high.lower.size()) == dimension) bounds.high.rest = -kInf;
  if (all && static_cast<int64_t>(bounds.low.lower.size()) == dimension) bounds.low.rest = -kInf;
  return bounds;
}

SpectrumBounds rounding_bounds(const at::Tensor& values, double rounding) {
  SpectrumBounds bounds;
  std::vector<double> rising = to_vector(values);
  std::sort(rising.begin(), rising.end());
  for (const double v : rising) {
    bounds.low.lower.push_back(-v - rounding);
    bounds.low.upper.push_back(-v + rounding);
  }
  std::reverse(rising.begin(), rising.end());
  for (const double v : rising) {
    bounds.high.lower.push_back(v - rounding);
    bounds.high.upper.push_back(v + rounding);
  }
  bounds.high.rest = bounds.low.rest = -kInf;
  return bounds;
}

std::string to_string(Trust trust) {
  switch (trust) {
    case Trust::noise:
      return "noise";
    case Trust::value:
      return "value";
    case Trust::cluster:
      return "cluster";
    case Trust::pair:
      return "pair";
  }
  return "";
}

int64_t Certificates::certified() const {
  return trust.defined() ? trust.ge(static_cast<int64_t>(Trust::cluster)).sum().item<int64_t>() : 0;
}

Certificates certify_pairs(const at::Tensor& spectrum, const at::Tensor& residuals, int64_t k,
                           Selection selection, int64_t wanted, const SpectrumBounds& bounds,
                           int64_t dimension) {
  const std::vector<double> values = to_vector(spectrum), r = to_vector(residuals);
  require(values.size() == r.size() && k <= static_cast<int64_t>(values.size()), "certify_pairs: there are ",
          values.size(), " values, ", r.size(), " residuals, and ", k, " pairs");
  End high = end_of(values, r, 1, bounds.high), low = end_of(values, r, -1, bounds.low);
  Certificates c;
  c.trust = at::zeros({k}, at::kByte);
  c.angle = at::empty({k}, at::kDouble);
  c.low = at::empty({k}, at::kDouble);
  c.high = at::empty({k}, at::kDouble);
  c.first = at::empty({k}, at::kLong);
  c.last = at::empty({k}, at::kLong);

  const std::vector<bool> at_high = ends(values, k, selection, wanted, high, low);
  int64_t deepest_high = 0, deepest_low = 0;
  for (int64_t i = 0; i < k; ++i) {
    const size_t at = static_cast<size_t>(i);
    if (at_high[at])
      deepest_high = std::max(deepest_high, high.place[at] + 1);
    else
      deepest_low = std::max(deepest_low, low.place[at] + 1);
  }
  separate_all(high, deepest_high);
  separate_all(low, deepest_low);

  for (int64_t i = 0; i < k; ++i) {
    const size_t at = static_cast<size_t>(i);
    const End& end = at_high[at] ? high : low;
    const End& other = at_high[at] ? low : high;
    const double sign = at_high[at] ? 1 : -1, v = sign * values[at], residual = r[at];
    const int64_t place = end.place[at];
    double below = v - residual, over = v + residual;
    int64_t first = 1, last = dimension;
    bool separated = false, single = false, open = true;  // open: nothing is known of the last place
    bool equal = false;  // one of several that are the same, not all of which need have been found
    double sine = 1;
    if (place >= 0) {
      const size_t p = static_cast<size_t>(place);
      separated = end.begin[p] >= 0;
      const int64_t a = separated ? end.begin[p] : place, b = separated ? end.end_[p] : place;
      single = separated && a == b;
      const double apart = kEqual * std::abs(v);
      equal = !separated && 2 * residual < apart && end.upper[p] - v < apart;
      sine = separated ? end.sine[p] : equal ? residual / apart : 1;
      below = end.lower[p];
      over = end.upper[p];
      if (single) {  // the eigenvalue within the residual is this one
        below = std::max(below, v - residual);
        over = std::min(over, v + residual);
      }
      // What this end says of the places.
      const double least = separated ? end.lower[static_cast<size_t>(b)] : below,
                   most = separated ? end.upper[static_cast<size_t>(a)] : over;
      first = 1 + (separated ? a : above(end.lower, most, false));
      last = separated ? b + 1 : std::max(above(end.upper, least, true), place + 1);
      open = !separated && end.rest >= least;
      if (selection == Selection::magnitude) {  // and the other
        const double x = single ? below : least, y = single ? over : most;
        // Others of the same size, but for the sign, are told from it no better than those of a cluster.
        const int64_t rivals = above(other.lower, std::abs(y), false);
        first += rivals;
        open = open || !(x > 0) || other.rest >= x;
        last += above(other.upper, x, true);
        const bool near = rivals >= other.count() ||
                          other.upper[static_cast<size_t>(rivals)] <= (1 + kClusterSpread) * std::abs(y);
        if (last > wanted && !near) separated = equal = false;
      }
    }
    last = open ? dimension : std::min(last, dimension);
    const int64_t limit = selection != Selection::both ? wanted
                          : at_high[at]                ? from_high(selection, wanted)
                                                       : wanted - from_high(selection, wanted);
    Trust trust = Trust::value;
    if (separated && !open && single && last <= limit)
      trust = Trust::pair;
    else if (((separated && !open) || equal) && first <= limit)
      trust = Trust::cluster;
    const bool sign_known = (place >= 0 && below > 0) || residual < std::abs(values[at]);
    if (trust == Trust::value && !sign_known) trust = Trust::noise;
    const bool certain = trust == Trust::pair || trust == Trust::cluster;
    c.trust.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(trust);
    c.angle.data_ptr<double>()[i] = certain ? std::asin(sine) : std::numbers::pi / 2;
    c.low.data_ptr<double>()[i] = at_high[at] ? below : -over;
    c.high.data_ptr<double>()[i] = at_high[at] ? over : -below;
    c.first.data_ptr<int64_t>()[i] = first;
    c.last.data_ptr<int64_t>()[i] = last;
  }
  c.subspace = subspace_errors(values, r, at_high, selection, bounds, dimension);
  return c;
}

Scree scree(const at::Tensor& eigenvalues, double error) {
  const at::Tensor squares = eigenvalues.to(at::kDouble).square();
  const double total = squares.sum().item<double>();
  require(total > 0, "scree: all eigenvalues are zero");
  const at::Tensor tail = (total - squares.cumsum(0)).clamp_min(0).sqrt();
  const double norm = std::sqrt(total);
  return {(tail / norm).square(), ((tail + error) / norm).square()};
}

}  // namespace seigh
