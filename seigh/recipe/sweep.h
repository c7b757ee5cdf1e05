// Sweeps: one recipe as many runs, over seeds, disjoint subsets of samples, and variants of its keys.
//
//   [sweep]
//   seeds = 3                       # or a list
//   subsets = 1
//   key = "train.learning_rate"     # one factor at a time around the recipe itself, the variant "base"
//   values = [0.1, 0.3, 1.0]
//   [[sweep.factors]]               # more of them, each around the same base
//   key = "train.weight_decay"
//   values = [0.0, 0.001]
//   [[sweep.variants]]              # whole sets of keys under a name
//   name = "wide"
//   set = { "model.hidden" = [100, 100] }
//
// A factor's value that is the base's own is the base, and makes no run of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/recipe/recipe.h"

namespace seigh {

struct SweepRun {
  std::string variant;  ///< "base", "learning_rate=0.1", or the name it was given
  int64_t seed = 0;
  int64_t subset = 0;  ///< curvature.subset
  std::string folder;  ///< within the folder of the sweep; a plain file name
  Recipe recipe;
  std::vector<std::string> overrides;  ///< what the variant sets: "train.learning_rate = 0.1"

  /// "learning_rate=0.1, seed 2", with the subset where there are `subsets` > 1.
  std::string label(int64_t subsets) const;
};

struct Sweep {
  std::string name;                   ///< of the recipe
  std::vector<std::string> variants;  ///< in the order of the recipe, the base first
  std::string base;                   ///< "base", or empty where there is none
  int64_t seeds = 1, subsets = 1;
  std::optional<double> at_loss;  ///< training loss at which variants are compared, too
  std::vector<SweepRun> runs;     ///< seed by seed, so that comparisons between variants come early
  std::string
      text;  ///< the sweep as TOML, overrides applied and names of files absolute: load_sweep reads it
};

/// Whether a recipe with these overrides has a key of [sweep]. Throws Error where it cannot be read.
bool is_sweep(const fs::path& path, const std::vector<std::string>& overrides = {});
/// Reads a sweep, with every run's recipe resolved as load_recipe does. Throws Error with place and key; also
/// for more than 10 000 runs, variants that cannot be told apart, and factors that change nothing.
Sweep load_sweep(const fs::path& path, const std::vector<std::string>& overrides = {});
Sweep parse_sweep(const std::string& text, const std::string& origin,
                  const std::vector<std::string>& overrides = {});

/// The keys of [sweep], for recipe_reference().
struct SweepKey {
  std::string name;
  const char *type, *meaning;
};
const std::vector<SweepKey>& sweep_keys();

}  // namespace seigh
