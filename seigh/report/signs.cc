#include "seigh/report/signs.h"

#include <ATen/TensorOperators.h>

#include <cmath>

#include "seigh/report/format.h"

namespace seigh {
namespace {

double at(const at::Tensor& values, int64_t i) {
  return values[i].item<double>();
}

}  // namespace

std::vector<std::string> failure_signs(const EigenFile& eigen, const OverlapStudy& study) {
  std::vector<std::string> signs;
  const EigenResult& result = eigen.result;
  const auto rank = static_cast<long long>(result.rank);
  const long long certified = result.residuals.defined() ? result.certificates.certified() : -1;
  if (certified < 0)
    signs.emplace_back("no pair is certified: this solver, without probes, bounds no residuals");
  else if (certified < rank)
    signs.push_back(format("%lld of %lld pairs are not certified", rank - certified, rank));

  const double first = std::abs(at(result.eigenvalues, 0)), last = std::abs(at(result.eigenvalues, rank - 1));
  // What comes next is known by krylov, hmt and dense.
  if (result.selection == Selection::magnitude && result.spectrum.defined() &&
      result.spectrum.numel() > rank) {
    const double next = std::abs(at(result.spectrum, rank)), gap = (last - next) / last;
    if (last > 0 && gap < 1e-3)
      signs.push_back(
          format("small gap at k = %lld: |lambda_%lld| = %.4g and the next, %.4g, differ by %.2g %%, so "
                 "which vectors make the space is decided by little",
                 rank, rank, last, next, 100 * std::max(gap, 0.0)));
  }
  if (rank >= 10 && first < 2 * last)
    signs.push_back(
        format("flat spectrum: |lambda_1| = %.4g is %.2f times |lambda_%lld|, as where training has "
               "stalled",
               first, first / last, rank));

  const OverlapStudy::Mask& mask = study.masks.front();
  const OverlapCurves& curves = mask.curves;
  const auto k = static_cast<long long>(curves.magnitude.numel());
  if (curves.tied > 1)
    signs.push_back(
        format("ambiguous mask: %lld parameters have the %s of the %lld-th, index decided between them",
               static_cast<long long>(curves.tied), mask.score.substr(0, 60).c_str(), k));
  else if (curves.contrast < 1.1)
    signs.push_back(format("ambiguous mask: the %lld-th largest %s is %.3f times the median", k,
                           mask.score.substr(0, 60).c_str(), curves.contrast));
  if (!curves.nulls.defined()) return signs;
  if (curves.bands.layer.low.defined() && curves.bands.layer.p >= 0.05)
    signs.push_back(
        format("overlap within its layer null: random masks with the same counts by layer deviate as "
               "much at some k with p = %.2g",
               curves.bands.layer.p));
  const OverlapFactors f = overlap_factors(curves.nulls, curves.nulls.two_way.sizes.numel() - 1);
  if (f.p >= 0.05)
    signs.push_back(
        format("overlap within its two-way null: factor of the parameters %.3f, p = %.2g", f.parameter, f.p));
  return signs;
}

}  // namespace seigh
