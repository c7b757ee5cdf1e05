#include "apps/seigh/figures.h"

#include "seigh/core/error.h"
#include "seigh/recipe/options.h"
#include "seigh/report/drawing.h"
#include "seigh/results/inventory.h"
#include "seigh/results/run_folder.h"
#include "seigh/run/plan.h"
#include "seigh/run/sweep.h"
#include "seigh/run/synthetic.h"

namespace seigh::app {

FiguresWritten write_figures(const fs::path& folder, const fs::path& to) {
  drawing::require_drawing();
  if (holds_sweep(folder)) {
    const Sweep sweep = sweep_of(folder);
    return write_sweep_figures(sweep.name, sweep_rows(folder, sweep), to);
  }
  if (holds_synthetic(folder)) return synthetic_figures(folder, to);
  const RunFolder run = RunFolder::view(folder);
  for (const Item& item : run.items())
    require(item.differs.empty(), (run.path() / item.file).string(),
            " was made by another recipe than its recipe.toml is; redo it with seigh run ... --resume");
  std::error_code none;
  const std::optional<Method> method = method_there(run.recipe(), [&](const Decomposition& d) {
    return fs::exists(run.eigen(d.step, d.split, to_string(d.method)), none);
  });
  return write_run_figures(run, method, to);
}

}  // namespace seigh::app
