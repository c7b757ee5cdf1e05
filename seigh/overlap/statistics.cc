#include "seigh/overlap/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "seigh/core/error.h"

namespace seigh {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Moments {
  double mean = 0, deviation = kNaN;
};

Moments moments(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Moments m;
  for (const double x : values) m.mean += x / n;
  if (values.size() < 2) return m;
  double squares = 0;
  for (const double x : values) squares += (x - m.mean) * (x - m.mean);
  m.deviation = std::sqrt(squares / (n - 1));
  return m;
}

// m +- t s sqrt(1/n + further), on the logarithm where all values are positive.
MeanInterval interval(std::vector<double> values, double level, double further) {
  require(0 < level && level < 1, "the level of an interval must lie between 0 and 1, not ", level);
  MeanInterval result{kNaN, kNaN, kNaN, static_cast<int64_t>(values.size())};
  if (values.empty() || !std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); }))
    return result;
  result.geometric = std::all_of(values.begin(), values.end(), [](double x) { return x > 0; });
  if (result.geometric)
    for (double& x : values) x = std::log(x);
  const Moments m = moments(values);
  const auto n = static_cast<double>(values.size());
  const double half =
      values.size() < 2 ? kNaN
                        : student_quantile((1 + level) / 2, n - 1) * m.deviation * std::sqrt(1 / n + further);
  const auto back = [&](double x) { return result.geometric ? std::exp(x) : x; };
  result.mean = back(m.mean);
  result.low = back(m.mean - half);
  result.high = back(m.mean + half);
  return result;
}

// The continued fraction of the incomplete beta function (DLMF 8.17.22), by the modified method of Lentz and
// Thompson; converges fast for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  constexpr int kMost = 100'000;
  const auto away = [](double y) { return std::abs(y) < kTiny ? kTiny : y; };
  double c = 1, d = 1 / away(1 - (a + b) * x / (a + 1)), f = d;
  for (int i = 1; i <= kMost; ++i) {
    const double m = i;
    // d_2m = m (b - m) x / ((a + 2m - 1)(a + 2m)), d_2m+1 = -(a + m)(a + b + m) x / ((a + 2m)(a + 2m + 1))
    double step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + step * d);
    c = away(1 + step / c);
    f *= d * c;
    step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + step * d);
    c = away(1 + step / c);
    f *= d * c;
    if (std::abs(d * c - 1) < std::numeric_limits<double>::epsilon()) break;
  }
  return f;
}

// P(T > t), t >= 0: half of I_x(degrees/2, 1/2) at x = degrees / (degrees + t^2).
double upper_tail(double t, double degrees) {
  return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2;
}

}  // namespace

double incomplete_beta(double a, double b, double x) {
  require(a > 0 && b > 0 && 0 <= x && x <= 1, "no incomplete beta function of a = ", a, ", b = ", b,
          ", x = ", x);
  if (x == 0 || x == 1) return x;
  // x^a (1-x)^b / B(a, b)
  const double front =
      std::exp(a * std::log(x) + b * std::log1p(-x) + std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_quantile(double p, double degrees) {
  require(0 < p && p < 1, "a quantile is of a probability between 0 and 1, not ", p);
  require(degrees > 0, "Student's t has more than 0 degrees of freedom, not ", degrees);
  if (p == 0.5) return 0;
  if (p < 0.5) return -student_quantile(1 - p, degrees);
  // The tail falls with t: bracketed by doubling, then halved on the logarithm until numbers are next to each
  // other.
  const double tail = 1 - p;
  double low = 1e-300, high = 1;
  while (upper_tail(high, degrees) > tail && high < 1e150) high *= 2;
  for (int i = 0; i < 200 && high > low * (1 + 1e-15); ++i) {
    const double middle = low < high / 4 ? std::sqrt(low) * std::sqrt(high) : (low + high) / 2;
    (upper_tail(middle, degrees) > tail ? low : high) = middle;
  }
  return (low + high) / 2;
}

MeanInterval mean_interval(const std::vector<double>& values, double level) {
  return interval(values, level, 0);
}

MeanInterval prediction_interval(const std::vector<double>& values, double level) {
  return interval(values, level, 1);
}

MeanInterval ratio_interval(const std::vector<double>& values, const std::vector<double>& base,
                            double level) {
  require(values.size() == base.size(), values.size(), " values cannot be paired with ", base.size());
  std::vector<double> ratios;
  for (size_t i = 0; i < values.size(); ++i)
    ratios.push_back(values[i] > 0 && base[i] > 0 ? values[i] / base[i] : kNaN);
  return interval(std::move(ratios), level, 0);
}

}  // namespace seigh
