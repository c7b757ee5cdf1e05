// The synthetic study as a run: one folder with
//
//   recipe.toml    the resolved recipe
//   synthetic.h5   the study (seigh/results/synthetic_file.h)
//   report.html    its page
//
// The study is one step: what is finished is kept, what is not begins anew.
#pragma once

#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/recipe/synthetic.h"
#include "seigh/report/figures.h"

namespace seigh {

/// Is `folder` one of such a study? False where it cannot be told.
bool holds_synthetic(const fs::path& folder);
/// Does the study, unless it is there, and writes the page. Returns the finding in lines. For the root alone.
/// Throws Error when `folder` holds something else, when another process works in it, and without `resume`
/// when it holds this study.
std::vector<std::string> run_synthetic(const fs::path& folder, const SyntheticRecipe& recipe, bool resume,
                                       const Context& context);
/// Writes the page of a finished study anew and returns the finding. Throws Error where it is not finished.
std::vector<std::string> report_synthetic(const fs::path& folder);
/// Figures of a finished study. Throws Error as report_synthetic() and write_synthetic_figures().
FiguresWritten synthetic_figures(const fs::path& folder, const fs::path& to);
/// The finding, or that there is none yet.
std::vector<std::string> synthetic_in_words(const fs::path& folder);

}  // namespace seigh
