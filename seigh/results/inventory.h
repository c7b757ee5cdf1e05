// What is in a run folder, and which of it a recipe still agrees with.
//
// A result says which keys of a recipe decided it (record(), recipe.h): a checkpoint in its metadata,
// decompositions and overlap curves in the attribute "recipe", what is unfinished in
// partial/<name>/recipe.toml. A recipe that decides otherwise supersedes it, whatever recipe.toml says, so
// that neither a kill nor an edited recipe.toml lets a result pass for another's. Results without a record,
// of earlier versions, count as made by the recipe.toml beside them.
//
// Steps, splits, matrices and methods are in the names of files: a recipe that asks for others supersedes
// nothing, and what it does not ask for stays where it is. But the exact decomposition beside another method
// holds that one's error and goes with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/recipe/recipe.h"

namespace seigh {

/// A result, or what there is of an unfinished one.
struct Item {
  fs::path file = {};  ///< within the run folder
  Stage stage = Stage::train;
  bool finished = true;  ///< false: a folder in partial/
  bool of_model =
      false;  ///< what is kept of the model for masks (model_file.h), which no eigensolver decides
  int64_t step = 0;
  std::string split = {}, matrix = {}, method = {};  ///< empty of checkpoints
  /// The keys in which its recipe is another, as of differences(); empty: it is this recipe's.
  std::vector<std::string> differs = {};
};

/// All results in `folder` in the order of their stages and names, held against `recipe`; `written` is the
/// recipe of recipe.toml. What is damaged is not noticed here. Throws Error on a folder that cannot be read.
std::vector<Item> inventory(const fs::path& folder, const Recipe& written, const Recipe& recipe);

/// "3 checkpoints, 1 decomposition, 1 overlap"; empty of none.
std::string count_in_words(const std::vector<Item>& items);
/// What becomes of the items when `recipe` takes over, a line each: "kept: ..." and, for each set of keys,
/// "superseded by eigh.k: 100 / 60: ...".
std::vector<std::string> in_words(const std::vector<Item>& items);

/// The files of those that another recipe supersedes, results before what they were made from.
std::vector<fs::path> superseded(const std::vector<Item>& items);
/// The place within the run folder for `files`, which are superseded: the first old/<n> that is not there, or
/// the last one, where a process was killed that moved results there and none of these is there already.
fs::path place_for_old(const fs::path& folder, const std::vector<fs::path>& files);

}  // namespace seigh
