#include "seigh/results/overlap_file.h"

#include <utility>
#include <vector>

#include "seigh/io/hdf5.h"

namespace seigh {
namespace {

const std::vector<std::pair<const char*, at::Tensor OverlapCurves::*>> kDataSets = {
    {"magnitude", &OverlapCurves::magnitude},
    {"best", &OverlapCurves::best},
    {"random_mean", &OverlapCurves::random_mean},
    {"random_std", &OverlapCurves::random_std},
    {"random_by_layer_mean", &OverlapCurves::random_by_layer_mean},
    {"random_by_layer_std", &OverlapCurves::random_by_layer_std},
    {"chance", &OverlapCurves::chance},
    {"mask", &OverlapCurves::mask},
};

}  // namespace

void write_overlap_file(const fs::path& path, const OverlapCurves& curves, const OverlapOptions& options,
                        const std::string& recipe) {
  Hdf5Writer file(path);
  for (const auto& [name, member] : kDataSets) file.write(name, curves.*member);
  if (curves.magnitude_low.defined()) {
    file.write("magnitude_low", curves.magnitude_low);
    file.write("magnitude_high", curves.magnitude_high);
  }
  if (curves.magnitude_deviation.defined()) file.write("magnitude_deviation", curves.magnitude_deviation);
  file.attribute("random_masks", options.random_masks);
  file.attribute("seed", static_cast<int64_t>(options.seed));
  if (!recipe.empty()) file.attribute("recipe", recipe);
  file.commit();
}

OverlapCurves read_overlap_file(const fs::path& path) {
  const Hdf5Reader file(path, Maker::seigh);
  OverlapCurves curves;
  for (const auto& [name, member] : kDataSets) curves.*member = file.read(name);
  if (file.has("magnitude_low")) {
    curves.magnitude_low = file.read("magnitude_low");
    curves.magnitude_high = file.read("magnitude_high");
  }
  if (file.has("magnitude_deviation")) curves.magnitude_deviation = file.read("magnitude_deviation");
  return curves;
}

}  // namespace seigh
