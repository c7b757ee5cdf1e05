#include "seigh/results/overlap_file.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/io/hdf5.h"
#include "seigh/io/limits.h"
#include "seigh/results/tensor_list.h"

namespace seigh {
namespace {

const std::vector<std::pair<std::string, at::Tensor OverlapCurves::*>> kCurves = {
    {"magnitude", &OverlapCurves::magnitude},
    {"best", &OverlapCurves::best},
    {"chance", &OverlapCurves::chance},
    {"mask", &OverlapCurves::mask},
};
// Not of every decomposition.
const std::vector<std::pair<std::string, at::Tensor OverlapCurves::*>> kSometimes = {
    {"magnitude_low", &OverlapCurves::magnitude_low},
    {"magnitude_high", &OverlapCurves::magnitude_high},
    {"magnitude_deviation", &OverlapCurves::magnitude_deviation},
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
const std::vector<std::pair<std::string, at::Tensor TwoWayNull::*>> kTwoWay = {
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

const std::vector<std::pair<std::string, at::Tensor JointNull::*>> kJoint = {
    {"joint_mean", &JointNull::mean},
    {"joint_std", &JointNull::deviation},
    {"joint_p", &JointNull::p},
    {"joint_free", &JointNull::free},
};

const std::vector<std::pair<std::string, SimultaneousBand OverlapBands::*>> kBands = {
    {"band_layer", &OverlapBands::layer},
    {"band_output_unit", &OverlapBands::output_unit},
    {"band_input_unit", &OverlapBands::input_unit},
};
const std::vector<std::pair<std::string, at::Tensor MaskAnatomy::*>> kAnatomy = {
    {"tensor_sizes", &MaskAnatomy::sizes},
    {"tensor_counts", &MaskAnatomy::counts},
    {"tensor_within", &MaskAnatomy::within},
    {"ceiling_layer", &MaskAnatomy::ceiling_layer},
    {"ceiling_output_unit", &MaskAnatomy::ceiling_output_unit},
    {"ceiling_input_unit", &MaskAnatomy::ceiling_input_unit},
    {"mask_sizes", &MaskAnatomy::mask_sizes},
    {"by_size", &MaskAnatomy::by_size},
    {"by_size_layer", &MaskAnatomy::by_size_layer},
};
const std::vector<RankCorrelation MaskAnatomy::*> kCorrelations = {
    &MaskAnatomy::layer, &MaskAnatomy::output_unit, &MaskAnatomy::input_unit, &MaskAnatomy::two_way};

at::Tensor numbers(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

void write_nulls(Hdf5Writer& file, const std::string& prefix, const OverlapNulls& nulls) {
  for (const auto& [null, curve] : kNulls) {
    for (const auto& [name, member] : kNullCurves) file.write(prefix + null + name, nulls.*curve.*member);
  }
  for (const auto& [name, member] : kTwoWay) file.write(prefix + name, nulls.two_way.*member);
  if (!nulls.joint.defined()) return;
  for (const auto& [name, member] : kJoint) file.write(prefix + name, nulls.joint.*member);
}

void read_nulls(const Hdf5Reader& file, const std::string& prefix, OverlapNulls& nulls) {
  for (const auto& [null, curve] : kNulls) {
    for (const auto& [name, member] : kNullCurves) nulls.*curve.*member = file.read(prefix + null + name);
  }
  for (const auto& [name, member] : kTwoWay) nulls.two_way.*member = file.read(prefix + name);
  if (!file.has(prefix + kJoint.front().first)) return;
  for (const auto& [name, member] : kJoint) nulls.joint.*member = file.read(prefix + name);
}

// Before the names of the nulls of a mask that has a size of its own.
const std::string kFixed = "fixed_";

void write_mask(Hdf5Writer& file, const std::string& prefix, const OverlapStudy::Mask& mask) {
  const OverlapCurves& curves = mask.curves;
  for (const auto& [name, member] : kCurves) file.write(prefix + name, curves.*member);
  for (const auto& [name, member] : kSometimes)
    if ((curves.*member).defined()) file.write(prefix + name, curves.*member);
  file.write(prefix + "population", numbers({static_cast<double>(curves.eligible),
                                             static_cast<double>(curves.tied), curves.contrast}));
  if (curves.nulls.defined()) write_nulls(file, prefix, curves.nulls);
  if (mask.fixed.defined()) {
    write_nulls(file, prefix + kFixed, mask.fixed);
    file.write(prefix + kFixed + "size", at::tensor(std::vector<int64_t>{mask.ones}, at::kLong));
  }
  if (curves.bands.layer.low.defined()) {
    std::vector<double> p;
    for (const auto& [name, member] : kBands) {
      const SimultaneousBand& band = curves.bands.*member;
      file.write(prefix + name, at::stack({band.low, band.high}));
      p.push_back(band.p);
    }
    file.write(prefix + "band_p", numbers(p));
  }
  if (!mask.anatomy.defined()) return;
  for (const auto& [name, member] : kAnatomy) file.write(prefix + name, mask.anatomy.*member);
  std::vector<double> correlations;
  for (const auto member : kCorrelations) {
    correlations.push_back((mask.anatomy.*member).value);
    correlations.push_back((mask.anatomy.*member).deviation);
  }
  file.write(prefix + "rank_correlation", numbers(correlations).reshape({-1, 2}));
}

void read_mask(const Hdf5Reader& file, const std::string& prefix, OverlapStudy::Mask& mask) {
  OverlapCurves& curves = mask.curves;
  for (const auto& [name, member] : kCurves) curves.*member = file.read(prefix + name);
  for (const auto& [name, member] : kSometimes)
    if (file.has(prefix + name)) curves.*member = file.read(prefix + name);
  if (file.has(prefix + "population")) {
    const at::Tensor population = file.read(prefix + "population");
    require(population.numel() == 3, "data set ", prefix, "population has ", population.numel(),
            " numbers, not 3");
    curves.eligible = std::llround(population[0].item<double>());
    curves.tied = std::llround(population[1].item<double>());
    curves.contrast = population[2].item<double>();
  }
  if (file.has(prefix + "two_way_sizes")) read_nulls(file, prefix, curves.nulls);
  if (file.has(prefix + kFixed + "size")) {
    read_nulls(file, prefix + kFixed, mask.fixed);
    mask.ones = file.read(prefix + kFixed + "size").sum().item<int64_t>();
  }
  if (file.has(prefix + "band_p")) {
    const at::Tensor p = file.read(prefix + "band_p");
    require(p.numel() == static_cast<int64_t>(kBands.size()), "data set ", prefix, "band_p has ", p.numel(),
            " numbers");
    for (size_t i = 0; i < kBands.size(); ++i) {
      const at::Tensor both = file.read(prefix + kBands[i].first);
      require(both.dim() == 2 && both.size(0) == 2 && both.size(1) == curves.magnitude.numel(), "data set ",
              prefix, kBands[i].first, " has shape ", both.sizes());
      curves.bands.*
          (kBands[i].second) = {both[0].clone(), both[1].clone(), p[static_cast<int64_t>(i)].item<double>()};
    }
  }
  if (!file.has(prefix + "rank_correlation")) return;
  MaskAnatomy& anatomy = mask.anatomy;
  for (const auto& [name, member] : kAnatomy) anatomy.*member = file.read(prefix + name);
  const at::Tensor correlations = file.read(prefix + "rank_correlation");
  require(correlations.sizes() == at::IntArrayRef({static_cast<int64_t>(kCorrelations.size()), 2}),
          "data set ", prefix, "rank_correlation has shape ", correlations.sizes());
  for (size_t i = 0; i < kCorrelations.size(); ++i) {
    const at::Tensor pair = correlations[static_cast<int64_t>(i)];
    anatomy.*kCorrelations[i] = {pair[0].item<double>(), pair[1].item<double>()};
  }
}

// The first mask's data sets have no prefix, the second's "mask_2.".
std::string prefix_of(size_t i) {
  return i == 0 ? "" : "mask_" + std::to_string(i + 1) + ".";
}

}  // namespace

void write_overlap_file(const fs::path& path, const OverlapStudy& study, const OverlapOptions& options,
                        const std::string& recipe) {
  Hdf5Writer file(path);
  auto masks = nlohmann::json::array();
  for (size_t i = 0; i < study.masks.size(); ++i) {
    write_mask(file, prefix_of(i), study.masks[i]);
    masks.push_back({study.masks[i].score, study.masks[i].population});
  }
  if (study.space.defined()) {
    file.write("tensor_energy", study.space.energy);
    file.write("participation", study.space.participation);
  }
  file.attribute("masks", masks.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  if (const std::string tensors = text_of_tensors(study.tensors);
      !study.tensors.empty() && tensors.size() <= kMostTensorText)
    file.attribute("tensors", tensors);
  file.attribute("random_masks", options.random_masks);
  file.attribute("seed", static_cast<int64_t>(options.seed));
  if (!recipe.empty()) file.attribute("recipe", recipe);
  file.commit();
}

OverlapStudy read_overlap_file(const fs::path& path) {
  const Hdf5Reader file(path, Maker::seigh);
  const auto attributes = file.attributes();
  OverlapStudy study;
  const auto text = [&](const char* name) {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return std::string();
    const auto* value = std::get_if<std::string>(&found->second);
    require(value != nullptr, path.string(), ": attribute \"", name, "\" is no text");
    require_plain_json(*value, path.string());
    return *value;
  };
  if (const std::string masks = text("masks"); !masks.empty()) {
    try {
      for (const auto& pair : nlohmann::json::parse(masks)) {
        OverlapStudy::Mask mask;
        mask.score = pair.at(0).get<std::string>();
        mask.population = pair.at(1).get<std::string>();
        study.masks.push_back(std::move(mask));
      }
    } catch (const nlohmann::json::exception&) {
      fail(path.string(), ": attribute \"masks\" is damaged");
    }
  }
  if (study.masks.empty()) study.masks.emplace_back();
  for (size_t i = 0; i < study.masks.size(); ++i) read_mask(file, prefix_of(i), study.masks[i]);
  if (file.has("tensor_energy")) {
    study.space = {file.read("tensor_energy"), file.read("participation")};
  }
  if (const std::string tensors = text("tensors"); !tensors.empty())
    study.tensors = tensors_of_text(path, tensors);
  return study;
}

}  // namespace seigh
