#include "seigh/results/dynamics_file.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "seigh/core/error.h"
#include "seigh/io/crc64.h"
#include "seigh/io/hdf5.h"
#include "seigh/results/model_file.h"

namespace seigh {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kNone = -1;
const std::string kMaps = "_similarity", kGradient = "_gradient_share";

at::Tensor integers(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong);
}

at::Tensor numbers(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

template <typename T>
std::vector<T> list(const at::Tensor& values) {
  const at::Tensor flat = values.contiguous();
  return {flat.data_ptr<T>(), flat.data_ptr<T>() + flat.numel()};
}

// The checksum of what a file begins with, which holds its seal: so it is that of the whole file.
std::string beginning(const fs::path& path) {
  std::ifstream file(path.c_str(), std::ios::binary);
  std::string text(kSealBytes, '\0');
  file.read(text.data(), kSealBytes);
  return path.filename().string() + " " + hexadecimal(crc64(text)) + "\n";
}

// Reads the data sets of one file, whose shapes must be as they are said to be.
class Reader {
 public:
  explicit Reader(const fs::path& path)
      : path_(path), file_(path, Maker::seigh), attributes_(file_.attributes()) {}
  std::vector<std::string> names() const { return file_.names(); }
  bool has(const std::string& name) const { return file_.has(name); }
  at::Tensor read(const std::string& name, at::ScalarType dtype, at::IntArrayRef shape) const {
    const at::Tensor values = file_.read(name);
    require(values.scalar_type() == dtype && values.sizes() == shape, path_.string(), ": ", name,
            " has shape ", values.sizes(), ", not ", shape, "; the file is damaged");
    return values;
  }
  // A vector of any length from 1 on.
  template <typename T>
  std::vector<T> vector(const std::string& name) const {
    const at::Tensor values = file_.read(name);
    require(values.dim() == 1 && values.numel() >= 1 &&
                values.scalar_type() == c10::CppTypeToScalarType<T>::value,
            path_.string(), ": ", name, " has shape ", values.sizes(), "; the file is damaged");
    return list<T>(values);
  }
  template <typename T>
  T attribute(const std::string& name) const {
    const auto found = attributes_.find(name);
    require(found != attributes_.end() && std::holds_alternative<T>(found->second), path_.string(),
            ": attribute \"", name, "\" is missing or of another type; these are no dynamics of a run");
    return std::get<T>(found->second);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  Hdf5Reader file_;
  std::map<std::string, Hdf5Attribute> attributes_;
};

int64_t length(const auto& values) {
  return static_cast<int64_t>(values.size());
}

void write_crystallisation(Hdf5Writer& file, const DynamicsMaps& maps) {
  const int64_t references = length(maps.crystallisation), sizes = length(maps.k);
  if (references == 0) return;
  const int64_t passages = length(maps.crystallisation[0][0].passages);
  at::Tensor steps = at::full({references, sizes, passages, 2}, kNone, at::kLong),
             at_start = at::zeros({references, sizes}, at::kDouble), ceiling = at::zeros_like(at_start),
             of = at::zeros({references}, at::kLong);
  for (int64_t r = 0; r < references; ++r) {
    for (int64_t i = 0; i < sizes; ++i) {
      const Crystallisation& c = maps.crystallisation[r][i];
      of[r] = c.reference;
      at_start[r][i] = c.similarity0;
      ceiling[r][i] = c.ceiling;
      for (int64_t p = 0; p < passages; ++p) {
        steps[r][i][p][0] = c.passages[p].step.value_or(kNone);
        steps[r][i][p][1] = c.passages[p].before.value_or(kNone);
      }
    }
  }
  file.write(maps.name + "_reference", of);
  file.write(maps.name + "_similarity0", at_start);
  file.write(maps.name + "_ceiling", ceiling);
  file.write(maps.name + "_crystallisation", steps);
}

void read_crystallisation(const Reader& file, const std::vector<double>& thresholds, DynamicsMaps& maps) {
  if (!file.has(maps.name + "_reference")) return;
  const auto references = file.vector<int64_t>(maps.name + "_reference");
  const int64_t n = length(references), sizes = length(maps.k), passages = length(thresholds);
  const at::Tensor at_start = file.read(maps.name + "_similarity0", at::kDouble, {n, sizes}),
                   // Of earlier versions, which knew of none.
      ceiling = file.has(maps.name + "_ceiling") ? file.read(maps.name + "_ceiling", at::kDouble, {n, sizes})
                                                 : at::ones({n, sizes}, at::kDouble),
                   steps = file.read(maps.name + "_crystallisation", at::kLong, {n, sizes, passages, 2});
  const auto value = steps.accessor<int64_t, 4>();
  const auto step = [](int64_t number) { return number == kNone ? std::nullopt : std::optional(number); };
  for (int64_t r = 0; r < n; ++r) {
    std::vector<Crystallisation>& of_reference = maps.crystallisation.emplace_back();
    for (int64_t i = 0; i < sizes; ++i) {
      Crystallisation& c = of_reference.emplace_back();
      c.reference = references[r];
      c.similarity0 = at_start[r][i].item<double>();
      c.ceiling = ceiling[r][i].item<double>();
      for (int64_t p = 0; p < passages; ++p)
        c.passages.push_back(
            {.threshold = thresholds[p], .step = step(value[r][i][p][0]), .before = step(value[r][i][p][1])});
    }
  }
}

// Numbers for people and pages; what is not finite becomes null.
Json rounded(const at::Tensor& values) {
  if (values.dim() == 0) {
    const double value = values.item<double>();
    return std::round(value * 1e6) / 1e6;
  }
  auto all = Json::array();
  for (int64_t i = 0; i < values.size(0); ++i) all.push_back(rounded(values[i]));
  return all;
}

Json or_null(const std::optional<int64_t>& step) {
  return step ? Json(*step) : Json(nullptr);
}

Json crystallisation_json(const DynamicsMaps& maps, const Crystallisation& c, size_t size) {
  Json thresholds = Json::array(), steps = Json::array(), before = Json::array();
  for (const Crystallisation::Passage& p : c.passages) {
    thresholds.push_back(p.threshold);
    steps.push_back(or_null(p.step));
    before.push_back(or_null(p.before));
  }
  return {{"what", maps.name},        {"rho", maps.rho[size]},
          {"k", maps.k[size]},        {"reference", c.reference},
          {"ceiling", c.ceiling},     {"similarity0", std::round(c.similarity0 * 1e6) / 1e6},
          {"thresholds", thresholds}, {"steps", steps},
          {"before", before}};
}

}  // namespace

std::string DynamicsSources::digest() const {
  std::string text;
  for (const fs::path& path : checkpoint_files) text += beginning(path);
  for (const Space& space : spaces) text += beginning(space.file);
  for (const fs::path& path : gradient_files) text += beginning(path);
  return hexadecimal(crc64(text));
}

DynamicsSources dynamics_sources(const RunFolder& folder, Method method) {
  const Recipe& r = folder.recipe();
  std::error_code none;
  DynamicsSources sources;
  std::set<int64_t> steps(r.train.checkpoints.begin(), r.train.checkpoints.end());
  steps.insert(r.curvature.steps.begin(), r.curvature.steps.end());
  for (const int64_t step : steps) {
    if (!fs::exists(folder.checkpoint(step), none)) continue;
    sources.checkpoints.push_back(step);
    sources.checkpoint_files.push_back(folder.checkpoint(step));
  }
  for (const std::string& split : r.curvature.splits) {
    for (const int64_t step : r.curvature.steps) {
      const fs::path file = folder.eigen(step, split, to_string(method)),
                     gradient = folder.model(step, split);
      if (!fs::exists(file, none)) continue;
      sources.spaces.push_back({split, step, file});
      if (fs::exists(gradient, none)) sources.gradient_files.push_back(gradient);
    }
  }
  return sources;
}

std::optional<at::Tensor> stored_gradient(const RunFolder& folder, int64_t step, const std::string& split,
                                          int64_t parameters) {
  const fs::path path = folder.model(step, split);
  std::error_code none;
  if (!fs::exists(path, none)) return std::nullopt;
  return read_model_file(path, parameters).gradient;
}

void write_dynamics_file(const fs::path& path, const Dynamics& dynamics) {
  Hdf5Writer file(path);
  std::vector<double> thresholds;
  for (const DynamicsMaps& maps : dynamics.maps) {
    file.write(maps.name + "_steps", integers(maps.steps));
    if (!maps.symmetric()) file.write(maps.name + "_other_steps", integers(maps.other_steps));
    file.write(maps.name + "_k", integers(maps.k));
    file.write(maps.name + "_rho", numbers(maps.rho));
    file.write(maps.name + "_chance", numbers(maps.chance));
    file.write(maps.name + kMaps, maps.values);
    write_crystallisation(file, maps);
    if (maps.crystallisation.empty()) continue;
    const Crystallisation& any = maps.crystallisation[0][0];
    thresholds.clear();
    for (const Crystallisation::Passage& p : any.passages) thresholds.push_back(p.threshold);
  }
  if (!thresholds.empty()) file.write("thresholds", numbers(thresholds));
  for (const DynamicsGradient& gradient : dynamics.gradients) {
    file.write(gradient.split + "_gradient_steps", integers(gradient.steps));
    file.write(gradient.split + kGradient, gradient.share);
  }
  file.attribute("parameters", dynamics.parameters);
  file.attribute("matrix", dynamics.matrix);
  file.attribute("method", dynamics.method);
  file.attribute("other", dynamics.other);
  file.attribute("other_matrix", dynamics.other_matrix);
  file.attribute("notes", dynamics.notes);
  file.attribute("made_from", dynamics.made_from);
  file.commit();
}

Dynamics read_dynamics_file(const fs::path& path) {
  const Reader file(path);
  Dynamics dynamics;
  dynamics.parameters = file.attribute<int64_t>("parameters");
  dynamics.matrix = file.attribute<std::string>("matrix");
  dynamics.method = file.attribute<std::string>("method");
  dynamics.other = file.attribute<std::string>("other");
  dynamics.other_matrix = file.attribute<std::string>("other_matrix");
  dynamics.notes = file.attribute<std::string>("notes");
  dynamics.made_from = file.attribute<std::string>("made_from");
  const std::vector<double> thresholds =
      file.has("thresholds") ? file.vector<double>("thresholds") : std::vector<double>();
  for (const std::string& name : file.names()) {
    if (name.ends_with(kMaps)) {
      DynamicsMaps maps;
      maps.name = name.substr(0, name.size() - kMaps.size());
      maps.steps = file.vector<int64_t>(maps.name + "_steps");
      if (file.has(maps.name + "_other_steps"))
        maps.other_steps = file.vector<int64_t>(maps.name + "_other_steps");
      maps.k = file.vector<int64_t>(maps.name + "_k");
      maps.rho = file.vector<double>(maps.name + "_rho");
      maps.chance = file.vector<double>(maps.name + "_chance");
      require(maps.rho.size() == maps.k.size() && maps.chance.size() == maps.k.size(), path.string(), ": ",
              maps.name, " has maps of different numbers of sizes; the file is damaged");
      maps.values =
          file.read(name, at::kDouble, {length(maps.k), length(maps.steps), length(maps.columns())});
      read_crystallisation(file, thresholds, maps);
      dynamics.maps.push_back(std::move(maps));
    } else if (name.ends_with(kGradient)) {
      DynamicsGradient gradient;
      gradient.split = name.substr(0, name.size() - kGradient.size());
      gradient.steps = file.vector<int64_t>(gradient.split + "_gradient_steps");
      gradient.share = Hdf5Reader(path, Maker::seigh).read(name);
      require(gradient.share.dim() == 2 && gradient.share.size(0) == length(gradient.steps) &&
                  gradient.share.size(1) >= 1 && gradient.share.scalar_type() == at::kDouble,
              path.string(), ": ", name, " has shape ", gradient.share.sizes(), "; the file is damaged");
      dynamics.gradients.push_back(std::move(gradient));
    }
  }
  return dynamics;
}

std::optional<Dynamics> current_dynamics(const RunFolder& folder, Method method) {
  std::error_code none;
  if (!fs::exists(folder.dynamics(), none)) return std::nullopt;
  try {
    Dynamics dynamics = read_dynamics_file(folder.dynamics());
    if (dynamics.made_from == dynamics_sources(folder, method).digest()) return dynamics;
  } catch (const Error&) {  // damaged: made anew
  }
  return std::nullopt;
}

std::string dynamics_json(const Dynamics& dynamics) {
  Json json;
  json["parameters"] = dynamics.parameters;
  json["matrix"] = dynamics.matrix;
  json["method"] = dynamics.method;
  if (!dynamics.other.empty()) {
    json["other"] = dynamics.other;
    json["other_matrix"] = dynamics.other_matrix;
  }
  Json all = Json::array(), passages = Json::array(), gradients = Json::array(), notes = Json::array();
  std::vector<int64_t> sizes;  // for the gradient
  for (const DynamicsMaps& maps : dynamics.maps) {
    for (size_t i = 0; i < maps.k.size(); ++i) {
      Json one = {{"name", maps.name},
                  {"kind", maps.name == "mask" ? "iou" : "overlap"},
                  {"rho", maps.rho[i]},
                  {"k", maps.k[i]},
                  {"steps", maps.steps}};
      if (!maps.symmetric()) one["other_steps"] = maps.other_steps;
      one["chance"] = maps.chance[i];
      one["values"] = rounded(maps.values[static_cast<int64_t>(i)]);
      all.push_back(std::move(one));
      for (const auto& of_reference : maps.crystallisation)
        passages.push_back(crystallisation_json(maps, of_reference[i], i));
    }
    if (maps.name != "mask") sizes = maps.k;
  }
  for (const DynamicsGradient& gradient : dynamics.gradients) {
    std::vector<int64_t> k = sizes;
    k.push_back(1);
    k.push_back(gradient.share.size(1));
    std::ranges::sort(k);
    k.erase(std::unique(k.begin(), k.end()), k.end());
    std::erase_if(k, [&](int64_t size) { return size > gradient.share.size(1); });
    std::vector<int64_t> index;
    for (const int64_t size : k) index.push_back(size - 1);
    gradients.push_back({{"split", gradient.split},
                         {"steps", gradient.steps},
                         {"k", k},
                         {"share", rounded(gradient.share.index_select(1, integers(index)))}});
  }
  for (size_t begin = 0; begin < dynamics.notes.size();) {
    const size_t end = std::min(dynamics.notes.find('\n', begin), dynamics.notes.size());
    notes.push_back(dynamics.notes.substr(begin, end - begin));
    begin = end + 1;
  }
  json["maps"] = std::move(all);
  json["crystallisation"] = std::move(passages);
  json["gradient"] = std::move(gradients);
  json["notes"] = std::move(notes);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace seigh
