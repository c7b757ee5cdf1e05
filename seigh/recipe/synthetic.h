// A recipe with [synthetic]: the synthetic study of the Grassmannian metrics (seigh/overlap/synthetic.h),
// which has no network and no data. Its keys are name, seed and those of the table; there are no others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/overlap/synthetic.h"

namespace seigh {

struct SyntheticRecipe {
  std::string name;
  int64_t seed = 12345;
  SyntheticOptions options;
};

/// Whether a recipe with these overrides has the table [synthetic]. Throws Error where it cannot be read.
bool is_synthetic(const fs::path& path, const std::vector<std::string>& overrides = {});
/// Throws Error with place and key.
SyntheticRecipe load_synthetic(const fs::path& path, const std::vector<std::string>& overrides = {});
SyntheticRecipe parse_synthetic(const std::string& text, const std::string& origin,
                                const std::vector<std::string>& overrides = {});
/// All keys with their meaning, as TOML: load_synthetic reads the same recipe from it.
std::string to_toml(const SyntheticRecipe& recipe);
/// The keys that decide the numbers, a line of TOML each.
std::string record(const SyntheticRecipe& recipe);

/// The keys of [synthetic], for recipe_reference().
struct SyntheticKey {
  std::string name, type, meaning;
};
const std::vector<SyntheticKey>& synthetic_keys();

}  // namespace seigh
