#include "seigh/report/compared_runs.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>

#include "seigh/core/error.h"
#include "seigh/core/version.h"

namespace seigh {
namespace {

using nlohmann::json;

// What decides the results of `b` otherwise than those of `a`, but for the seed and the subset of samples.
std::vector<std::string> apart(const Recipe& a, const Recipe& b) {
  std::vector<std::string> keys = differences(a, b, Stage::overlap);
  // A key that does not matter to b may be all the difference to a.
  if (keys.empty()) keys = differences(b, a, Stage::overlap);
  std::erase_if(keys, [](const std::string& key) {
    return key.starts_with("seed:") || key.starts_with("curvature.subset:");
  });
  return keys;
}

bool has_overlap(const json& data) {
  const json& all = data.at("decompositions");
  return std::any_of(all.begin(), all.end(), [](const json& d) { return d.contains("overlap"); });
}

template <typename Numbers>
std::string listed(const Numbers& numbers) {
  std::string text;
  for (const auto n : numbers) text.append(text.empty() ? "" : ", ").append(std::to_string(n));
  return text;
}

// "momentum" of "regime: momentum, seed 1" where all runs are of the sweep "regime".
std::string group_name(const std::string& name, const std::vector<PageRun>& runs) {
  const size_t colon = name.find(": ");
  const bool shared =
      colon != std::string::npos && std::all_of(runs.begin(), runs.end(), [&](const PageRun& run) {
        return run.recipe.name.starts_with(name.substr(0, colon + 2));
      });
  const std::string own = shared ? name.substr(colon + 2) : name;
  return own.substr(0, own.rfind(", seed "));
}

}  // namespace

std::string page_title(const std::vector<PageRun>& runs) {
  std::vector<std::string> names;
  for (const PageRun& run : runs) {
    // Runs of a sweep are called "<sweep>: <variant>, seed 1".
    const std::string name = run.recipe.name.substr(0, run.recipe.name.find(": "));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::string title;
  for (const std::string& name : names) title.append(title.empty() ? "" : ", ").append(name);
  return title + ", " + std::to_string(runs.size()) + " runs";
}

std::string compared_runs(const std::vector<PageRun>& runs) {
  std::vector<std::vector<size_t>> groups;
  json all = json::array();
  for (size_t i = 0; i < runs.size(); ++i) {
    json data = json::parse(runs[i].data);
    require(has_overlap(data), runs[i].name,
            " holds no overlap curves to compare; make them with: seigh run ", runs[i].name,
            "/recipe.toml --out ", runs[i].name, " --resume");
    data["folder"] = runs[i].name;
    data["seed"] = runs[i].recipe.seed;
    data["subset"] = runs[i].recipe.curvature.subset;
    all.push_back(std::move(data));
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const std::vector<size_t>& g) {
      return apart(runs[g[0]].recipe, runs[i].recipe).empty();
    });
    if (group == groups.end()) {
      groups.push_back({i});
      continue;
    }
    for (const size_t j : *group)
      require(runs[j].recipe.seed != runs[i].recipe.seed ||
                  runs[j].recipe.curvature.subset != runs[i].recipe.curvature.subset,
              runs[j].name, " and ", runs[i].name,
              " are runs of one recipe with one seed on the same samples, no repetitions; name one of them");
    group->push_back(i);
  }

  json described = json::array(), headline = json::array();
  for (const std::vector<size_t>& group : groups) {
    const Recipe& recipe = runs[group[0]].recipe;
    std::set<uint64_t> seeds;
    std::set<int64_t> subsets;
    for (const size_t i : group) {
      seeds.insert(runs[i].recipe.seed);
      subsets.insert(runs[i].recipe.curvature.subset);
    }
    const std::vector<std::string> differs = apart(runs[groups[0][0]].recipe, recipe);
    const std::string name = group_name(recipe.name, runs);
    described.push_back({{"name", name}, {"runs", group}, {"differs", differs}});
    std::string line = name + (seeds.size() == 1 ? ": seed " : ": seeds ") + listed(seeds);
    if (subsets.size() > 1) line += ", subsets " + listed(subsets);
    for (const std::string& key : differs) line += "; " + key;
    headline.push_back(line);
  }
  const json data = {{"title", page_title(runs)}, {"version", version()},   {"headline", headline},
                     {"settings", json::array()}, {"runs", std::move(all)}, {"groups", described}};
  return data.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace seigh
