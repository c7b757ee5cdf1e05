// What repeated runs say: means over seeds with their intervals, comparisons by seed, one further run.
//
// Overlaps and their factors are positive and compared as ratios, so means are geometric and intervals those
// of Student's t on the logarithm: with m and s the mean and standard deviation (n - 1) of n logarithms,
//
//   mean of all runs     exp(m +- t s / sqrt(n))             t the (1 + level)/2 quantile, n - 1 degrees
//   ratio of two         the same of the logarithms of ratios, run by run with the same seed
//   one further run      exp(m +- t s sqrt(1 + 1/n))
//
// These hold where logarithms are normal; with three seeds nobody can tell, and the intervals are as wide as
// three seeds make them (t = 4.30 at 95 %).
#pragma once

#include <cstdint>
#include <vector>

namespace seigh {

struct MeanInterval {
  double mean, low, high;  ///< NaN where they cannot be known: low and high of a single value
  int64_t n = 0;
  bool geometric = true;  ///< false: a value was zero or negative, so mean and interval are arithmetic
};

/// Geometric mean with its interval. With a value that is zero or negative: arithmetic, said by `geometric`.
/// With one that is NaN or infinite, or none: NaN. Throws Error unless 0 < level < 1.
MeanInterval mean_interval(const std::vector<double>& values, double level = 0.95);
/// Where one further value lies, with probability `level`; mean and scale as of mean_interval().
MeanInterval prediction_interval(const std::vector<double>& values, double level = 0.99);
/// Geometric mean of values[i] / base[i], pairs of the same seed. NaN where a value is not positive. Throws
/// Error on different lengths.
MeanInterval ratio_interval(const std::vector<double>& values, const std::vector<double>& base,
                            double level = 0.95);

/// x with P(T <= x) = p for Student's t of `degrees` > 0 (real) degrees of freedom, 0 < p < 1, to some 1e-12
/// of itself. Throws Error on others.
double student_quantile(double p, double degrees);
/// I_x(a, b), the regularised incomplete beta function, 0 <= x <= 1, a, b > 0.
double incomplete_beta(double a, double b, double x);

}  // namespace seigh
