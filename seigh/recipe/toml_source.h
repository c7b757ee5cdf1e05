// Tables of settings before they are a recipe: a file, what is set on top of it, the variants of a sweep.
// Inside this room only: the TOML library shows.
#pragma once

#define TOML_HEADER_ONLY 0
#include <toml++/toml.h>

#include <map>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/recipe/recipe.h"

namespace seigh {

struct TomlSource {
  std::string origin;  ///< in messages
  toml::table table;
  fs::path folder;  ///< where names of files start
};

/// Throws Error naming the line, also on text that would take too much to parse.
toml::table parse_toml(const std::string& text, const std::string& origin);
/// The text of the file `origin` and the overrides "KEY=VALUE", one source each.
std::vector<TomlSource> toml_sources(const std::string& text, const std::string& origin,
                                     const std::vector<std::string>& overrides);
/// Where a value stands: with its line in a file.
std::string place(const std::string& origin, const toml::node& node);
/// Values by dotted key, under `prefix`. An empty table that is no recipe's counts as a value.
void collect_values(const toml::table& table, const std::string& prefix,
                    std::map<std::string, const toml::node*>& out);
/// Whether this value of a key names a file.
bool names_file(const std::string& key, const std::string& value);
/// The value of a key that names a file made absolute; another value as it is.
std::string located(const std::string& key, const std::string& value, const fs::path& folder);
/// Whether a name can be that of a folder.
bool is_plain_name(const std::string& name);
/// Whether a dotted key is one of [sweep].
bool of_sweep(const std::string& key);
/// Whether any key of the source is.
bool names_sweep(const TomlSource& source);

/// The recipe of sources, later ones on top; the first one's origin is that of the file. What is of [sweep]
/// is passed over.
Recipe resolve_sources(const std::vector<const TomlSource*>& sources);

}  // namespace seigh
