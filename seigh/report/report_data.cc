#include "seigh/report/report_data.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>

#include "seigh/core/filesystem.h"
#include "seigh/core/version.h"
#include "seigh/eigen/certificates.h"
#include "seigh/eigen/concentration.h"
#include "seigh/recipe/options.h"
#include "seigh/recipe/own_network.h"
#include "seigh/report/signs.h"
#include "seigh/results/dynamics_file.h"
#include "seigh/results/finished.h"

namespace seigh {
namespace {

using nlohmann::json;

constexpr double kEpsilon = 0.5;  // of the probability statement in the report

// The page shows three digits; what it divides by each other or takes differences of has some more.
constexpr int kCurve = 5, kBound = 4, kShown = 3, kDigits = 6;

// Integers without a point.
json number(double value, int digits = kDigits) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.*g", digits, value);
  const double rounded = std::isfinite(value) ? std::strtod(text, nullptr) : value;
  if (rounded == std::floor(rounded) && std::abs(rounded) < 1e15) return std::llround(rounded);
  return rounded;
}

json numbers(const at::Tensor& tensor, int digits = kDigits) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  json list = json::array();
  for (int64_t i = 0; i < values.numel(); ++i) list.push_back(number(values.data_ptr<double>()[i], digits));
  return list;
}

// The k of 1 to `count` that curves are drawn by: all up to 50, `spaced` logarithmically spaced ones, without
// repetitions, and `more`, ascending.
std::vector<int64_t> drawn_sizes(int64_t count, const std::vector<int64_t>& more, int spaced = 120) {
  std::vector<int64_t> sizes = more;
  for (int64_t k = 1; k <= std::min<int64_t>(50, count); ++k) sizes.push_back(k);
  for (int i = 0; i < spaced; ++i)
    sizes.push_back(
        std::llround(std::pow(static_cast<double>(count), static_cast<double>(i) / (spaced - 1))));
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

// The pairs, from 0, that spectra are drawn by: of each sign, which has a panel of its own, those of
// drawn_sizes(), half as many, and on a linear axis no gap wider than a fortieth of it.
std::vector<int64_t> drawn_pairs(const at::Tensor& eigenvalues) {
  const at::Tensor values = eigenvalues.to(at::kDouble).contiguous();
  std::vector<int64_t> drawn;
  for (const bool negative : {false, true}) {
    std::vector<int64_t> places;
    for (int64_t i = 0; i < values.numel(); ++i)
      if ((values.data_ptr<double>()[i] < 0) == negative) places.push_back(i);
    const auto count = static_cast<int64_t>(places.size());
    if (count == 0) continue;
    std::vector<int64_t> even;
    for (int64_t i = 0; i <= 40; ++i) even.push_back(1 + (count - 1) * i / 40);
    for (const int64_t rank : drawn_sizes(count, even, 60))
      drawn.push_back(places[static_cast<size_t>(rank - 1)]);
  }
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

// A digit for each pair.
std::string digits(const at::Tensor& values) {
  const at::Tensor all = values.to(at::kLong).contiguous();
  std::string text;
  for (int64_t i = 0; i < all.numel(); ++i) text += std::to_string(all.data_ptr<int64_t>()[i]);
  return text;
}

// Those of the two-way null; none in an earlier version's file.
std::vector<int64_t> tried_sizes(const OverlapCurves& curves) {
  if (!curves.nulls.defined()) return {};
  const at::Tensor sizes = curves.nulls.two_way.sizes.to(at::kLong).contiguous();
  return {sizes.data_ptr<int64_t>(), sizes.data_ptr<int64_t>() + sizes.numel()};
}

// A band is its null's mean +- a factor times the deviation for all k (seigh/overlap/bands.h), but for those
// with too few free entries.
json simultaneous(const SimultaneousBand& band, const NullCurve& null, const at::Tensor& k) {
  const at::Tensor none = band.high.isnan();
  const at::Tensor at = null.deviation.masked_fill(none, -1).argmax();
  json out = {{"p", number(band.p)}};
  if (none.all().item<bool>() || null.deviation[at.item<int64_t>()].item<double>() <= 0) return out;
  out["factor"] = number(((band.high - null.mean) / null.deviation)[at.item<int64_t>()].item<double>());
  out["without"] = numbers(k.masked_select(none.index_select(0, k - 1)));
  return out;
}

// Overlap curves at drawn_sizes(), or of masks beside the first at the two-way null's alone. What is k/D or
// one is left out.
json overlap(const OverlapCurves& curves, int64_t parameters, bool first = true) {
  const std::vector<int64_t> tried = tried_sizes(curves);
  const bool few = !first && !tried.empty();
  const at::Tensor k = at::tensor(few ? tried : drawn_sizes(curves.magnitude.numel(), tried), at::kLong);
  const auto drawn = [at = k - 1](const at::Tensor& curve, int digits = kBound) {
    return numbers(curve.index_select(0, at), digits);
  };
  json out = {{"k", numbers(k)},
              {"magnitude", drawn(curves.magnitude, kCurve)},
              {"best", drawn(curves.best, kCurve)}};
  if (curves.magnitude_deviation.defined()) out["magnitude_deviation"] = drawn(curves.magnitude_deviation);
  if (curves.magnitude_low.defined()) {
    out["magnitude_low"] = drawn(curves.magnitude_low);
    out["magnitude_high"] = drawn(curves.magnitude_high);
  }
  if (!curves.nulls.defined()) return out;  // an earlier version's
  const OverlapNulls& n = curves.nulls;
  if (curves.bands.layer.low.defined()) {
    for (const auto& [name, band, null] :
         {std::tuple("layer", &curves.bands.layer, &n.layer),
          std::tuple("output_unit", &curves.bands.output_unit, &n.output_unit),
          std::tuple("input_unit", &curves.bands.input_unit, &n.input_unit)})
      out["bands"][name] = simultaneous(*band, *null, k);
  }
  json& nulls = out["nulls"];
  for (const auto& [name, null] :
       {std::pair("uniform", &n.uniform), std::pair("layer", &n.layer),
        std::pair("output_unit", &n.output_unit), std::pair("input_unit", &n.input_unit)}) {
    if (null == &n.uniform && curves.eligible == parameters) continue;  // k/D
    nulls[name] = {{"mean", drawn(null->mean, kCurve)}};
    if (null == &n.uniform) continue;
    nulls[name]["std"] = drawn(null->deviation);
    // In a table alone, at the k that the page is set to.
    nulls[name]["free"] = numbers(null->free.index_select(0, at::tensor(tried, at::kLong) - 1), kShown);
  }
  const TwoWayNull& t = n.two_way;
  nulls["two_way"] = {{"sizes", numbers(t.sizes)},
                      {"overlap", numbers(t.overlap)},
                      {"mean", numbers(t.mean)},
                      {"std", numbers(t.deviation)},
                      {"free", numbers(t.free)},
                      {"samples", numbers(t.samples)},
                      {"effective", numbers(t.effective)},
                      {"acceptance", numbers(t.acceptance)},
                      {"autocorrelation", numbers(t.autocorrelation)},
                      {"p", numbers(t.p)}};
  if (n.joint.defined())
    nulls["joint"] = {{"mean", numbers(n.joint.mean)},
                      {"std", numbers(n.joint.deviation)},
                      {"free", numbers(n.joint.free)},
                      {"p", numbers(n.joint.p)}};
  json factors = json::array();
  for (int64_t i = 0; i < t.sizes.numel(); ++i) {
    const OverlapFactors f = overlap_factors(n, i);
    factors.push_back({{"size", f.size},
                       {"overlap", number(f.overlap)},
                       {"chance", number(f.chance)},
                       {"layer", number(f.layer)},
                       {"units", number(f.units)},
                       {"parameter", number(f.parameter)},
                       {"z", number(f.z)},
                       {"p", number(f.p)},
                       {"free", f.free}});
  }
  out["factors"] = std::move(factors);
  return out;
}

// What stands beside the first mask's curves: other masks, tensors, localisation of the `pairs`.
void add_study(const OverlapStudy& study, int64_t parameters, std::vector<int64_t> pairs, json& entry) {
  const OverlapStudy::Mask& first = study.masks.front();
  entry["score"] = first.score;
  entry["population"] = first.population;
  for (size_t i = 1; i < study.masks.size(); ++i) {
    const OverlapStudy::Mask& mask = study.masks[i];
    entry["masks"].push_back({{"score", mask.score},
                              {"population", mask.population},
                              {"parameters", mask.curves.eligible},
                              {"ties", mask.curves.tied},
                              {"overlap", overlap(mask.curves, parameters, false)}});
  }
  if (!study.space.defined()) return;
  const at::Tensor& energy = study.space.energy;
  std::erase_if(pairs, [&](int64_t pair) { return pair >= study.space.participation.numel(); });
  const at::Tensor at = at::tensor(pairs, at::kLong);
  entry["localisation"] = {{"participation", numbers(study.space.participation.index_select(0, at), kShown)},
                           {"layers", numbers(energy.square().sum(0).index_select(0, at), kShown)}};
  if (!first.anatomy.defined()) return;
  const MaskAnatomy& a = first.anatomy;
  for (const auto& [name, c] : {std::pair("layer", a.layer), std::pair("output_unit", a.output_unit),
                                std::pair("input_unit", a.input_unit), std::pair("two_way", a.two_way)})
    entry["rank_correlation"][name] = {{"value", number(c.value)}, {"error", number(c.deviation)}};
  entry["ceiling"] = {{"layer", numbers(a.ceiling_layer)},
                      {"output_unit", numbers(a.ceiling_output_unit)},
                      {"input_unit", numbers(a.ceiling_input_unit)}};
  if (study.tensors.empty()) return;
  json names = json::array(), kinds = json::array(), sizes = json::array();
  for (const ParameterSpec& tensor : study.tensors) {
    names.push_back(tensor.name);
    kinds.push_back(tensor_kind({tensor.name, tensor.shape}));
    sizes.push_back(tensor.numel());
  }
  json space = json::array(), mask = json::array(), within = json::array();
  for (int64_t s = 0; s < a.sizes.numel(); ++s) {
    const auto k = static_cast<double>(a.sizes[s].item<int64_t>());
    space.push_back(numbers(energy.slice(1, 0, a.sizes[s].item<int64_t>()).sum(1) / k, kShown));
    mask.push_back(numbers(a.counts.select(1, s).to(at::kDouble) / k, kShown));
    within.push_back(numbers(a.within.select(1, s) / a.counts.select(1, s).to(at::kDouble), kShown));
  }
  entry["tensors"] = {{"names", names}, {"kinds", kinds}, {"parameters", sizes}, {"sizes", numbers(a.sizes)},
                      {"space", space}, {"mask", mask},   {"within", within}};
}

// Of the gradient in the top space two sizes: ten vectors, and all. Of maps as many digits as are shown.
json dynamics(const Dynamics& there) {
  json out = json::parse(dynamics_json(there));
  for (json& map : out["maps"])
    for (json& row : map["values"])
      for (json& value : row)
        if (value.is_number()) value = number(value.get<double>(), 3);
  json gradients = json::array();
  for (const DynamicsGradient& g : there.gradients) {
    const int64_t all = g.share.size(1);
    for (const int64_t k : {std::min<int64_t>(10, all), all}) {
      gradients.push_back(
          {{"split", g.split}, {"k", k}, {"steps", g.steps}, {"share", numbers(g.share.select(1, k - 1))}});
      if (k == all) break;
    }
  }
  out["gradient"] = std::move(gradients);
  return out;
}

// At the k that the page can be set to, or else at round ones.
json concentration(const Concentration& c, std::vector<int64_t> sizes) {
  const int64_t rank = c.share.numel();
  std::erase_if(sizes, [&](int64_t k) { return k > rank; });
  for (int64_t ten = 1; sizes.empty() && ten <= rank; ten *= 10)
    for (const int64_t k : {ten, 2 * ten, 5 * ten})
      if (k < rank) sizes.push_back(k);
  if (sizes.empty() || sizes.back() < rank) sizes.push_back(rank);
  const at::Tensor k = at::tensor(sizes, at::kLong);
  json out = {{"k", numbers(k)}};
  for (const auto& [name, curve] : {std::pair("share", &c.share), std::pair("low", &c.low),
                                    std::pair("high", &c.high), std::pair("nuclear", &c.nuclear)})
    if (curve->defined()) out[name] = numbers(curve->index_select(0, k - 1));
  return out;
}

// A curve by sparsity for each order of the parameters. What is no number is null.
json pruning(const std::vector<PruningRow>& rows, int64_t fine_tune) {
  json curves = json::array();
  const PruningRow* last = nullptr;
  for (const PruningRow& row : rows) {
    if (last == nullptr || last->step != row.step || last->score != row.score ||
        last->control != row.control || last->draw != row.draw)
      curves.push_back(
          {{"step", row.step}, {"score", row.score}, {"control", row.control}, {"draw", row.draw}});
    last = &row;
    json& curve = curves.back();
    curve["sparsity"].push_back(number(row.sparsity));
    curve["kept"].push_back(row.kept);
    curve["accuracy"].push_back(number(row.accuracy));
    curve["loss"].push_back(number(row.loss));
    if (fine_tune == 0) continue;
    curve["tuned_accuracy"].push_back(number(row.tuned_accuracy));
    curve["tuned_loss"].push_back(number(row.tuned_loss));
  }
  return {{"fine_tune", fine_tune}, {"prunable", rows.front().prunable}, {"curves", std::move(curves)}};
}

json certificate(const ErrorEstimate& e) {
  return {{"frobenius_estimate", number(e.frobenius())},
          {"error_estimate", number(e.error())},
          {"relative_error", number(e.relative_error())},
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
  if (r.curvature.subset > 0) add("Subset of samples", std::to_string(r.curvature.subset));
  return rows;
}

}  // namespace

std::string report_data(const RunFolder& folder, const Model& model, int64_t parameters, Method solver,
                        const std::vector<std::string>& headline, const std::vector<PruningRow>& pruned) {
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
        const std::vector<int64_t> pairs = drawn_pairs(result.eigenvalues);
        const auto drawn = [at = at::tensor(pairs, at::kLong)](const at::Tensor& all, int digits) {
          return numbers(all.index_select(0, at), digits);
        };
        json entry = {{"id", path.stem().string()},
                      {"step", s},
                      {"split", split},
                      {"operator", r.curvature.matrix},
                      {"method", method},
                      {"selection", to_string(result.selection)},
                      {"k", file.info.k},
                      {"s", file.info.s},
                      {"eigenvalues", drawn(result.eigenvalues, kCurve)},
                      {"products", result.products},
                      {"seconds", result.seconds},
                      {"samples", file.info.samples},
                      {"dtype", file.info.dtype}};
        if (static_cast<int64_t>(pairs.size()) < result.rank) {
          entry["pairs"] = numbers(at::tensor(pairs, at::kLong) + 1);
          entry["negative"] = digits(result.eigenvalues < 0);
        }
        if (result.residuals.defined()) {
          entry["residuals"] = drawn(result.residuals, kShown);
          const Certificates& c = result.certificates;
          entry["trust"] = digits(c.trust);
          entry["angle"] = drawn(c.angle, kShown);
        }
        if (result.error) {
          entry["certificate"] = certificate(*result.error);
          if (result.rank > 0) {
            const Scree bounds = scree(result.eigenvalues, result.error->error());
            const at::Tensor k = at::tensor(drawn_sizes(bounds.lower.numel(), {}), at::kLong);
            const double norm = std::sqrt(result.eigenvalues.to(at::kDouble).square().sum().item<double>());
            entry["scree"] = {{"k", numbers(k)},
                              {"lower", numbers(bounds.lower.index_select(0, k - 1), kShown)},
                              {"error", number(result.error->error() / norm)}};
          }
        }
        std::optional<OverlapCurves> curves;
        std::vector<int64_t> chosen;  // the k that the page can be set to
        if (fs::exists(folder.overlap(s, split, method), none)) {
          const OverlapStudy study = finished_study(folder.overlap(s, split, method));
          curves = study.masks.front().curves;
          entry["overlap"] = overlap(*curves, parameters);
          chosen = tried_sizes(*curves);
          entry["signs"] = failure_signs(file, study);
          add_study(study, parameters, pairs, entry);
        }
        if (const Concentration c = concentration(result, parameters); c.defined())
          entry["concentration"] = concentration(c, chosen);
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
  if (const std::optional<Dynamics> there = current_dynamics(folder, solver))
    data["dynamics"] = dynamics(*there);
  if (!pruned.empty()) data["pruning"] = pruning(pruned, r.prune.fine_tune);
  return data.dump(-1, ' ', false, json::error_handler_t::replace);  // a name may be no UTF-8
}

}  // namespace seigh
