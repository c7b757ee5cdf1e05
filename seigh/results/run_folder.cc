#include "seigh/results/run_folder.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/io/file.h"
#include "seigh/recipe/sweep.h"
#include "seigh/recipe/synthetic.h"
#include "seigh/train/checkpoint.h"

namespace seigh {
namespace {

// Ends a last line that a killed process left unfinished by cutting it off.
void cut_torn_line(const fs::path& path) {
  std::error_code none;
  if (!fs::exists(path, none) || fs::file_size(path, none) == 0) return;
  const std::string text = read_file(path);
  if (text.back() == '\n') return;
  const size_t newline = text.rfind('\n');
  fs::resize_file(path, newline == std::string::npos ? 0 : newline + 1,
                  none);  // where it fails, so will log()
}

std::vector<fs::path> contents(const fs::path& folder) {
  std::error_code code;
  std::vector<fs::path> paths;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    paths.push_back(it->path());
  require(!code, "cannot read ", folder.string(), ": ", code.message());
  return paths;
}

bool is_temporary(const fs::path& path) {
  return path.filename().string().find(".tmp-") != std::string::npos;
}

// Files that a killed process left half written; nobody else works in a locked folder.
void remove_temporaries(const fs::path& folder) {
  std::error_code none;
  std::vector<fs::path> places = {folder, folder / "checkpoints", folder / "model", folder / "eigen",
                                  folder / "overlap"};
  if (fs::is_directory(folder / "partial", none)) {
    for (const fs::path& path : contents(folder / "partial")) places.push_back(path);
  }
  for (const fs::path& place : places) {
    if (!fs::is_directory(place, none)) continue;
    for (const fs::path& path : contents(place)) {
      if (is_temporary(path)) fs::remove(path, none);
    }
  }
}

// A run folder from somebody else must not lead to other places what is written into it. Links to read from,
// as a checkpoint that is one, do no harm: what is written takes their place.
void refuse_links(const fs::path& folder) {
  const auto refuse = [](const fs::path& path) {
    require(!fs::is_symlink(path), path.string(),
            " is a symbolic link, which seigh does not write through; put what it points to in its place");
  };
  for (const char* name :
       {".lock", "log.jsonl", "checkpoints", "model", "eigen", "overlap", "partial", "old"})
    refuse(folder / name);
  std::error_code none;
  for (const char* name : {"partial", "old"}) {
    if (!fs::is_directory(folder / name, none)) continue;
    for (const fs::path& path : contents(folder / name)) {
      refuse(path);
      for (const char* inner : {"checkpoints", "model", "eigen", "overlap", "partial", "claims"})
        refuse(path / inner);
    }
  }
}

// A run that was refused or stopped before it had a result: its folder may be given to another recipe. The
// lock tells it from a folder in which somebody keeps a recipe of his own.
bool nothing_finished(const fs::path& folder) {
  std::error_code code;
  if (!fs::exists(folder / ".lock", code) || fs::exists(folder / "synthetic.h5", code)) return false;
  for (const char* place : {"checkpoints", "model", "eigen", "overlap"}) {
    std::error_code none;
    if (!fs::exists(folder / place, none)) continue;
    for (const fs::path& path : contents(folder / place)) {
      if (!is_temporary(path)) return false;
    }
  }
  return true;
}

// Is there more than a recipe.toml that somebody may have written?
bool more_than_a_recipe(const fs::path& folder) {
  std::error_code none;
  for (const char* name : {".lock", "log.jsonl", "checkpoints", "eigen"})
    if (fs::exists(folder / name, none)) return true;
  return false;
}

void require_run(const fs::path& folder) {
  std::error_code none;
  require(fs::exists(folder / "recipe.toml", none), folder.string(),
          folder.empty() ? "RUN, an empty name," : "",
          " holds no run (no recipe.toml); start one with: seigh run RECIPE --out FOLDER");
}

// The recipe of the run in `folder`.
Recipe recipe_of(const fs::path& folder) {
  try {
    return load_recipe(folder / "recipe.toml");
  } catch (const Error& error) {
    bool sweep = false, synthetic = false;
    try {
      sweep = is_sweep(folder / "recipe.toml");
      synthetic = is_synthetic(folder / "recipe.toml");
    } catch (const Error&) {  // damaged
    }
    require(!synthetic, folder.string(),
            " holds a synthetic study, which has no network; seigh show and seigh report take it");
    require(!sweep, folder.string(), " is the folder of a sweep; name one of the runs in it (seigh show ",
            folder.string(), " lists them)");
    fail(error.what(), "; mend this file, or start the run anew in another folder");
  }
}

// Also where the next command is to compute.
bool holds(const fs::path& file, const Recipe& recipe) {
  std::error_code none;
  if (!fs::exists(file, none)) return false;
  try {
    return differences(load_recipe(file), recipe, Stage::where).empty();
  } catch (const Error&) {  // damaged, in a run with nothing finished
    return false;
  }
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&time, &utc);
  char buffer[32];
  std::strftime(buffer, sizeof(buffer), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return buffer;
}

}  // namespace

RunFolder::RunFolder(fs::path path, Recipe recipe, const Context& context, bool shared)
    : context_(context), path_(std::move(path)), recipe_(std::move(recipe)) {
  if (!context.ranks().root()) return;
  refuse_links(path_);
  lock_ = FolderLock(path_, shared);
  if (!shared) {  // nobody else is writing
    remove_temporaries(path_);
    cut_torn_line(path_ / "log.jsonl");
  }
  errno = 0;
  log_.open(path_ / "log.jsonl", std::ios::app);
  require(log_.is_open(), "cannot write ", (path_ / "log.jsonl").string(), ": ", std::strerror(errno),
          "; choose another folder with --out");
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : context_(other.context_),
      path_(std::move(other.path_)),
      recipe_(std::move(other.recipe_)),
      lock_(std::move(other.lock_)),
      log_(std::move(other.log_)) {}

RunFolder::~RunFolder() = default;

// The root opens the folder as `open` does; the other ranks then join it.
template <typename Open>
RunFolder RunFolder::together(const fs::path& folder, const Context& context, const Open& open) {
  if (!context.ranks().root()) {
    context.ranks().wait();
    return {folder, recipe_of(folder), context};
  }
  RunFolder run = open();
  context.ranks().wait();
  return run;
}

RunFolder RunFolder::start(const fs::path& folder, const Recipe& recipe, bool resume,
                           const Context& context) {
  return together(folder, context, [&] { return start_alone(folder, recipe, resume, context); });
}

// Throws Error unless a run of `recipe` may begin in `folder`, or go on there.
void RunFolder::check_start(const fs::path& folder, const Recipe& recipe, bool resume) {
  const fs::path file = folder / "recipe.toml";
  std::error_code code;
  if (fs::exists(file, code)) {
    if (nothing_finished(folder)) return;
    const Recipe written = recipe_of(folder);
    const std::vector<std::string> different = differences(written, recipe),
                                   decisive = differences(written, recipe, Stage::prune);
    std::string which;
    if (!different.empty())
      which = " (" + (decisive.empty() ? different : decisive)[0] + (different.size() > 1 ? ", ...)" : ")");
    require(
        different.empty() || resume, folder.string(), " holds a run of another recipe", which,
        "; redo what that changes with --resume, which keeps the rest, or choose another folder with --out");
    require(resume, folder.string(),
            " already holds a run of this recipe; continue it with --resume, or choose another folder with "
            "--out");
    require(different.empty() || more_than_a_recipe(folder), file.string(), " is another recipe", which,
            " that no run was made by; choose another folder with --out");
  } else if (fs::exists(folder, code)) {
    require(fs::is_directory(folder, code), folder.string(),
            " is not a folder; choose another one with --out");
    for (const fs::path& path : contents(folder)) {
      const bool ours = is_temporary(path) || path.filename() == ".lock" || path.filename() == "log.jsonl";
      require(ours, folder.string(), " is not empty and holds no run; choose another folder with --out");
    }
  }
}

RunFolder RunFolder::start_alone(const fs::path& folder, const Recipe& recipe, bool resume,
                                 const Context& context) {
  const fs::path file = folder / "recipe.toml";
  std::error_code code;
  check_start(folder, recipe, resume);
  fs::create_directories(folder, code);
  require(!code, "cannot create ", folder.string(), ": ", code.message(),
          "; choose another folder with --out");
  RunFolder run(folder, recipe, context);
  if (fs::exists(file, code)) {
    check_start(folder, recipe, resume);  // again under the lock: another process may have begun meanwhile
    if (!nothing_finished(folder)) run.supersede(recipe_of(folder));
  }
  if (!holds(file, recipe)) write_file(file, to_toml(recipe));
  return run;
}

// Before recipe.toml is the new one: a process that is killed here leaves a run of the old recipe, parts of
// which are missing.
void RunFolder::supersede(const Recipe& written) {
  const std::vector<Item> results = inventory(path_, written, recipe_);
  std::vector<fs::path> files = superseded(results);
  std::error_code error;
  if (!files.empty())
    for (const fs::path& path : derived()) files.insert(files.begin(), path.filename());
  if (files.empty() && differences(written, recipe_).empty()) return;
  fs::path old;  // with the recipe of what is in it; none where everything is kept
  if (!files.empty()) {
    old = place_for_old(path_, files);
    write_file(path_ / old / "recipe.toml", read_file(path_ / "recipe.toml"));
  }
  for (const fs::path& from : files) {
    const fs::path to = old / from;
    fs::create_directories((path_ / to).parent_path(), error);
    if (!error) fs::rename(path_ / from, path_ / to, error);
    require(!error, "cannot move ", (path_ / from).string(), " to ", (path_ / to).string(), ": ",
            error.message(), "; choose another folder with --out");
    log("superseded", {{"file", from.string()}, {"moved_to", to.string()}});
  }
  for (const std::string& line : in_words(results))
    context_.progress().note(line + (line.starts_with("kept") ? "" : "; moved to " + (path_ / old).string()));
}

RunFolder RunFolder::open(const fs::path& folder, bool shared, const Context& context) {
  return together(folder, context, [&] { return open_alone(folder, shared, context); });
}

RunFolder RunFolder::open_alone(const fs::path& folder, bool shared, const Context& context) {
  require_run(folder);
  RunFolder run(folder, recipe_of(folder), context, shared);
  for (const Item& item : run.items())
    require(item.differs.empty(), (folder / item.file).string(), " was made by another recipe than ",
            (folder / "recipe.toml").string(), " is (", item.differs.empty() ? "" : item.differs[0],
            "); redo what that changes with: seigh run ", (folder / "recipe.toml").string(), " --out ",
            folder.string(), " --resume");
  return run;
}

RunFolder RunFolder::view(const fs::path& folder) {
  require_run(folder);
  return {View(), folder, recipe_of(folder)};
}

RunFolder RunFolder::view(const fs::path& folder, const Recipe& recipe) {
  check_start(folder, recipe, /*resume=*/true);
  return {View(), folder, recipe};
}

bool RunFolder::holds_run() const {
  std::error_code none;
  return fs::exists(path_ / "recipe.toml", none) && more_than_a_recipe(path_) && !nothing_finished(path_);
}

std::vector<fs::path> RunFolder::derived() const {
  std::vector<fs::path> paths;
  for (const fs::path& path : contents(path_)) {
    const std::string name = path.filename().string();
    if (path == report() || (name.starts_with("dynamics") && name.ends_with(".h5"))) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Item> RunFolder::items() const {
  return holds_run() ? inventory(path_, seigh::recipe_of(path_), recipe_) : std::vector<Item>();
}

fs::path RunFolder::checkpoint(int64_t step) const {
  return path_ / "checkpoints" / (step_name(step) + ".safetensors");
}

std::vector<int64_t> RunFolder::checkpoints() const {
  std::vector<int64_t> steps;
  for (const Item& item : items())
    if (item.stage == Stage::train) steps.push_back(item.step);
  return steps;
}

fs::path RunFolder::eigen(int64_t step, const std::string& split, const std::string& method) const {
  return path_ / "eigen" /
         (step_name(step) + "_" + split + "_" + recipe_.curvature.matrix + "_" + method + ".h5");
}

fs::path RunFolder::partial(int64_t step, const std::string& split, const std::string& method) const {
  return path_ / "partial" / eigen(step, split, method).stem();
}

fs::path RunFolder::overlap(int64_t step, const std::string& split, const std::string& method) const {
  return path_ / "overlap" / eigen(step, split, method).filename();
}

fs::path RunFolder::model(int64_t step, const std::string& split) const {
  return path_ / "model" / (step_name(step) + "_" + split + "_" + recipe_.curvature.matrix + ".h5");
}

void RunFolder::log(const std::string& event, std::initializer_list<LogField> fields) {
  if (!context_.ranks().root()) return;
  nlohmann::ordered_json line = {{"time", now()}, {"event", event}};
  for (const LogField& field : fields) {
    std::visit([&](const auto& value) { line[field.name] = value; }, field.value);
  }
  errno = 0;
  log_ << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
       << '\n';  // paths may be no UTF-8
  log_.flush();
  require(log_.good(), "cannot write ", (path_ / "log.jsonl").string(), ": ",
          errno != 0 ? std::strerror(errno) : "output error",
          "; free some space or choose another folder with --out");
}

}  // namespace seigh
