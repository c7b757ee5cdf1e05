#include "apps/seigh/sweep_report.h"

#include <set>

#include "seigh/io/file.h"
#include "seigh/report/sweep_summary.h"
#include "seigh/run/sweep.h"

namespace seigh::app {
namespace {

// The page of all runs together.
void write_joint_report(const std::vector<fs::path>& /*runs*/, const fs::path& /*page*/) {}

}  // namespace

std::vector<std::string> write_sweep_report(const fs::path& folder, const Sweep& sweep) {
  const std::vector<SummaryRow> rows = sweep_rows(folder, sweep);
  write_file(folder / "summary.csv", summary_csv(rows));
  std::vector<fs::path> runs;
  std::set<std::string> with_results;
  for (const SummaryRow& row : rows)
    if (with_results.insert(row.folder).second) runs.push_back(folder / row.folder);
  write_joint_report(runs, folder / "report.html");
  return summary_table(sweep, rows);
}

}  // namespace seigh::app
