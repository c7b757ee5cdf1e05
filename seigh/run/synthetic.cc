#include "seigh/run/synthetic.h"

#include "seigh/core/error.h"
#include "seigh/core/timer.h"
#include "seigh/io/file.h"
#include "seigh/report/page.h"
#include "seigh/report/synthetic_report.h"
#include "seigh/results/folder_lock.h"
#include "seigh/results/synthetic_file.h"

namespace seigh {
namespace {

const char *const kRecipe = "recipe.toml", *const kFile = "synthetic.h5", *const kReport = "report.html";

bool is_there(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none);
}

SyntheticRecipe recipe_of(const fs::path& folder) {
  try {
    return load_synthetic(folder / kRecipe);
  } catch (const Error& error) {
    fail(error.what(), "; mend this file, or start the study anew in another folder");
  }
}

// Throws Error unless the study may begin in `folder`, or go on there.
void check_place(const fs::path& folder, const SyntheticRecipe& recipe, bool resume) {
  std::error_code none;
  if (!is_there(folder)) return;
  require(fs::is_directory(folder, none), folder.string(), " is not a folder; choose another one with --out");
  if (is_there(folder / kRecipe)) {
    require(holds_synthetic(folder), folder.string(),
            " holds something other than a synthetic study; choose another folder with --out");
    if (!is_there(folder / kFile)) return;  // nothing finished
    require(record(recipe_of(folder)) == record(recipe), folder.string(),
            " holds a synthetic study of another recipe; choose another folder with --out");
    require(
        resume, folder.string(),
        " already holds this synthetic study; keep it with --resume, or choose another folder with --out");
    return;
  }
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    require(name == ".lock" || name.find(".tmp-") != std::string::npos, folder.string(),
            " is not empty and holds no synthetic study; choose another folder with --out");
  }
}

// The finished study of this recipe.
SyntheticFile study_of(const fs::path& folder, const SyntheticRecipe& recipe) {
  SyntheticFile file = read_synthetic_file(folder / kFile);
  require(file.recipe == record(recipe), (folder / kFile).string(), " was made by another recipe than ",
          (folder / kRecipe).string(), " is; remove it and continue with --resume");
  return file;
}

// The same, where there may be none yet.
SyntheticFile finished_study_of(const fs::path& folder, const SyntheticRecipe& recipe) {
  require(is_there(folder / kFile), folder.string(),
          " holds no finished study yet; continue it with: seigh run ", (folder / kRecipe).string(),
          " --out ", folder.string(), " --resume");
  return study_of(folder, recipe);
}

std::vector<std::string> write_page(const fs::path& folder, const SyntheticRecipe& recipe,
                                    const SyntheticFile& file) {
  write_report_page(folder / kReport, recipe.name, synthetic_page_data(recipe, file));
  return synthetic_headline(file.study);
}

}  // namespace

bool holds_synthetic(const fs::path& folder) {
  try {
    return is_there(folder / kRecipe) && is_synthetic(folder / kRecipe);
  } catch (const Error&) {
    return false;
  }
}

std::vector<std::string> run_synthetic(const fs::path& folder, const SyntheticRecipe& recipe, bool resume,
                                       const Context& context) {
  check_place(folder, recipe, resume);
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "cannot create ", folder.string(), ": ", error.message(),
          "; choose another folder with --out");
  const FolderLock lock(folder, /*shared=*/false);
  check_place(folder, recipe, resume);  // another process may have begun meanwhile
  if (is_there(folder / kFile)) return write_page(folder, recipe, study_of(folder, recipe));
  write_file(folder / kRecipe, to_toml(recipe));
  const Timer timer;
  SyntheticFile file;
  file.study = synthetic_study(recipe.options, static_cast<uint64_t>(recipe.seed), context);
  file.recipe = record(recipe);
  file.seconds = timer.seconds();
  write_synthetic_file(folder / kFile, file);
  return write_page(folder, recipe, file);
}

std::vector<std::string> report_synthetic(const fs::path& folder) {
  const SyntheticRecipe recipe = recipe_of(folder);
  return write_page(folder, recipe, finished_study_of(folder, recipe));
}

FiguresWritten synthetic_figures(const fs::path& folder, const fs::path& to) {
  const SyntheticRecipe recipe = recipe_of(folder);
  return write_synthetic_figures(recipe, finished_study_of(folder, recipe), to);
}

std::vector<std::string> synthetic_in_words(const fs::path& folder) {
  const SyntheticRecipe recipe = recipe_of(folder);
  std::vector<std::string> lines;
  if (is_there(folder / kFile))
    lines = synthetic_headline(study_of(folder, recipe).study);
  else
    lines.emplace_back("not finished; its recipe with --resume begins it anew");
  lines.insert(lines.begin(),
               text_of(recipe.name, ": synthetic study of the Grassmannian metrics, seed ", recipe.seed));
  return lines;
}

}  // namespace seigh
