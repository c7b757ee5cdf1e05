#include "seigh/overlap/metrics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/acos.h>
#include <ATen/ops/atan2.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "seigh/core/error.h"

namespace seigh {
namespace {

// A basis computed in float32 keeps its orthonormality to 1e-4 or so; beyond 1e-3 the input is no such basis.
constexpr double kOrthonormalTolerance = 1e-3;

bool is_float(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble;
}

// A^T B, float64 [k, k], by pieces of rows, so that float32 bases are never copied whole.
at::Tensor cross_gram(const at::Tensor& a, const at::Tensor& b) {
  constexpr int64_t kPiece = 16384;
  at::Tensor result = at::zeros({a.size(1), b.size(1)}, a.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < a.size(0); begin += kPiece) {
    const int64_t n = std::min(kPiece, a.size(0) - begin);
    result.addmm_(a.narrow(0, begin, n).to(at::kDouble).t(), b.narrow(0, begin, n).to(at::kDouble));
  }
  return result;
}

void require_orthonormal(const at::Tensor& basis, const char* which) {
  const at::Tensor gram = cross_gram(basis, basis);
  const double defect = (gram - at::eye(basis.size(1), gram.options())).abs().max().item<double>();
  require(defect <= kOrthonormalTolerance, which, " basis is not orthonormal: max |O^T O - I| = ", defect,
          "; orthonormalise it first");
}

void require_bases(const at::Tensor& o1, const at::Tensor& o2) {
  require(o1.dim() == 2 && o2.dim() == 2 && o1.size(0) == o2.size(0) && o1.size(1) >= 1 && o2.size(1) >= 1 &&
              std::max(o1.size(1), o2.size(1)) <= o1.size(0),
          "two bases [D, k], 1 <= k <= D, of one D are needed, got ", o1.sizes(), " and ", o2.sizes());
  require(is_float(o1) && is_float(o2), "bases must be float32 or float64, got ", o1.scalar_type(), " and ",
          o2.scalar_type());
  require_orthonormal(o1, "first");
  require_orthonormal(o2, "second");
}

at::Tensor cosines_of(const at::Tensor& cross) {
  return at::linalg_svdvals(cross).clamp(0.0, 1.0);
}

}  // namespace

std::string_view metric_name(Metric metric) {
  switch (metric) {
    case Metric::geodesic:
      return "geodesic";
    case Metric::chordal_2:
      return "chordal_2";
    case Metric::chordal_frobenius:
      return "chordal_frobenius";
    case Metric::projection_2:
      return "projection_2";
    case Metric::projection_frobenius:
      return "projection_frobenius";
    case Metric::fubini_study:
      return "fubini_study";
    case Metric::overlap:
      return "overlap";
  }
  fail("no metric has the number ", static_cast<int>(metric));
}

Metric metric_from_name(std::string_view name) {
  std::string names;
  for (const Metric metric : all_metrics) {
    if (metric_name(metric) == name) return metric;
    names.append(names.empty() ? "" : ", ").append(metric_name(metric));
  }
  fail("unknown metric '", name, "'; known are ", names);
}

at::Tensor principal_angle_cosines(const at::Tensor& o1, const at::Tensor& o2) {
  require_bases(o1, o2);
  return cosines_of(cross_gram(o1, o2));
}

at::Tensor principal_angles(const at::Tensor& o1, const at::Tensor& o2) {
  if (o2.dim() == 2 && o1.dim() == 2 && o2.size(1) > o1.size(1)) return principal_angles(o2, o1);
  require_bases(o1, o2);
  const at::Tensor cross = cross_gram(o1, o2);
  const at::Tensor cosines = cosines_of(cross);  // falling
  // sin(theta) = singular values of (I - O1 O1^T) O2, falling: the last belongs to the largest cosine.
  const at::Tensor sines =
      at::linalg_svdvals(o2.to(at::kDouble) - at::matmul(o1.to(at::kDouble), cross)).flip({0});
  return at::atan2(sines, cosines);
}

at::Tensor mask_principal_angles(const at::Tensor& rows) {
  require(rows.dim() == 2 && std::min(rows.size(0), rows.size(1)) >= 1 && is_float(rows),
          "the rows of a basis of k vectors at a mask of m parameters are a float matrix [m, k], got ",
          rows.scalar_type(), " ", rows.sizes());
  require(rows.isfinite().all().item<bool>(), "the rows of the basis hold NaN or infinity");
  const at::Tensor cosines = at::linalg_svdvals(rows.to(at::kDouble));
  const double largest = cosines[0].item<double>();
  require(largest <= 1.0 + kOrthonormalTolerance,
          "the rows are not part of an orthonormal basis: their largest singular value is ", largest);
  return cosines.clamp(0.0, 1.0).acos();
}

double metric(Metric metric, const at::Tensor& angles) {
  require(angles.dim() == 1 && angles.numel() >= 1 && is_float(angles),
          "principal angles are a float vector [k], k >= 1, got ", angles.scalar_type(), " ", angles.sizes());
  const at::Tensor values = angles.to(at::kCPU, at::kDouble).contiguous();
  const double* theta = values.data_ptr<double>();
  const int64_t k = values.numel();
  for (int64_t i = 0; i < k; ++i) {
    // The upper limit leaves room for pi/2 rounded to float32.
    require(theta[i] >= 0.0 && theta[i] <= std::numbers::pi / 2 + 1e-7, "principal angle ", i, " is ",
            theta[i], ", outside [0, pi/2]");
  }
  const auto sum = [&](auto&& term) {
    double total = 0.0;
    for (int64_t i = 0; i < k; ++i) total += term(theta[i]);
    return total;
  };
  const auto square = [](double x) { return x * x; };
  const double largest = *std::max_element(theta, theta + k);
  const double count = static_cast<double>(k);
  switch (metric) {
    case Metric::geodesic:
      return std::sqrt(sum(square) / count) / (std::numbers::pi / 2);
    case Metric::chordal_2:
      return 2.0 * std::sin(largest / 2) / std::numbers::sqrt2;
    case Metric::chordal_frobenius:
      return std::sqrt(sum([&](double t) { return square(2.0 * std::sin(t / 2)); }) / (2.0 * count));
    case Metric::projection_2:
      return std::sin(largest);
    case Metric::projection_frobenius:
      return std::sqrt(sum([&](double t) { return square(std::sin(t)); }) / count);
    case Metric::fubini_study: {
      // With L = log prod cos^2(theta), arccos(prod cos) = atan2(sqrt(1 - e^L), e^(L/2)), which is accurate
      // for tiny angles as well, where prod cos rounds to 1.
      const double log_product = sum([&](double t) {
        return t < std::numbers::pi / 4 ? std::log1p(-square(std::sin(t)))
                                        : 2.0 * std::log(std::abs(std::cos(t)));
      });
      return std::atan2(std::sqrt(-std::expm1(log_product)), std::exp(log_product / 2)) /
             (std::numbers::pi / 2);
    }
    case Metric::overlap:
      return sum([&](double t) { return square(std::cos(t)); }) / count;
  }
  fail("no metric has the number ", static_cast<int>(metric));
}

double overlap(const at::Tensor& o1, const at::Tensor& o2) {
  require_bases(o1, o2);
  const at::Tensor cross = cross_gram(o1, o2);
  return cross.mul(cross).sum().item<double>() / static_cast<double>(std::min(o1.size(1), o2.size(1)));
}

double intersection_over_union(double mask_overlap) {
  require(mask_overlap >= 0.0 && mask_overlap <= 1.0, "the overlap of two masks is in [0, 1], not ",
          mask_overlap);
  return mask_overlap / (2.0 - mask_overlap);
}

}  // namespace seigh
