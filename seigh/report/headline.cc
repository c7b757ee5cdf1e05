#include "seigh/report/headline.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "seigh/recipe/options.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/finished.h"

namespace seigh {

std::vector<std::string> headline(const RunFolder& folder, Method solver) {
  const Recipe& r = folder.recipe();
  std::error_code none;
  std::vector<std::string> lines;
  char text[200];
  int64_t k = 0;
  for (const int64_t step : r.curvature.steps) {
    std::string line;
    for (const std::string& split : r.curvature.splits) {
      for (const std::string& method : result_methods(solver)) {
        const auto path = folder.overlap(step, split, method);
        if (!fs::exists(path, none)) continue;
        const OverlapCurves curves = finished_overlap(path);
        const int64_t last = curves.magnitude.numel() - 1;
        const double overlap = curves.magnitude[last].item<double>(),
                     chance = curves.chance[last].item<double>();
        if (k == 0) {
          k = last + 1;
          std::snprintf(text, sizeof(text),
                        "Overlap of the %lld largest of %lld parameters with the top-%lld eigenspace, over "
                        "chance (%.4g):",
                        static_cast<long long>(k), std::llround(static_cast<double>(k) / chance),
                        static_cast<long long>(k), chance);
          lines.emplace_back(text);
        }
        if (method == "dense" && solver != Method::dense) {
          std::snprintf(text, sizeof(text), " (exact %.4f)", overlap);
        } else {
          std::snprintf(text, sizeof(text), "   %s %.4f, %.2f x", split.c_str(), overlap, overlap / chance);
          const fs::path eigen = folder.eigen(step, split, method);
          if (fs::exists(eigen, none)) {
            line += text;
            const int64_t certified = finished_eigen(eigen).result.certificates.certified();
            std::snprintf(text, sizeof(text), " (%lld certified)", static_cast<long long>(certified));
          }
        }
        line += text;
      }
    }
    if (line.empty()) continue;
    std::snprintf(text, sizeof(text), "step %6lld", static_cast<long long>(step));
    lines.push_back(text + line);
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
