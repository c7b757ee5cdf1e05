#include "seigh/report/headline.h"

#include <algorithm>
#include <cmath>
#include <system_error>

#include "seigh/recipe/options.h"
#include "seigh/report/format.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/finished.h"

namespace seigh {

namespace {

// "0.0931 = chance x layer 1.68 x units 1.13 x parameter 0.98 (z -0.4)"; over chance alone, where an earlier
// version wrote the curves.
std::string product(const OverlapFactors& f) {
  const std::string text = format("%.4f = chance x layer %.2f x units %.2f x parameter %.2f", f.overlap,
                                  f.layer, f.units, f.parameter);
  // Of few entries' overlap z says little: leverages are heavy-tailed.
  return text + (f.few() || std::isnan(f.z) ? format(" (p %.2g)", f.p) : format(" (z %.1f)", f.z));
}

std::string in_words(const OverlapCurves& curves) {
  const int64_t last = curves.magnitude.numel() - 1;
  const double overlap = curves.magnitude[last].item<double>();
  if (!curves.nulls.defined())
    return format("%.4f, %.2f x", overlap, overlap / curves.chance[last].item<double>());
  return product(overlap_factors(curves.nulls, curves.nulls.two_way.sizes.numel() - 1));
}

}  // namespace

std::vector<std::string> headline(const RunFolder& folder, Method solver) {
  const Recipe& r = folder.recipe();
  std::error_code none;
  std::vector<std::string> lines;
  for (const int64_t step : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      std::string line;
      std::vector<std::string> more;
      for (const std::string& method : result_methods(solver)) {
        const auto path = folder.overlap(step, split, method);
        if (!fs::exists(path, none)) continue;
        const OverlapStudy study = finished_study(path);
        const OverlapCurves& curves = study.masks.front().curves;
        const int64_t k = curves.magnitude.numel();
        if (lines.empty()) {
          const double chance = curves.chance[k - 1].item<double>();
          const auto largest = static_cast<long long>(k);
          const std::string score = study.masks.front().score;
          const long long of =
              curves.eligible > 0 ? curves.eligible : std::llround(static_cast<double>(k) / chance);
          lines.push_back(
              format("Overlap of the %lld largest of %lld parameters%s with the top-%lld eigenspace, "
                     "over chance (%.4g):",
                     largest, of, score == "magnitude" ? "" : (" by " + score).c_str(), largest, chance));
        }
        if (method == "dense" && solver != Method::dense) {
          line += format(" (exact %.4f)", curves.magnitude[k - 1].item<double>());
          continue;
        }
        line += in_words(curves);
        for (size_t i = 1; i < study.masks.size(); ++i) {
          const OverlapStudy::Mask& mask = study.masks[i];
          // Further scores are on the page; what the headline's own would mislead without is said here.
          if (mask.fixed.defined())
            more.push_back(
                "    " + mask.score + format(", a mask of %lld: ", static_cast<long long>(mask.ones)) +
                product(overlap_factors(mask.fixed, mask.fixed.two_way.sizes.numel() - 1, mask.ones)));
          else if (mask.population == "weights")
            more.push_back("    masks of weights alone: " + in_words(mask.curves));
        }
        const fs::path eigen = folder.eigen(step, split, method);
        if (fs::exists(eigen, none)) {
          const int64_t certified = finished_eigen(eigen).result.certificates.certified();
          line += format(" (%lld certified)", static_cast<long long>(certified));
        }
      }
      if (!line.empty())
        lines.push_back(format("step %6lld %-5s  ", static_cast<long long>(step), split.c_str()) + line);
      lines.insert(lines.end(), more.begin(), more.end());
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
