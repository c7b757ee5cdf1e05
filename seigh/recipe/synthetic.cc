#include "seigh/recipe/synthetic.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/io/file.h"
#include "seigh/io/limits.h"
#include "seigh/recipe/toml_source.h"

namespace seigh {
namespace {

const std::string kTable = "synthetic";

bool of_table(const std::string& key) {
  return key == kTable || key.starts_with(kTable + ".");
}

// The one list of keys.
template <typename R, typename Visitor>
void for_each_key(R& r, Visitor&& visit) {
  visit("name", r.name, "Name of the experiment; default: the file's name. Names the run folder.");
  visit("seed", r.seed, "Seed of everything random: the pairs of subspaces.");
  visit("synthetic.pairs", r.options.pairs,
        "A recipe with [synthetic] is a study of the Grassmannian metrics on random pairs of subspaces, "
        "without network and "
        "data; its other keys are name and seed. Pairs in each cell, of each kind: Haar-Haar, mask-mask, "
        "Haar-mask.");
  visit("synthetic.dimensions", r.options.dimensions,
        "Dimensions D of what is shown over D; the subspaces have k = max(round(ratio D), 1).");
  visit("synthetic.ratios", r.options.ratios, "Ratios k/D of what is shown over D, a line each.");
  visit("synthetic.fine_dimensions", r.options.fine_dimensions,
        "Dimensions of what is shown over the ratio, a line each.");
  visit("synthetic.fine_ratios", r.options.fine_ratios, "Ratios of what is shown over the ratio.");
}

std::string literal(const std::string& value) {
  std::ostringstream out;
  out << toml::value<std::string>(value);
  return out.str();
}
std::string literal(int64_t value) {
  return std::to_string(value);
}
// As short as it reads the same.
std::string literal(double value) {
  char buffer[32];
  const std::string text(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}
template <typename T>
std::string literal(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) text += (text.empty() ? "" : ", ") + literal(value);
  return "[" + text + "]";
}

const char* type_name(const std::string&) {
  return "string";
}
const char* type_name(int64_t) {
  return "integer";
}
const char* type_name(const std::vector<int64_t>&) {
  return "integers";
}
const char* type_name(const std::vector<double>&) {
  return "numbers";
}

void read_value(const toml::node& node, const std::string& where, std::string& out) {
  require(node.is_string(), where, " must be a string");
  out = *node.value<std::string>();
}
void read_value(const toml::node& node, const std::string& where, int64_t& out) {
  require(node.is_integer(), where, " must be an integer");
  out = *node.value<int64_t>();
}
void read_value(const toml::node& node, const std::string& where, double& out) {
  require(node.is_number(), where, " must be a number");
  out = *node.value<double>();
}
template <typename T>
void read_value(const toml::node& node, const std::string& where, std::vector<T>& out) {
  const toml::array* array = node.as_array();
  require(array != nullptr, where, " must be a list");
  out.clear();
  for (const toml::node& element : *array)
    read_value(element, where + ", every element,", out.emplace_back());
}

}  // namespace

bool is_synthetic(const fs::path& path, const std::vector<std::string>& overrides) {
  for (const TomlSource& source : toml_sources(read_file(path, kMostRecipeBytes), path.string(), overrides)) {
    if (source.table.contains(kTable)) return true;
  }
  return false;
}

SyntheticRecipe load_synthetic(const fs::path& path, const std::vector<std::string>& overrides) {
  return parse_synthetic(read_file(path, kMostRecipeBytes), path.string(), overrides);
}

SyntheticRecipe parse_synthetic(const std::string& text, const std::string& origin,
                                const std::vector<std::string>& overrides) {
  SyntheticRecipe recipe;
  recipe.name = fs::path(origin).stem().string();
  for (const TomlSource& source : toml_sources(text, origin, overrides)) {
    std::map<std::string, const toml::node*> values;
    collect_values(source.table, "", values);
    std::string known;
    for_each_key(recipe, [&](const std::string& key, auto& field, const char*) {
      known += (known.empty() ? "" : ", ") + key;
      const auto found = values.find(key);
      if (found == values.end()) return;
      read_value(*found->second, place(source.origin, *found->second) + ": " + key, field);
      values.erase(found);
    });
    std::erase_if(values, [](const auto& v) { return v.first == kTable && v.second->is_table(); });  // empty
    if (values.empty()) continue;
    const auto& [key, node] = *values.begin();
    fail(place(source.origin, *node), ": unknown key \"", shortened(key),
         "\"; a recipe with [synthetic] is about no network and has the keys ", known);
  }
  require(is_plain_name(recipe.name), origin, ": name must be a plain name, not \"", shortened(recipe.name),
          "\"");
  require(recipe.seed >= 0, origin, ": seed must not be negative: ", recipe.seed);
  try {
    recipe.options.validate();
  } catch (const Error& error) {
    fail(origin, ": [synthetic]: ", error.what());
  }
  return recipe;
}

std::string to_toml(const SyntheticRecipe& recipe) {
  std::ostringstream out;
  bool within = false;
  for_each_key(recipe, [&](const std::string& key, const auto& field, const char* meaning) {
    if (of_table(key) && !within) out << "\n[" << kTable << "]\n";
    within = of_table(key);
    out << "# " << meaning << '\n'
        << key.substr(within ? kTable.size() + 1 : 0) << " = " << literal(field) << '\n';
  });
  return out.str();
}

std::string record(const SyntheticRecipe& recipe) {
  std::string text;
  for_each_key(recipe, [&](const std::string& key, const auto& field, const char*) {
    if (key != "name") text += key + " = " + literal(field) + "\n";
  });
  return text;
}

const std::vector<SyntheticKey>& synthetic_keys() {
  static const std::vector<SyntheticKey> keys = [] {
    std::vector<SyntheticKey> all;
    const SyntheticRecipe recipe;
    for_each_key(recipe, [&](const std::string& key, const auto& field, const char* meaning) {
      if (of_table(key))
        all.push_back({key, std::string(type_name(field)) + ", default " + literal(field), meaning});
    });
    return all;
  }();
  return keys;
}

}  // namespace seigh
