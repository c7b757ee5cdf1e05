#include "seigh/run/sweep.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/timer.h"
#include "seigh/io/file.h"
#include "seigh/io/limits.h"
#include "seigh/io/safetensors.h"
#include "seigh/recipe/options.h"
#include "seigh/recipe/own_network.h"
#include "seigh/results/folder_lock.h"
#include "seigh/run/pruning.h"

namespace seigh {
namespace {

const char* const kFailures = "failures.json";

std::map<std::string, std::string> read_failures(const fs::path& folder) {
  std::map<std::string, std::string> failures;
  std::error_code none;
  const fs::path file = folder / kFailures;
  if (!fs::exists(file, none)) return failures;
  const std::string text = read_file(file);
  require_plain_json(text, file.string());
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_object())  // else damaged: nothing that matters is lost
    for (const auto& [run, why] : json.items())
      if (why.is_string()) failures[run] = why.get<std::string>();
  return failures;
}

void write_failures(const fs::path& folder, const std::map<std::string, std::string>& failures) {
  std::error_code none;
  if (failures.empty()) {
    fs::remove(folder / kFailures, none);
    return;
  }
  write_file(folder / kFailures,
             nlohmann::json(failures).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

// The method whose results are there.
std::optional<Method> method_of(const RunFolder& folder, const Recipe& recipe) {
  std::error_code none;
  return method_there(recipe, [&](const Decomposition& d) {
    return fs::exists(folder.eigen(d.step, d.split, to_string(d.method)), none);
  });
}

// The recipe of a run as its folder knows it, where the sweep leaves the number of samples to data in Python.
Recipe recipe_there(const fs::path& path, Recipe recipe) {
  if (!recipe.model.python.empty() && recipe.curvature.samples == 0)
    recipe.curvature.samples = RunFolder::view(path).recipe().curvature.samples;
  return recipe;
}

// All that a recipe asks for, made by that recipe.
bool finished(const fs::path& path, const Recipe& wanted) {
  std::error_code none;
  if (!fs::exists(path / "recipe.toml", none)) return false;
  try {
    const Recipe recipe = recipe_there(path, wanted);
    const RunFolder folder = RunFolder::view(path, recipe);
    if (!differences(RunFolder::view(path).recipe(), recipe).empty()) return false;
    for (const Item& item : folder.items())
      if (!item.differs.empty()) return false;
    const std::optional<Method> method = method_of(folder, recipe);
    if (!method || !fs::exists(folder.report(), none)) return false;
    for (const Decomposition& d : decompositions(recipe, *method)) {
      if (!fs::exists(folder.eigen(d.step, d.split, to_string(d.method)), none) ||
          !fs::exists(folder.overlap(d.step, d.split, to_string(d.method)), none))
        return false;
    }
    return missing_rows(recipe, pruning_there(folder).rows).empty();
  } catch (const Error&) {  // for the run itself to say
    return false;
  }
}

// Throws Error unless a sweep may begin in `folder`, or go on there.
void check_place(const fs::path& folder, const Sweep& sweep, bool resume) {
  const fs::path file = folder / "recipe.toml";
  std::error_code none;
  if (!fs::exists(folder, none)) return;
  require(fs::is_directory(folder, none), folder.string(), " is not a folder; choose another one with --out");
  if (fs::exists(file, none)) {
    require(holds_sweep(folder), folder.string(),
            " holds something other than a sweep; choose another folder with --out");
    require(resume, folder.string(), " already holds ",
            read_file(file, kMostRecipeBytes) == sweep.text ? "this sweep; continue it"
                                                            : "another sweep; make it this one",
            " with --resume, which keeps every run that is the same, or choose another folder with --out");
    return;
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    require(name == ".lock" || name.find(".tmp-") != std::string::npos, folder.string(),
            " is not empty and holds no sweep; choose another folder with --out");
  }
}

// A sweep's checkpoints by what decided them.
class Shared {
 public:
  Shared(fs::path folder, const Sweep& sweep) : folder_(std::move(folder)) {
    for (const SweepRun& run : sweep.runs) {
      const bool trained = !brings_weights(run.recipe);
      const std::string keys = record(run.recipe, Stage::train);
      runs_[&run] = {keys, trained};
      if (trained) same_[keys].push_back(&run);
    }
  }

  // Gives a run the checkpoints that others have already.
  void give(const SweepRun& run, const RunFolder& to) const {
    const auto& [keys, trained] = runs_.at(&run);
    if (!trained) return;
    std::error_code none;
    for (const int64_t step : run.recipe.train.checkpoints) {
      const fs::path target = to.checkpoint(step);
      if (fs::exists(target, none)) continue;
      for (const SweepRun* other : same_.at(keys)) {
        const fs::path source = folder_ / other->folder / "checkpoints" / target.filename();
        if (other == &run || !made_by(source, keys)) continue;
        fs::create_directories(target.parent_path(), none);
        if (fs::is_symlink(source) || ::link(source.c_str(), target.c_str()) != 0)
          write_file(target, read_file(source));
        break;
      }
    }
  }

 private:
  static bool made_by(const fs::path& file, const std::string& keys) {
    std::error_code none;
    if (!fs::exists(file, none)) return false;
    try {
      const auto metadata = read_safetensors_metadata(file, Maker::seigh);
      const auto found = metadata.find("recipe");
      return found != metadata.end() && found->second == keys;
    } catch (const Error&) {  // damaged: the run makes its own
      return false;
    }
  }

  fs::path folder_;
  std::map<const SweepRun*, std::pair<std::string, bool>> runs_;
  std::map<std::string, std::vector<const SweepRun*>> same_;
};

}  // namespace

bool holds_sweep(const fs::path& folder) {
  std::error_code none;
  try {
    return fs::exists(folder / "recipe.toml", none) && is_sweep(folder / "recipe.toml");
  } catch (const Error&) {
    return false;
  }
}

Sweep sweep_of(const fs::path& folder) {
  try {
    return load_sweep(folder / "recipe.toml");
  } catch (const Error& error) {
    fail(error.what(), "; mend this file, or start the sweep anew in another folder");
  }
}

std::vector<RunStatus> sweep_status(const fs::path& folder, const Sweep& sweep) {
  const std::map<std::string, std::string> failures = read_failures(folder);
  std::vector<RunStatus> all;
  std::error_code none;
  for (const SweepRun& run : sweep.runs) {
    RunStatus status;
    const auto failure = failures.find(run.folder);
    if (finished(folder / run.folder, run.recipe)) {
      status.state = RunState::finished;
    } else if (failure != failures.end()) {
      status = {RunState::failed, failure->second};
    } else if (fs::exists(folder / run.folder / "recipe.toml", none)) {
      status.state = RunState::begun;
    }
    all.push_back(std::move(status));
  }
  return all;
}

void check_sweep(Sweep& sweep, const MakeForeign& make) {
  std::map<std::string, int64_t> samples;  // by variant: seeds and subsets change nothing that is checked
  for (SweepRun& run : sweep.runs) {
    const auto known = samples.find(run.variant);
    if (known != samples.end()) {
      run.recipe.curvature.samples = known->second;
      continue;
    }
    const std::shared_ptr<const Foreign> foreign = make_foreign(run.recipe, make);
    try {
      Run::check(run.recipe, foreign.get());
    } catch (const Error& error) {
      fail(run.variant == sweep.base ? "" : "variant \"" + run.variant + "\": ", error.what());
    }
    samples[run.variant] = run.recipe.curvature.samples;
  }
}

SweepOutcome run_sweep(const fs::path& folder, const Sweep& sweep, bool resume, const fs::path& data_folder,
                       const MakeForeign& make, const SweepCalls& calls, const Context& context) {
  std::optional<FolderLock> lock;
  std::vector<RunStatus> status(sweep.runs.size());
  std::map<std::string, std::string> failures;
  by_root(context, [&] {
    check_place(folder, sweep, resume);
    std::error_code error;
    fs::create_directories(folder, error);
    require(!error, "cannot create ", folder.string(), ": ", error.message(),
            "; choose another folder with --out");
    lock.emplace(folder, /*shared=*/false);
    check_place(folder, sweep, resume);  // another process may have begun meanwhile
    for (const SweepRun& run : sweep.runs)
      require(!fs::is_symlink(folder / run.folder), (folder / run.folder).string(),
              " is a symbolic link, which seigh does not write through; put what it points to in its place");
    write_file(folder / "recipe.toml", sweep.text);
    status = sweep_status(folder, sweep);
    failures = read_failures(folder);
    const size_t known =
        std::erase_if(failures, [&](const auto& failure) {  // of runs that are no longer asked for
          return std::none_of(sweep.runs.begin(), sweep.runs.end(),
                              [&](const SweepRun& run) { return run.folder == failure.first; });
        });
    if (known > 0) write_failures(folder, failures);
  });
  const Shared shared(folder, sweep);
  const bool root = context.ranks().root();
  SweepOutcome outcome;
  for (RunStatus& s : status) {
    s.state = context.ranks().agree(s.state);
    outcome.skipped += s.state == RunState::finished;
  }
  const Timer timer;
  const int64_t all = static_cast<int64_t>(sweep.runs.size()) - outcome.skipped;
  for (size_t i = 0; i < sweep.runs.size(); ++i) {
    if (status[i].state == RunState::finished) continue;
    context.check_cancelled();
    const SweepRun& run = sweep.runs[i];
    const int64_t before = outcome.done + outcome.failed;
    if (root && calls.begin)
      calls.begin(run, static_cast<int64_t>(i) + 1,
                  before == 0
                      ? -1
                      : timer.seconds() / static_cast<double>(before) * static_cast<double>(all - before));
    std::string why;
    bool failed = false;
    try {
      Recipe recipe = run.recipe;
      const std::shared_ptr<const Foreign> foreign = make_foreign(recipe, make);
      Run one(RunFolder::start(folder / run.folder, recipe, /*resume=*/true, context), data_folder,
              context_for(recipe, context), foreign);
      by_root(context, [&] { shared.give(run, one.folder()); });
      one.train();
      one.eigh([&](int64_t step) { one.overlap(step); });
      one.prune();
      one.dynamics(/*whatever_it_takes=*/false);
      by_root(context, [&] {
        one.report();
        if (calls.done) calls.done(run, one);
      });
    } catch (const Error& error) {
      // Where only some ranks know of it, they cannot go on together.
      if (!context.ranks().alone() && dynamic_cast<const SharedError*>(&error) == nullptr)
        fail(run.label(sweep.subsets), ": ", error.what());
      failed = true;
      why = error.what();
    }
    ++(failed ? outcome.failed : outcome.done);
    if (!root) continue;
    const size_t known = failures.erase(run.folder);
    if (failed) failures[run.folder] = why;
    if (failed || known > 0) write_failures(folder, failures);
    if (failed && calls.failed) calls.failed(run, why);
  }
  return outcome;
}

std::string failures_in_words(const SweepOutcome& outcome, const Sweep& sweep) {
  return text_of(outcome.failed, " of ", sweep.runs.size(), sweep.runs.size() == 1 ? " run" : " runs",
                 " failed, the others are done; seigh show says why, --resume tries again");
}

std::vector<SummaryRow> sweep_rows(const fs::path& path, const Sweep& sweep) {
  std::vector<SummaryRow> all;
  std::error_code none;
  for (const SweepRun& run : sweep.runs) {
    if (!fs::exists(path / run.folder / "recipe.toml", none)) continue;
    const RunFolder folder = RunFolder::view(path / run.folder, recipe_there(path / run.folder, run.recipe));
    const std::vector<Item> items = folder.items();
    const bool ours =
        std::all_of(items.begin(), items.end(), [](const Item& i) { return i.differs.empty(); });
    const std::optional<Method> method = method_of(folder, folder.recipe());
    if (!ours || !method) continue;
    for (SummaryRow& row : summary_rows(run, folder, *method, sweep.at_loss)) all.push_back(std::move(row));
  }
  return all;
}

}  // namespace seigh
