#include "seigh/results/spectrum_file.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "seigh/io/hdf5.h"
#include "seigh/io/npy.h"

namespace seigh {
namespace {

using nlohmann::json;

json number(double x) {
  return std::isfinite(x) ? json(x) : json();
}

json numbers(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous();
  return std::vector<double>(flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel());
}

// What all of them say of the matrix and the cost.
template <typename Result>
void describe(Hdf5Writer& file, const EigenFileInfo& info, const Result& result, uint64_t seed) {
  file.attribute("matrix", info.matrix);
  file.attribute("split", info.split);
  file.attribute("step", info.step);
  file.attribute("parameters", info.parameters);
  file.attribute("samples", info.samples);
  file.attribute("dtype", info.dtype);
  file.attribute("seed", static_cast<int64_t>(seed));
  file.attribute("products", result.products);
  file.attribute("seconds", result.seconds);
  file.attribute("exact", static_cast<int64_t>(result.exact));
  if (!info.fingerprint.empty()) file.attribute("fingerprint", info.fingerprint);
  if (info.sample_indices.defined()) file.write("sample_indices", info.sample_indices);
}

template <typename Result>
json described(const EigenFileInfo& info, const Result& result, uint64_t seed) {
  json data = {{"matrix", info.matrix}, {"parameters", info.parameters}, {"dtype", info.dtype},
               {"seed", seed},          {"products", result.products},   {"seconds", result.seconds},
               {"exact", result.exact}};
  if (!info.split.empty()) {
    data["split"] = info.split;
    data["step"] = info.step;
    data["samples"] = info.samples;
  }
  return data;
}

std::string text(const json& data) {
  return data.dump(1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

void write_diagonal_file(const fs::path& path, const EigenFileInfo& info, const DiagonalResult& result,
                         uint64_t seed, const Context& context) {
  if (!context.ranks().root()) return;
  if (path.extension() == ".npy") return write_npy(path, result.diagonal);
  Hdf5Writer file(path);
  file.write("diagonal", result.diagonal);
  file.write("error", result.error);
  file.attribute("relative_error", result.relative_error);
  describe(file, info, result, seed);
  file.commit();
}

void write_density_file(const fs::path& path, const EigenFileInfo& info, const Density& result,
                        const DensityCurves& curves, uint64_t seed, const Context& context) {
  if (!context.ranks().root()) return;
  Hdf5Writer file(path);
  file.write("nodes", result.nodes);
  file.write("weights", result.weights);
  file.write("grid", curves.grid);
  file.write("density", curves.density.value);
  file.write("density_error", curves.density.error);
  file.write("cumulative", curves.cumulative.value);
  file.write("cumulative_error", curves.cumulative.error);
  file.attribute("width", curves.width);
  file.attribute("rounding", result.rounding);
  describe(file, info, result, seed);
  file.commit();
}

std::string trace_json(const EigenFileInfo& info, const TraceResult& result, uint64_t seed) {
  json data = described(info, result, seed);
  data["trace"] = number(result.trace);
  data["error"] = number(result.error);
  return text(data);
}

std::string diagonal_json(const EigenFileInfo& info, const DiagonalResult& result, uint64_t seed) {
  json data = described(info, result, seed);
  data["relative_error"] = number(result.relative_error);
  return text(data);
}

std::string density_json(const EigenFileInfo& info, const Density& result, const DensityCurves& curves,
                         uint64_t seed) {
  json data = described(info, result, seed);
  data["lowest"] = number(result.lowest());
  data["highest"] = number(result.highest());
  data["width"] = number(curves.width);
  data["grid"] = numbers(curves.grid);
  data["density"] = numbers(curves.density.value);
  data["density_error"] = numbers(curves.density.error);
  data["cumulative"] = numbers(curves.cumulative.value);
  data["cumulative_error"] = numbers(curves.cumulative.error);
  return text(data);
}

}  // namespace seigh
