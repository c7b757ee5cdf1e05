// The folder of one run: where each file lives, and who may write there.
#pragma once

#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/recipe/recipe.h"
#include "seigh/results/folder_lock.h"
#include "seigh/results/inventory.h"

namespace seigh {

/// A field of a line of the log.
struct LogField {
  const char* name;
  std::variant<int64_t, double, std::string> value;
};

/// One process at a time works in a run folder, or several that measure; they hold a lock for the life of
/// this object. Of the ranks of one run, the root holds it and writes the log.
///   recipe.toml  log.jsonl  checkpoints/step_*.safetensors  model/*.h5  eigen/*.h5  partial/  overlap/*.h5
///   dynamics*.h5  report.html
///   old/<n>/     results that another recipe has superseded, with theirs, in the same places
class RunFolder {
 public:
  /// Starts a run: creates the folder and writes the resolved recipe. When the folder already holds a run,
  /// `resume` continues it: what the recipe supersedes (inventory.h) is moved to old/<n>/ with the
  /// recipe.toml of before, and the user told what is kept. A kill on the way leaves every result in one of
  /// the two places. Throws Error without `resume`, and when the folder is not writable or another process
  /// works in it.
  static RunFolder start(const fs::path& folder, const Recipe& recipe, bool resume,
                         const Context& context = Context());
  /// Opens an existing run; `shared`: beside other processes that do the same. Throws Error when `folder`
  /// holds none, when another process works in it that does not share it, or when results there are of
  /// another recipe than the recipe.toml.
  static RunFolder open(const fs::path& folder, bool shared = false, const Context& context = Context());
  /// To look at, beside whoever works there: nothing is written, nobody kept out. Throws Error when `folder`
  /// holds no run.
  static RunFolder view(const fs::path& folder);
  /// The same as start() would find it for `recipe`, be it there or not. Throws Error where start() with
  /// `resume` would.
  static RunFolder view(const fs::path& folder, const Recipe& recipe);
  /// Whether there is a run already.
  bool holds_run() const;
  /// All results, held against the recipe.
  std::vector<Item> items() const;
  RunFolder(RunFolder&& other) noexcept;
  ~RunFolder();

  const Recipe& recipe() const { return recipe_; }
  const fs::path& path() const { return path_; }
  fs::path checkpoint(int64_t step) const;
  /// Steps of the checkpoints that are there, ascending, be they the recipe's or not.
  std::vector<int64_t> checkpoints() const;
  fs::path eigen(int64_t step, const std::string& split, const std::string& method) const;
  fs::path overlap(int64_t step, const std::string& split, const std::string& method) const;
  /// What is known of the model there (model_file.h).
  fs::path model(int64_t step, const std::string& split) const;
  /// Folder of what an unfinished decomposition has come to so far.
  fs::path partial(int64_t step, const std::string& split, const std::string& method) const;
  /// What steps have to do with each other; with those of `other`, a run folder's name.
  fs::path dynamics(const std::string& other = "") const {
    return path_ / (other.empty() ? "dynamics.h5" : "dynamics_with_" + other + ".h5");
  }
  fs::path report() const { return path_ / "report.html"; }
  /// The files that are there and can be made anew from the others: the two above.
  std::vector<fs::path> derived() const;

  /// Appends one line to log.jsonl: an object of `fields` after "time" (UTC) and "event".
  void log(const std::string& event, std::initializer_list<LogField> fields);

 private:
  struct View {};
  RunFolder(View, fs::path path, Recipe recipe) : path_(std::move(path)), recipe_(std::move(recipe)) {}
  RunFolder(fs::path path, Recipe recipe, const Context& context, bool shared = false);
  static void check_start(const fs::path& folder, const Recipe& recipe, bool resume);
  void supersede(const Recipe& written);
  template <typename Open>
  static RunFolder together(const fs::path& folder, const Context& context, const Open& open);
  static RunFolder start_alone(const fs::path& folder, const Recipe& recipe, bool resume,
                               const Context& context);
  static RunFolder open_alone(const fs::path& folder, bool shared, const Context& context);

  Context context_;
  fs::path path_;
  Recipe recipe_;
  FolderLock lock_;
  std::ofstream log_;
};

}  // namespace seigh
