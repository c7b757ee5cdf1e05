#include "seigh/recipe/toml_source.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/io/limits.h"

namespace seigh {
namespace {

const std::string kSet = "--set ";

std::string quoted(const std::string& value) {
  std::ostringstream out;
  out << toml::value<std::string>(value);
  return out.str();
}

}  // namespace

toml::table parse_toml(const std::string& text, const std::string& origin) {
  require_plain_toml(text, origin);
  try {
    return toml::parse(text, origin);
  } catch (const toml::parse_error& error) {
    fail(origin, ":", error.source().begin.line, ": ", error.description());
  }
}

std::vector<TomlSource> toml_sources(const std::string& text, const std::string& origin,
                                     const std::vector<std::string>& overrides) {
  std::vector<TomlSource> sources;
  sources.push_back({origin, parse_toml(text, origin), fs::absolute(origin).parent_path()});
  for (const std::string& override_text : overrides) {
    const std::string where = kSet + shortened(override_text);
    const size_t equals = override_text.find('=');
    require(equals != std::string::npos && equals > 0, where,
            ": expected KEY=VALUE, for example --set eigh.k=100");
    const std::string key = override_text.substr(0, equals), value = override_text.substr(equals + 1);
    toml::table table;
    require_plain_toml(key + " = " + value, where);
    try {  // a bare word is taken for a string
      table = toml::parse(key + " = " + value);
    } catch (const toml::parse_error&) {
      table = parse_toml(key + " = " + quoted(value), where);
    }
    sources.push_back({where, std::move(table), fs::current_path()});
  }
  return sources;
}

std::string place(const std::string& origin, const toml::node& node) {
  return node.source().begin && !origin.starts_with(kSet)
             ? origin + ":" + std::to_string(node.source().begin.line)
             : origin;
}

bool names_file(const std::string& key, const std::string& value) {
  static const std::set<std::string> files = {"data.x",       "data.y",        "data.test_x", "data.test_y",
                                              "model.module", "model.weights", "data.python", "model.python"};
  return !value.empty() &&
         (files.contains(key) ||
          (key == "train.loss" && (value.ends_with(".pt") || value.find(".py:") != std::string::npos)));
}

std::string located(const std::string& key, const std::string& value, const fs::path& folder) {
  return names_file(key, value) ? (folder / value).lexically_normal().string() : value;
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 32; });
}

bool of_sweep(const std::string& key) {
  return key == "sweep" || key.starts_with("sweep.");
}

bool names_sweep(const TomlSource& source) {
  std::map<std::string, const toml::node*> values;
  collect_values(source.table, "", values);
  return std::any_of(values.begin(), values.end(), [](const auto& value) { return of_sweep(value.first); });
}

}  // namespace seigh
