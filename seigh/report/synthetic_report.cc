#include "seigh/report/synthetic_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "seigh/core/version.h"
#include "seigh/report/format.h"

namespace seigh {
namespace {

using nlohmann::json;

// To six significant digits, which no chart resolves.
json number(double value) {
  if (!std::isfinite(value)) return {};
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return std::strtod(text, nullptr);
}
template <typename Values>
json numbers(const Values& values) {
  json out = json::array();
  for (const auto value : values) out.push_back(number(static_cast<double>(value)));
  return out;
}
template <typename T>
json list(const at::Tensor& tensor) {
  return std::vector<T>(tensor.const_data_ptr<T>(), tensor.const_data_ptr<T>() + tensor.numel());
}

double largest(const std::array<double, 3>& values) {
  double most = std::nan("");
  for (const double value : values) most = std::fmax(most, value);
  return most;
}
double smallest(const std::array<double, 3>& values) {
  double least = std::nan("");
  for (const double value : values) least = std::fmin(least, value);
  return least;
}
std::string shown(double value, const char* pattern) {
  return std::isnan(value) ? "-" : format(pattern, value);
}

// The slopes of all kinds, or a dash where one has none.
std::string slopes(const MetricFinding& f) {
  const bool of_all = std::none_of(f.slope.begin(), f.slope.end(), [](double s) { return std::isnan(s); });
  const bool masks_only = std::isnan(f.off[0]);
  if (!of_all && !(masks_only && !std::isnan(largest(f.slope)))) return "-";
  return format("%.2f", smallest(f.slope)) + (masks_only ? "" : format(" .. %.2f", largest(f.slope)));
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

// The finding in a sentence.
std::string verdict(const std::vector<MetricFinding>& findings) {
  std::vector<std::string> following;
  double others = std::nan("");
  for (const MetricFinding& f : findings) {
    if (f.follows) following.push_back(f.metric);
    if (!f.follows) others = std::fmin(others, largest(f.off_resolved));
  }
  if (following.empty()) return "Of no metric does the median follow k/D here.";
  std::string text = "Of " + joined(following) + " alone the median follows k/D";
  const auto overlap = std::find_if(findings.begin(), findings.end(),
                                    [](const MetricFinding& f) { return f.metric == "overlap"; });
  if (following.size() == 1 && overlap->follows)
    text += format(
        ": within %.3f of it over all cells, %.3f where resolved, with a slope of %.3f to %.3f on logarithms",
        largest(overlap->off), largest(overlap->off_resolved), smallest(overlap->slope),
        largest(overlap->slope));
  if (!std::isnan(others)) text += format("; every other metric is off by %.2f or more.", others);
  return text;
}

}  // namespace

std::vector<std::string> synthetic_headline(const SyntheticStudy& study) {
  const std::vector<MetricFinding> findings = synthetic_findings(study);
  const int64_t cells = study.k.numel();
  int64_t resolved = 0;
  for (int64_t i = 0; i < cells; ++i) {
    const int64_t k = study.k.const_data_ptr<int64_t>()[i];
    resolved += k * k >= study.dimension.const_data_ptr<int64_t>()[i] ? 1 : 0;
  }
  std::vector<std::string> lines = {
      format("%lld cells (D, k/D) of %lld pairs of each kind, %lld of them resolved (k^2/D >= 1); s: "
             "similarity, 1 - distance",
             static_cast<long long>(cells), static_cast<long long>(study.values.size(-1)),
             static_cast<long long>(resolved)),
      format("%-24s %19s  %9s  %9s  %14s  %13s", "metric, its median s", "|s - k/D| up to, all", "resolved",
             "s < .01", "log-log slope", "between kinds")};
  for (const MetricFinding& f : findings)
    lines.push_back(format(
        "%-24s %20s  %9s  %9s  %14s  %13s", f.metric.c_str(), shown(largest(f.off), "%.3f").c_str(),
        shown(largest(f.off_resolved), "%.3f").c_str(), shown(100 * largest(f.saturated), "%.0f %%").c_str(),
        slopes(f).c_str(), shown(f.between_kinds, "%.3f").c_str()));
  lines.push_back(verdict(findings));
  return lines;
}

std::string synthetic_page_data(const SyntheticRecipe& recipe, const SyntheticFile& file) {
  const SyntheticOptions& o = recipe.options;
  const SyntheticStudy& study = file.study;
  const std::vector<MetricFinding> findings = synthetic_findings(study);
  const at::Tensor quantiles = synthetic_quantiles(study);
  json kinds = json::array(), found = json::array(), values = json::array();
  for (const PairKind kind : all_pair_kinds) kinds.push_back(pair_kind_name(kind));
  for (const MetricFinding& f : findings)
    found.push_back({{"metric", f.metric},
                     {"similarity", is_similarity(f.metric)},
                     {"off", numbers(f.off)},
                     {"off_resolved", numbers(f.off_resolved)},
                     {"saturated", numbers(f.saturated)},
                     {"slope", numbers(f.slope)},
                     {"between_kinds", number(f.between_kinds)},
                     {"follows", f.follows}});
  // [kind][metric][level][cell]
  const double* q = quantiles.const_data_ptr<double>();
  for (int64_t kind = 0; kind < quantiles.size(0); ++kind) {
    json of_kind = json::array();
    for (int64_t metric = 0; metric < quantiles.size(1); ++metric) {
      json of_metric = json::array();
      for (int64_t level = 0; level < quantiles.size(3); ++level) {
        std::vector<double> one;
        for (int64_t cell = 0; cell < quantiles.size(2); ++cell)
          one.push_back(
              q[((kind * quantiles.size(1) + metric) * quantiles.size(2) + cell) * quantiles.size(3) +
                level]);
        of_metric.push_back(numbers(one));
      }
      of_kind.push_back(std::move(of_metric));
    }
    values.push_back(std::move(of_kind));
  }
  const json data = {
      {"title", recipe.name},
      {"version", version()},
      {"headline", synthetic_headline(study)},
      {"settings", json::array({json::array({"Study", "Grassmannian metrics of random pairs of subspaces"}),
                                json::array({"Seed", std::to_string(recipe.seed)}),
                                json::array({"Pairs", std::to_string(study.values.size(-1)) +
                                                          " of each kind in each cell"}),
                                json::array({"Time", format("%.0f s", file.seconds)})})},
      {"synthetic",
       {{"pairs", study.values.size(-1)},
        {"kinds", kinds},
        {"levels", synthetic_levels},
        {"dimension", list<int64_t>(study.dimension)},
        {"ratio", list<double>(study.ratio)},
        {"k", list<int64_t>(study.k)},
        {"dimensions", o.dimensions},
        {"ratios", o.ratios},
        {"fine_dimensions", o.fine_dimensions},
        {"fine_ratios", o.fine_ratios},
        {"quantiles", values},
        {"verdict", verdict(findings)},
        {"findings", found}}}};
  return data.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace seigh
