#include "seigh/overlap/metrics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/error.h"
#include "tests/support/haar.h"

namespace seigh {
namespace {

using test::haar_basis;
constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr double kPi = std::numbers::pi;

at::Tensor vector_of(const std::vector<double>& values) {
  return at::tensor(at::ArrayRef<double>(values), at::kDouble);
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// The span of canonical vectors.
at::Tensor mask_basis(int64_t dimension, const std::vector<int64_t>& indices) {
  at::Tensor basis = at::zeros({dimension, static_cast<int64_t>(indices.size())}, at::kDouble);
  for (size_t j = 0; j < indices.size(); ++j) basis[indices[j]][static_cast<int64_t>(j)] = 1.0;
  return basis;
}

// Two subspaces of R^D at the given principal angles, both turned by one random rotation of R^D.
std::pair<at::Tensor, at::Tensor> subspaces_at(const std::vector<double>& angles, int64_t dimension,
                                               uint64_t seed) {
  const int64_t k = static_cast<int64_t>(angles.size());
  at::Tensor a = at::zeros({dimension, k}, at::kDouble), b = at::zeros({dimension, k}, at::kDouble);
  for (int64_t j = 0; j < k; ++j) {
    a[j][j] = 1.0;
    b[j][j] = std::cos(angles[j]);
    b[k + j][j] = std::sin(angles[j]);
  }
  const at::Tensor rotation = haar_basis(seed, dimension, dimension);
  return {at::matmul(rotation, a), at::matmul(rotation, b)};
}

TEST(PrincipalAngles, OfRotatedPlanesAreTheAnglesTheyWereBuiltWith) {
  const std::vector<double> angles{0.0, 1e-9, 1e-5, 0.3, kPi / 4, 1.2, kPi / 2 - 1e-9, kPi / 2};
  const auto [a, b] = subspaces_at(angles, 40, 1);
  const at::Tensor computed = principal_angles(a, b);
  const at::Tensor cosines = principal_angle_cosines(a, b);
  for (int64_t i = 0; i < 8; ++i) {
    // The rotation's products and Householder steps of length D = 40 leave a defect of at most about D eps.
    EXPECT_NEAR(computed[i].item<double>(), angles[i], 40 * kEps) << i;
    EXPECT_NEAR(cosines[i].item<double>(), std::cos(angles[i]), 40 * kEps) << i;
  }
}

TEST(PrincipalAngles, DoNotDependOnTheBasisOfASubspace) {
  const at::Tensor a = haar_basis(2, 30, 5), b = haar_basis(3, 30, 5);
  const at::Tensor turned = at::matmul(b, haar_basis(4, 5, 5));
  const double difference = (principal_angles(a, b) - principal_angles(a, turned)).abs().max().item<double>();
  EXPECT_LE(difference, 30 * kEps);  // as above, D = 30
  EXPECT_GT((b - turned).abs().max().item<double>(), 0.1);
}

TEST(PrincipalAngles, OfFloat32BasesHaveItsAccuracy) {
  const std::vector<double> angles{1e-3, 0.8};
  const auto [a, b] = subspaces_at(angles, 20, 5);
  const at::Tensor computed = principal_angles(a.to(at::kFloat), b.to(at::kFloat));
  ASSERT_EQ(computed.scalar_type(), at::kDouble);
  // Entries are rounded to eps32 / 2 relative, a column to eps32 / 2 in norm; two bases of two columns: 2
  // eps32.
  const double tolerance = 2 * std::numeric_limits<float>::epsilon();
  EXPECT_NEAR(computed[0].item<double>(), 1e-3, tolerance);
  EXPECT_NEAR(computed[1].item<double>(), 0.8, tolerance);
}

TEST(PrincipalAngles, OfATallBasisUseEveryPieceOfRows) {
  // More rows than one piece (16384) of the blocked Gram matrix: a plane at 0.5 whose second direction lies
  // in the last row.
  const int64_t d = 40000;
  at::Tensor a = at::zeros({d, 1}, at::kDouble), b = a.clone();
  a[d - 1][0] = 1.0;
  b[d - 1][0] = std::cos(0.5);
  b[0][0] = std::sin(0.5);
  EXPECT_NEAR(principal_angles(a, b)[0].item<double>(), 0.5, 4 * kEps);
  EXPECT_NEAR(overlap(a, b), std::cos(0.5) * std::cos(0.5), 4 * kEps);
}

TEST(PrincipalAngles, OfAMaskNeedOnlyTheRowsOfTheBasisAtTheMask) {
  const std::vector<int64_t> mask{3, 0, 11, 7};
  const at::Tensor basis = haar_basis(6, 12, 4);
  const at::Tensor rows = basis.index_select(0, at::tensor(at::ArrayRef<int64_t>(mask)));
  const at::Tensor expected = principal_angles(mask_basis(12, mask), basis);
  // These angles are far from 0, where the cosine is flat: the smallest here is above 0.1, so eps / sin(0.1)
  // * D.
  ASSERT_GT(expected[0].item<double>(), 0.1);
  EXPECT_LE((mask_principal_angles(rows) - expected).abs().max().item<double>(), 12 * 10 * kEps);
}

TEST(PrincipalAngles, OfDifferentDimensionsAreThoseOfTheSmaller) {
  // Three angles to a subspace of three, and two more directions that the other has nothing of, or all of.
  const std::vector<double> angles{.1, .7, 1.2};
  const auto [a, b] = subspaces_at(angles, 12, 3);
  const at::Tensor both = std::get<0>(at::linalg_qr(at::cat({a, b}, 1))), more = haar_basis(4, 12, 2);
  const at::Tensor wide =
      at::cat({a, std::get<0>(at::linalg_qr(more - both.matmul(both.t().matmul(more))))}, 1);
  for (const auto& [first, second] : {std::pair(wide, b), std::pair(b, wide)}) {
    EXPECT_TRUE(at::allclose(principal_angles(first, second), vector_of(angles), 0, 1e-13));
    EXPECT_TRUE(at::allclose(principal_angle_cosines(first, second), vector_of(angles).cos(), 0, 1e-13));
    EXPECT_NEAR(overlap(first, second), vector_of(angles).cos().square().mean().item<double>(), 1e-13);
  }
  // Within the other: zero to rounding, from either side.
  for (const at::Tensor& found : {principal_angles(wide, a), principal_angles(a, wide)})
    EXPECT_LT(found.max().item<double>(), 1e-13);
  // Masks of more and of fewer parameters than vectors.
  const at::Tensor basis = haar_basis(9, 12, 3);
  for (const std::vector<int64_t>& mask :
       {std::vector<int64_t>{2, 5}, std::vector<int64_t>{0, 3, 4, 7, 11}}) {
    const at::Tensor rows = basis.index_select(0, at::tensor(mask, at::kLong));
    EXPECT_TRUE(
        at::allclose(mask_principal_angles(rows), principal_angles(mask_basis(12, mask), basis), 0, 1e-13));
  }
}

TEST(PrincipalAngles, OfEqualSubspacesStayInRange) {
  // Rounding pushes about half of the singular values above 1, which must reach neither a caller nor acos.
  const at::Tensor a = haar_basis(13, 30, 20);
  EXPECT_LE(principal_angle_cosines(a, at::matmul(a, haar_basis(14, 20, 20))).max().item<double>(), 1.0);
  const at::Tensor angles = mask_principal_angles(haar_basis(15, 20, 20));
  // From cosines within 20 eps of 1: acos(1 - x) = sqrt(2 x).
  EXPECT_LE(angles.max().item<double>(), std::sqrt(40 * kEps));
  EXPECT_GE(angles.min().item<double>(), 0.0);
}

TEST(Metrics, HaveTheirClosedForms) {
  const double a = 0.3, b = 1.1;
  const at::Tensor angles = vector_of({a, b});
  const auto near = [&](Metric m, double expected) {
    EXPECT_NEAR(metric(m, angles), expected, 8 * kEps)
        << metric_name(m);  // a few roundings of numbers below 1
  };
  near(Metric::geodesic, std::hypot(a, b) / (kPi / 2 * std::sqrt(2.0)));
  near(Metric::chordal_2, 2 * std::sin(b / 2) / std::sqrt(2.0));
  near(Metric::chordal_frobenius, std::hypot(2 * std::sin(a / 2), 2 * std::sin(b / 2)) / 2.0);
  near(Metric::projection_2, std::sin(b));
  near(Metric::projection_frobenius, std::hypot(std::sin(a), std::sin(b)) / std::sqrt(2.0));
  near(Metric::fubini_study, std::acos(std::cos(a) * std::cos(b)) / (kPi / 2));
  near(Metric::overlap, (std::pow(std::cos(a), 2) + std::pow(std::cos(b), 2)) / 2);
}

TEST(Metrics, DoNotDependOnTheOrderOfAngles) {
  for (const Metric m : all_metrics) {
    EXPECT_NEAR(metric(m, vector_of({0.2, 1.3, 0.7})), metric(m, vector_of({1.3, 0.7, 0.2})), 8 * kEps)
        << metric_name(m);
  }
}

TEST(Metrics, AreZeroForEqualAndOneForOrthogonalSubspaces) {
  const at::Tensor equal = vector_of({0, 0, 0}), orthogonal = vector_of({kPi / 2, kPi / 2, kPi / 2});
  for (const Metric m : all_metrics) {
    const bool similarity = m == Metric::overlap;
    EXPECT_NEAR(metric(m, equal), similarity ? 1.0 : 0.0, 4 * kEps) << metric_name(m);
    EXPECT_NEAR(metric(m, orthogonal), similarity ? 0.0 : 1.0, 4 * kEps) << metric_name(m);
  }
}

TEST(Metrics, AreLinearInTinyAngles) {
  // Each is c * theta for angles (theta, 0) with theta^2 below eps; Fubini-Study too, though prod cos rounds
  // to 1.
  const double theta = 1e-9;
  const at::Tensor angles = vector_of({0.0, theta});
  const auto near = [&](Metric m, double slope) {
    EXPECT_NEAR(metric(m, angles) / theta, slope, 8 * kEps) << metric_name(m);
  };
  near(Metric::geodesic, std::sqrt(2.0) / kPi);
  near(Metric::chordal_2, 1 / std::sqrt(2.0));
  near(Metric::chordal_frobenius, 0.5);
  near(Metric::projection_2, 1.0);
  near(Metric::projection_frobenius, 1 / std::sqrt(2.0));
  near(Metric::fubini_study, 2 / kPi);
}

TEST(Metrics, AreSymmetric) {
  const at::Tensor a = haar_basis(7, 25, 6), b = haar_basis(8, 25, 6);
  const at::Tensor there = principal_angles(a, b), back = principal_angles(b, a);
  for (const Metric m : all_metrics) {
    EXPECT_NEAR(metric(m, there), metric(m, back), 25 * kEps) << metric_name(m);  // angles are good to D eps
  }
}

TEST(Metrics, OverlapIsOneMinusTheSquaredProjectionDistance) {
  const at::Tensor a = haar_basis(9, 25, 6), b = haar_basis(10, 25, 6);
  const at::Tensor angles = principal_angles(a, b);
  const double distance = metric(Metric::projection_frobenius, angles);
  EXPECT_NEAR(overlap(a, b), 1 - distance * distance, 25 * kEps);
  EXPECT_NEAR(overlap(a, b), metric(Metric::overlap, angles), 25 * kEps);
  // ||P1 - P2||_F = sqrt(2) ||sin theta||_2, from the projectors themselves.
  const at::Tensor difference = at::matmul(a, a.t()) - at::matmul(b, b.t());
  EXPECT_NEAR(difference.norm().item<double>() / std::sqrt(12.0), distance, 25 * kEps);
}

TEST(Metrics, OfMasksCountTheParametersInCommon) {
  const at::Tensor a = mask_basis(10, {0, 1, 2, 3, 4}), b = mask_basis(10, {9, 4, 8, 3, 7});
  const double ov = overlap(a, b);
  EXPECT_DOUBLE_EQ(ov, 2.0 / 5.0);
  EXPECT_DOUBLE_EQ(intersection_over_union(ov), 2.0 / 8.0);
  EXPECT_DOUBLE_EQ(intersection_over_union(0.0), 0.0);
  EXPECT_DOUBLE_EQ(intersection_over_union(1.0), 1.0);
}

TEST(Metrics, AreFoundByName) {
  for (const Metric m : all_metrics) EXPECT_EQ(metric_from_name(metric_name(m)), m);
  EXPECT_EQ(metric_from_name("fubini_study"), Metric::fubini_study);
  EXPECT_EQ(error_of([] { metric_from_name("cosine"); }),
            "unknown metric 'cosine'; known are geodesic, chordal_2, chordal_frobenius, projection_2, "
            "projection_frobenius, fubini_study, overlap");
}

TEST(Metrics, RejectBadInput) {
  const at::Tensor a = haar_basis(11, 6, 2);
  EXPECT_EQ(error_of([&] { overlap(a, haar_basis(12, 7, 2)); }),
            "two bases [D, k], 1 <= k <= D, of one D are needed, got [6, 2] and [7, 2]");
  EXPECT_NE(error_of([&] { overlap(a.t(), a.t()); }).find("1 <= k <= D"), std::string::npos);
  EXPECT_NE(error_of([&] { overlap(a.to(at::kLong), a); }).find("float32 or float64"), std::string::npos);
  EXPECT_EQ(error_of([&] { principal_angles(a, a * 2.0); }),
            "second basis is not orthonormal: max |O^T O - I| = 3; orthonormalise it first");
  at::Tensor nan = a.clone();
  nan[4][1] = std::nan("");
  EXPECT_NE(error_of([&] { overlap(nan, a); }).find("first basis is not orthonormal"), std::string::npos);
  EXPECT_NE(error_of([&] { mask_principal_angles(nan.narrow(0, 3, 2)); }).find("NaN"), std::string::npos);
  EXPECT_NE(error_of([&] { mask_principal_angles(a.select(1, 0)); }).find("[m, k]"), std::string::npos);
  EXPECT_NE(
      error_of([&] { mask_principal_angles(at::eye(2, at::kDouble) * 1.1); }).find("singular value is 1.1"),
      std::string::npos);
  EXPECT_EQ(error_of([] {
              metric(Metric::overlap, vector_of({0.1, -0.2}));
            }),
            "principal angle 1 is -0.2, outside [0, pi/2]");
  EXPECT_NE(error_of([] { metric(Metric::overlap, vector_of({std::nan("")})); }).find("nan"),
            std::string::npos);
  EXPECT_NE(error_of([] { metric(Metric::overlap, vector_of({1.6})); }).find("outside"), std::string::npos);
  EXPECT_NE(error_of([] { metric(Metric::overlap, vector_of({})); }).find("k >= 1"), std::string::npos);
  EXPECT_EQ(error_of([] { intersection_over_union(1.5); }), "the overlap of two masks is in [0, 1], not 1.5");
}

}  // namespace
}  // namespace seigh
