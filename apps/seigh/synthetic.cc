#include "apps/seigh/synthetic.h"

#include <cstdio>

#include "apps/seigh/terminal_progress.h"
#include "seigh/core/context.h"
#include "seigh/core/memory.h"
#include "seigh/core/printable.h"
#include "seigh/core/timer.h"
#include "seigh/run/synthetic.h"

namespace seigh::app {
namespace {

void print_lines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) std::printf("%s\n", printable(line).c_str());
}

void print_result(const fs::path& folder, const std::vector<std::string>& lines) {
  print_lines(lines);
  std::printf("report: %s\n",
              printable(fs::absolute(folder / "report.html").lexically_normal().string()).c_str());
}

// Two of the pairs say how long all take.
void dry_run(const fs::path& folder, const SyntheticRecipe& recipe, const Context& context) {
  SyntheticOptions few = recipe.options;
  few.pairs = 2;
  const Timer timer;
  const SyntheticStudy study = synthetic_study(few, static_cast<uint64_t>(recipe.seed), context);
  const auto pairs = static_cast<double>(recipe.options.pairs), cells = static_cast<double>(study.k.numel());
  std::printf("synthetic       %lld cells of %lld pairs of each kind, in %s\n",
              static_cast<long long>(study.k.numel()), static_cast<long long>(recipe.options.pairs),
              printable(folder.string()).c_str());
  std::printf("disk            %s of results\n",
              format_bytes(static_cast<int64_t>(8 * study.values.size(0) * study.values.size(1)) *
                           static_cast<int64_t>(cells * (pairs + 5)))
                  .c_str());
  std::printf("time            about %s\n", duration(timer.seconds() * pairs / 2).c_str());
}

}  // namespace

void run_synthetic_command(const Tools& tools, const SyntheticCommand& command) {
  if (!tools.context.ranks().root()) return;  // nothing to share out
  const Timer timer;
  const SyntheticRecipe recipe = load_synthetic(command.recipe, command.overrides);
  const fs::path folder = command.out.empty() ? fs::path("runs") / recipe.name : fs::path(command.out);
  if (command.dry_run) return dry_run(folder, recipe, tools.context);
  print_result(folder, run_synthetic(folder, recipe, command.resume, tools.context));
  std::fprintf(stderr, "done in %.0f s, peak memory %.2f GB\n", timer.seconds(),
               static_cast<double>(peak_memory_bytes()) / 1e9);
}

void report_synthetic_command(const fs::path& folder) {
  print_result(folder, report_synthetic(folder));
}

void show_synthetic(const fs::path& folder) {
  print_lines(synthetic_in_words(folder));
}

}  // namespace seigh::app
