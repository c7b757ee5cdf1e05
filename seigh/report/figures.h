// The figures of a paper, from what a run folder, a synthetic study or a sweep holds: which there are, and
// what is on them. Each is drawn from result files alone, so that a run under way can be looked at.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/eigen/options.h"
#include "seigh/recipe/synthetic.h"
#include "seigh/report/sweep_summary.h"
#include "seigh/results/run_folder.h"
#include "seigh/results/synthetic_file.h"

namespace seigh {

struct FiguresWritten {
  std::vector<fs::path> files;     ///< two of each figure, SVG and PDF
  std::vector<std::string> lines;  ///< one for each figure, and for each kind left out: why, and what to do
};

/// Writes into `to`, made if need be; `method` is that of the run's eigensolver, none where there are no
/// results of one yet. Throws Error where there is nothing to be drawn, with the reasons; where result files
/// are damaged; where `to` cannot be written; and unless can_draw().
FiguresWritten write_run_figures(const RunFolder& folder, std::optional<Method> method, const fs::path& to);
/// Of a finished synthetic study.
FiguresWritten write_synthetic_figures(const SyntheticRecipe& recipe, const SyntheticFile& file,
                                       const fs::path& to);
/// Of all runs of a sweep: what its variants come to over their seeds. `name`: of the sweep.
FiguresWritten write_sweep_figures(const std::string& name, const std::vector<SummaryRow>& rows,
                                   const fs::path& to);

}  // namespace seigh
