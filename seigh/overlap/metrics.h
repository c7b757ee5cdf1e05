// Principal angles between two subspaces of R^D, and the Grassmannian metrics made of them.
//
// Of subspaces of different dimensions k1 and k2 there are min(k1, k2) angles, and k stands for that below: 0
// is then said of a subspace within the other (Ye and Lim, "Schubert varieties and distances between
// subspaces of different dimensions", SIAM J. Matrix Anal. Appl. 37, 2016).
//
// Angles: Bjorck and Golub, "Numerical methods for computing angles between linear subspaces", Math. Comp. 27
// (1973). With O1, O2 orthonormal bases, cos(theta) are the singular values of O1^T O2 and sin(theta) those
// of O2 - O1 O1^T O2. Metrics and their normalisation: Fernandez, Schneider, Mahsereci, Hennig, TMLR 2025,
// Sec. 4.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace seigh {

/// Distances normalised to [0, 1] (0: equal subspaces, 1: orthogonal ones), and overlap, a similarity (1:
/// equal).
enum class Metric {
  geodesic,              ///< ||theta||_2 / (sqrt(k) pi / 2)
  chordal_2,             ///< max 2 sin(theta / 2) / sqrt(2)
  chordal_frobenius,     ///< ||2 sin(theta / 2)||_2 / sqrt(2 k)
  projection_2,          ///< max sin(theta)
  projection_frobenius,  ///< ||sin(theta)||_2 / sqrt(k)
  fubini_study,          ///< arccos(prod cos(theta)) / (pi / 2)
  overlap,               ///< sum cos^2(theta) / k = ||O1^T O2||_F^2 / k = 1 - projection_frobenius^2
};

inline constexpr std::array<Metric, 7> all_metrics{Metric::geodesic,
                                                   Metric::chordal_2,
                                                   Metric::chordal_frobenius,
                                                   Metric::projection_2,
                                                   Metric::projection_frobenius,
                                                   Metric::fubini_study,
                                                   Metric::overlap};

/// The enumerator's own name, "projection_2" say.
std::string_view metric_name(Metric metric);
/// The metric of that name; Error naming all of them if there is none.
Metric metric_from_name(std::string_view name);

/// Cosines of the principal angles: float64 [k], falling, clamped to [0, 1].
///
/// o1, o2: orthonormal bases [D, k1] and [D, k2], float32 or float64, on one device; products are accumulated
/// in float64. Error on other shapes, or if max |O^T O - I| > 1e-3, which NaN is too. Cost some 2 D (k1^2 +
/// k1 k2 + k2^2) flops, no copy of a basis. The error of a cosine is about eps of the bases' dtype, so an
/// angle below sqrt(eps) cannot be read off it: see principal_angles().
at::Tensor principal_angle_cosines(const at::Tensor& o1, const at::Tensor& o2);

/// Principal angles in radians: float64 [k], rising, in [0, pi/2].
///
/// Arguments and errors as above. atan2 of sines and cosines: the absolute error is a modest multiple of the
/// bases' own defect (eps of their dtype, at best) for large and tiny angles alike. Holds three float64
/// matrices of the bases' sizes.
at::Tensor principal_angles(const at::Tensor& o1, const at::Tensor& o2);

/// Principal angles between a mask of m parameters and a k-dimensional subspace, from the subspace's basis at
/// those parameters alone: rows [m, k], float32 or float64, of an orthonormal basis [D, k]. float64 [min(m,
/// k)], rising, in [0, pi/2]. From cosines only: absolute error eps for large angles, sqrt(eps) near 0. Error
/// on another shape, NaN, or a singular value above 1 + 1e-3.
at::Tensor mask_principal_angles(const at::Tensor& rows);

/// A metric from principal angles in radians [k], k >= 1, any order. Error outside [0, pi/2].
double metric(Metric metric, const at::Tensor& angles);

/// ||O1^T O2||_F^2 / min(k1, k2), without any singular values. Arguments, errors and cost as
/// principal_angle_cosines().
double overlap(const at::Tensor& o1, const at::Tensor& o2);

/// |A and B| / |A or B| of two masks of equal size from their overlap |A and B| / k: ov / (2 - ov). Error
/// outside [0, 1].
double intersection_over_union(double mask_overlap);

}  // namespace seigh
