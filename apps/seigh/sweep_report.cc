#include "apps/seigh/sweep_report.h"

#include <set>

#include "apps/seigh/joint_page.h"
#include "seigh/core/context.h"
#include "seigh/io/file.h"
#include "seigh/report/sweep_summary.h"
#include "seigh/run/sweep.h"

namespace seigh::app {
std::vector<std::string> write_sweep_report(const fs::path& folder, const Sweep& sweep) {
  const std::vector<SummaryRow> rows = sweep_rows(folder, sweep);
  write_file(folder / "summary.csv", summary_csv(rows));
  std::vector<fs::path> runs;
  std::set<std::string> with_results;
  for (const SummaryRow& row : rows)
    if (with_results.insert(row.folder).second) runs.push_back(folder / row.folder);
  if (!runs.empty()) write_joint_page(runs, folder / "report.html", Context());
  return summary_table(sweep, rows);
}

}  // namespace seigh::app
