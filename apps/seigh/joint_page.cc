#include "apps/seigh/joint_page.h"

#include "seigh/core/error.h"
#include "seigh/report/compared_runs.h"
#include "seigh/report/page.h"
#include "seigh/results/inventory.h"
#include "seigh/run/stages.h"

namespace seigh::app {

void write_joint_page(const std::vector<fs::path>& runs, const fs::path& page, const Context& context) {
  std::error_code none;
  if (fs::exists(page, none)) {
    try {
      read_report_data(page);
    } catch (const Error&) {
      fail(page.string(), " is there and no report page of seigh; choose another with --out");
    }
  }
  std::vector<PageRun> read;
  context.progress().begin("reading", static_cast<int64_t>(runs.size()), "runs");
  for (const fs::path& folder : runs) {
    context.check_cancelled();
    const Run run(RunFolder::view(folder), {}, context);
    for (const Item& item : run.folder().items())
      require(item.differs.empty(), (run.folder().path() / item.file).string(),
              " was made by another recipe than its recipe.toml is; redo it with seigh run ... --resume");
    read.push_back({folder.string(), run.folder().recipe(), run.page_data()});
    context.progress().advance(1);
  }
  context.progress().end();
  const std::string data = read.size() == 1 ? read[0].data : compared_runs(read);
  write_report_page(page, read.size() == 1 ? read[0].recipe.name : page_title(read), data);
}

}  // namespace seigh::app
