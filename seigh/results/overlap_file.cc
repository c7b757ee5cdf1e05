#include "seigh/results/overlap_file.h"

#include <string>
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

const std::vector<std::pair<std::string, NullCurve OverlapNulls::*>> kNulls = {
    {"null_uniform", &OverlapNulls::uniform},
    {"null_layer", &OverlapNulls::layer},
    {"null_output_unit", &OverlapNulls::output_unit},
    {"null_input_unit", &OverlapNulls::input_unit},
};
const std::vector<std::pair<std::string, at::Tensor NullCurve::*>> kNullCurves = {
    {"_mean", &NullCurve::mean},
    {"_std", &NullCurve::deviation},
    {"_free", &NullCurve::free},
};
const std::vector<std::pair<const char*, at::Tensor TwoWayNull::*>> kTwoWay = {
    {"two_way_sizes", &TwoWayNull::sizes},
    {"two_way_overlap", &TwoWayNull::overlap},
    {"two_way_mean", &TwoWayNull::mean},
    {"two_way_std", &TwoWayNull::deviation},
    {"two_way_free", &TwoWayNull::free},
    {"two_way_samples", &TwoWayNull::samples},
    {"two_way_acceptance", &TwoWayNull::acceptance},
    {"two_way_autocorrelation", &TwoWayNull::autocorrelation},
    {"two_way_effective", &TwoWayNull::effective},
    {"two_way_p", &TwoWayNull::p},
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
  if (curves.nulls.defined()) {
    for (const auto& [null, curve] : kNulls) {
      for (const auto& [name, member] : kNullCurves) file.write(null + name, curves.nulls.*curve.*member);
    }
    for (const auto& [name, member] : kTwoWay) file.write(name, curves.nulls.two_way.*member);
  }
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
  if (file.has("two_way_sizes")) {
    for (const auto& [null, curve] : kNulls) {
      for (const auto& [name, member] : kNullCurves) curves.nulls.*curve.*member = file.read(null + name);
    }
    for (const auto& [name, member] : kTwoWay) curves.nulls.two_way.*member = file.read(name);
  }
  return curves;
}

}  // namespace seigh
