#include "seigh/report/report_data.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "seigh/core/filesystem.h"
#include "seigh/core/version.h"
#include "seigh/eigen/certificates.h"
#include "seigh/recipe/options.h"
#include "seigh/recipe/own_network.h"
#include "seigh/results/finished.h"

namespace seigh {
namespace {

using nlohmann::json;

constexpr double kEpsilon = 0.5;  // of the probability statement in the report

json numbers(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  json list = json::array();
  for (int64_t i = 0; i < values.numel(); ++i) list.push_back(values.data_ptr<double>()[i]);
  return list;
}

json certificate(const ErrorEstimate& e) {
  return {{"frobenius_estimate", e.frobenius()},
          {"error_estimate", e.error()},
          {"relative_error", e.relative_error()},
          {"probes", e.probes},
          {"epsilon", kEpsilon},
          {"probability_underestimate", probability_underestimate(e.probes, kEpsilon, e.beta)},
          {"probability_overestimate", probability_overestimate(e.probes, kEpsilon, e.beta)}};
}

// A sketch beside the exact decomposition of the same matrix.
json comparison(const EigenFile& sketch, const EigenFile& dense,
                const std::optional<OverlapCurves>& sketch_overlap,
                const std::optional<OverlapCurves>& dense_overlap) {
  json out;
  if (dense.info.sketch_error)
    out["relative_frobenius_error"] = *dense.info.sketch_error / dense.result.frobenius;
  // Positive ones beside positive ones: two of nearly the same size may be in another order.
  const at::Tensor exact = dense.result.eigenvalues.slice(0, 0, 10), found = sketch.result.eigenvalues;
  double most = 0;
  bool all = exact.numel() > 0;
  for (const double sign : {1.0, -1.0}) {
    const at::Tensor truth = exact.masked_select(exact * sign > 0),
                     got = found.masked_select(found * sign > 0);
    all = all && got.numel() >= truth.numel();
    if (!all || truth.numel() == 0) continue;
    most = std::max(most, ((got.slice(0, 0, truth.numel()) - truth) / truth).abs().max().item<double>());
  }
  if (all) {
    out["leading"] = exact.numel();
    out["leading_eigenvalues_difference"] = most;
  }
  if (sketch_overlap && dense_overlap) {
    const int64_t k = std::min(sketch_overlap->magnitude.numel(), dense_overlap->magnitude.numel());
    const double truth = dense_overlap->magnitude[k - 1].item<double>();
    out["overlap_difference"] = (sketch_overlap->magnitude[k - 1].item<double>() - truth) / truth;
  }
  return out;
}

std::string training(const Recipe::Training& t) {
  std::string text = std::to_string(t.steps) + " steps of " + (t.optimizer == "sgd" ? "SGD" : "AdamW");
  if (t.momentum > 0) text += " with momentum " + json(t.momentum).dump();
  if (t.weight_decay > 0) text += ", weight decay " + json(t.weight_decay).dump();
  text += ", learning rate " + json(t.learning_rate).dump();
  if (t.schedule != "constant") text += " (" + t.schedule + ")";
  if (t.warmup > 0) text += " after " + std::to_string(t.warmup) + " steps of warm-up";
  return text + ", batch " + std::to_string(t.batch_size);
}

json settings(const Recipe& r, const Model& model, const std::string& solver) {
  const auto list = [](const std::vector<int64_t>& steps) {
    std::string text;
    for (const int64_t step : steps) text.append(text.empty() ? "" : ", ").append(std::to_string(step));
    return text;
  };
  const bool text = r.data.name == "text";
  const std::string size = std::to_string(r.data.name == "cifar-10" ? 32 : r.data.image_size);
  json rows = json::array();
  const auto add = [&](const char* name, const std::string& value) { rows.push_back({name, value}); };
  const bool own_data = !r.data.x.empty(), python = !r.data.python.empty();
  add("Data", python     ? r.data.python
              : own_data ? r.data.x + (r.data.test_x.empty() ? "" : ", test part " + r.data.test_x)
              : text     ? r.data.text + ", sequences of " + std::to_string(r.data.context) + " characters"
                         : r.data.name + ", " + size + " × " + size + " pixels" +
                           (r.data.normalise ? ", normalised" : ""));
  add("Network", model.description());
  add("Parameters", std::to_string(model.parameter_count()));
  if (brings_weights(r)) {
    add("Weights", r.model.weights.empty() ? "its own" : r.model.weights);
  } else {
    add("Training", training(r.train));
  }
  add("Loss",
      r.train.loss +
          (r.train.label_smoothing > 0 ? ", label smoothing " + json(r.train.label_smoothing).dump() : "") +
          (text ? ", mean over tokens" : ", mean over samples"));
  const std::string samples = std::to_string(r.curvature.samples);
  add("Matrix", r.curvature.matrix + " on " +
                    (python     ? "the first " + samples + " samples"
                     : own_data ? samples + " samples, as many of each class where there are enough"
                     : text     ? "the first " + samples + " sequences"
                                : samples + " class-balanced samples") +
                    ", evaluation mode");
  if (!r.curvature.parameters.empty()) {
    std::string patterns;
    for (const std::string& pattern : r.curvature.parameters)
      patterns += (patterns.empty() ? "" : ", ") + pattern;
    add("Over the parameters", patterns);
  }
  if (r.curvature.l2 > 0) add("L2 term", json(r.curvature.l2).dump());
  add("Steps", list(r.curvature.steps));
  std::string eigensolver = solver + ", k = " + std::to_string(r.eigh.k);
  if (r.eigh.selection != Selection::magnitude) eigensolver += " by " + to_string(r.eigh.selection);
  if (r.eigh.products > 0 && solver != "dense")
    eigensolver += ", " + std::to_string(r.eigh.products) + " products";
  if (r.eigh.tolerance > 0) eigensolver += ", tolerance " + json(r.eigh.tolerance).dump();
  if (r.eigh.error > 0) eigensolver += ", error " + json(r.eigh.error).dump();
  add("Eigensolver", eigensolver + ", " + r.eigh.dtype);
  add("Exact decompositions at steps", r.dense.steps.empty() ? "none" : list(r.dense.steps));
  add("Random masks", std::to_string(r.overlap.random_masks));
  add("Seed", std::to_string(r.seed));
  return rows;
}

}  // namespace

std::string report_data(const RunFolder& folder, const Model& model, int64_t parameters, Method solver,
                        const std::vector<std::string>& headline) {
  const Recipe& r = folder.recipe();
  std::error_code none;
  json data = {{"title", r.name},
               {"version", version()},
               {"headline", headline},
               {"settings", settings(r, model, to_string(solver))},
               {"parameters", parameters}};

  json step = json::array(), loss = json::array(), accuracy = json::array();
  for (const int64_t s : r.train.checkpoints) {
    if (!fs::exists(folder.checkpoint(s), none)) continue;
    const Checkpoint c = finished_checkpoint(folder, model, s);
    step.push_back(s);
    loss.push_back(c.loss);
    accuracy.push_back(c.test_accuracy);
  }
  data["training"] = {{"step", step}, {"loss", loss}, {"test_accuracy", accuracy}};
  if (!r.data.x.empty() && r.data.test_x.empty()) data["training"]["accuracy_of"] = "train";

  json decompositions = json::array();
  for (const int64_t s : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      std::optional<EigenFile> sketch;
      std::optional<OverlapCurves> sketch_overlap;
      for (const std::string& method : result_methods(solver)) {
        const fs::path path = folder.eigen(s, split, method);
        if (!fs::exists(path, none)) continue;
        const EigenFile file = finished_eigen(path, parameters);
        const EigenResult& result = file.result;
        json entry = {{"id", path.stem().string()},
                      {"step", s},
                      {"split", split},
                      {"operator", r.curvature.matrix},
                      {"method", method},
                      {"selection", to_string(result.selection)},
                      {"k", file.info.k},
                      {"s", file.info.s},
                      {"eigenvalues", numbers(result.eigenvalues)},
                      {"products", result.products},
                      {"seconds", result.seconds},
                      {"samples", file.info.samples},
                      {"dtype", file.info.dtype}};
        if (result.residuals.defined()) {
          entry["residuals"] = numbers(result.residuals);
          const Certificates& c = result.certificates;
          entry["trust"] = numbers(c.trust);
          entry["angle"] = numbers(c.angle);
          entry["low"] = numbers(c.low);
          entry["high"] = numbers(c.high);
          entry["first"] = numbers(c.first);
          entry["last"] = numbers(c.last);
        }
        if (result.error) {
          entry["certificate"] = certificate(*result.error);
          if (result.rank > 0) {
            const Scree bounds = scree(result.eigenvalues, result.error->error());
            entry["scree"] = {{"lower", numbers(bounds.lower)}, {"upper", numbers(bounds.upper)}};
          }
        }
        std::optional<OverlapCurves> curves;
        if (fs::exists(folder.overlap(s, split, method), none)) {
          curves = finished_overlap(folder.overlap(s, split, method));
          entry["overlap"] = {{"magnitude", numbers(curves->magnitude)},
                              {"best", numbers(curves->best)},
                              {"chance", numbers(curves->chance)}};
          if (curves->nulls.defined()) {
            entry["overlap"]["random_mean"] = numbers(curves->nulls.uniform.mean);
            entry["overlap"]["random_std"] = numbers(curves->nulls.uniform.deviation);
            entry["overlap"]["random_by_layer_mean"] = numbers(curves->nulls.layer.mean);
            entry["overlap"]["random_by_layer_std"] = numbers(curves->nulls.layer.deviation);
          }
          if (curves->magnitude_deviation.defined())
            entry["overlap"]["magnitude_deviation"] = numbers(curves->magnitude_deviation);
          if (curves->magnitude_low.defined()) {
            entry["overlap"]["magnitude_low"] = numbers(curves->magnitude_low);
            entry["overlap"]["magnitude_high"] = numbers(curves->magnitude_high);
          }
        }
        if (method == "dense") {
          if (sketch)
            decompositions.back()["exact_comparison"] = comparison(*sketch, file, sketch_overlap, curves);
        } else {
          sketch = file;
          sketch_overlap = curves;
        }
        decompositions.push_back(std::move(entry));
      }
    }
  }
  data["decompositions"] = std::move(decompositions);
  return data.dump(-1, ' ', false, json::error_handler_t::replace);  // a name may be no UTF-8
}

}  // namespace seigh
