#include "seigh/report/headline.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <system_error>

#include "seigh/recipe/options.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/finished.h"

namespace seigh {

namespace {

template <typename... Values>
std::string format(const char* pattern, Values... values) {
  char text[300];
  std::snprintf(text, sizeof(text), pattern, values...);
  return text;
}

// "0.0931 = chance x layer 1.68 x units 1.13 x parameter 0.98 (z -0.4)"; over chance alone, where an earlier
// version wrote the curves.
std::string in_words(const OverlapCurves& curves) {
  const int64_t last = curves.magnitude.numel() - 1;
  const double overlap = curves.magnitude[last].item<double>();
  if (!curves.nulls.defined())
    return format("%.4f, %.2f x", overlap, overlap / curves.chance[last].item<double>());
  const OverlapFactors f = overlap_factors(curves.nulls, curves.nulls.two_way.sizes.numel() - 1);
  const std::string product = format("%.4f = chance x layer %.2f x units %.2f x parameter %.2f", overlap,
                                     f.layer, f.units, f.parameter);
  // Of few entries' overlap z says little: leverages are heavy-tailed.
  return product + (f.few() || std::isnan(f.z) ? format(" (p %.2g)", f.p) : format(" (z %.1f)", f.z));
}

}  // namespace

std::vector<std::string> headline(const RunFolder& folder, Method solver) {
  const Recipe& r = folder.recipe();
  std::error_code none;
  std::vector<std::string> lines;
  for (const int64_t step : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      std::string line;
      for (const std::string& method : result_methods(solver)) {
        const auto path = folder.overlap(step, split, method);
        if (!fs::exists(path, none)) continue;
        const OverlapCurves curves = finished_overlap(path);
        const int64_t k = curves.magnitude.numel();
        if (lines.empty()) {
          const double chance = curves.chance[k - 1].item<double>();
          const auto largest = static_cast<long long>(k);
          lines.push_back(
              format("Overlap of the %lld largest of %lld parameters with the top-%lld eigenspace, "
                     "over chance (%.4g):",
                     largest, std::llround(static_cast<double>(k) / chance), largest, chance));
        }
        if (method == "dense" && solver != Method::dense) {
          line += format(" (exact %.4f)", curves.magnitude[k - 1].item<double>());
          continue;
        }
        line += in_words(curves);
        const fs::path eigen = folder.eigen(step, split, method);
        if (fs::exists(eigen, none)) {
          const int64_t certified = finished_eigen(eigen).result.certificates.certified();
          line += format(" (%lld certified)", static_cast<long long>(certified));
        }
      }
      if (!line.empty())
        lines.push_back(format("step %6lld %-5s  ", static_cast<long long>(step), split.c_str()) + line);
    }
  }
  return lines;
}

CertifiedPairs certified_pairs(const RunFolder& folder, Method solver) {
  const Recipe& r = folder.recipe();
  std::error_code none;
  CertifiedPairs all;
  double least = 2;
  for (const int64_t step : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      for (const std::string& method : result_methods(solver)) {
        const fs::path path = folder.eigen(step, split, method);
        if (!fs::exists(path, none)) continue;
        const EigenFile file = finished_eigen(path);
        const int64_t certified = file.result.certificates.certified();
        const int64_t wanted = file.result.wanted(file.info.k);
        ++all.decompositions;
        all.certified += certified;
        all.wanted += wanted;
        const double share =
            static_cast<double>(certified) / static_cast<double>(std::max<int64_t>(wanted, 1));
        if (share >= least) continue;
        least = share;
        all.least = std::to_string(certified) + " of " + std::to_string(wanted) + " at step " +
                    std::to_string(step) + ", " + split + ", " + method;
      }
    }
  }
  return all;
}

}  // namespace seigh
