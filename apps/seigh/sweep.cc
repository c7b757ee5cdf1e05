#include "apps/seigh/sweep.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "apps/seigh/stage_command.h"
#include "apps/seigh/sweep_report.h"
#include "apps/seigh/terminal_progress.h"
#include "seigh/core/context.h"
#include "seigh/core/device.h"
#include "seigh/core/error.h"
#include "seigh/core/memory.h"
#include "seigh/core/printable.h"
#include "seigh/core/timer.h"
#include "seigh/recipe/options.h"
#include "seigh/report/headline.h"
#include "seigh/run/forecast.h"
#include "seigh/run/sweep.h"

namespace seigh::app {
namespace {

void print_lines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) std::printf("%s\n", printable(line).c_str());
}

std::string count_of(int64_t n, const char* what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

std::string size_in_words(const Sweep& sweep) {
  return count_of(static_cast<int64_t>(sweep.runs.size()), "run") + ": " +
         count_of(static_cast<int64_t>(sweep.variants.size()), "variant") + ", " +
         count_of(sweep.seeds, "seed") +
         (sweep.subsets > 1 ? ", " + count_of(sweep.subsets, "subset") : std::string());
}

void report(const fs::path& folder, const Sweep& sweep) {
  print_lines(write_sweep_report(folder, sweep));
  std::printf("summary: %s\n",
              printable(fs::absolute(folder / "summary.csv").lexically_normal().string()).c_str());
  std::fflush(stdout);
}

void print_row(const std::string& name, const std::string& text) {
  std::printf("%-15s %s\n", name.c_str(), printable(text).c_str());
}

std::set<std::string> devices_of(const Sweep& sweep) {
  std::set<std::string> all;
  for (const SweepRun& run : sweep.runs) all.insert(run.recipe.device);
  return all;
}

// What each variant's first run would take, times its runs; those on further subsets train nothing.
void dry_run(const fs::path& folder, const Sweep& sweep, const std::string& data, const Context& context) {
  const std::vector<RunStatus> status = sweep_status(folder, sweep);
  print_row("sweep", size_in_words(sweep) + ", in " + folder.string());
  std::string devices;
  for (const std::string& device : devices_of(sweep))
    devices += (devices.empty() ? "" : ", ") + usable_device(device).str();
  print_row("device", devices);
  double seconds = 0;
  int64_t disk = 0, finished = 0;
  bool timed = true;
  for (const std::string& variant : sweep.variants) {
    int64_t left = 0, trained = 0;
    const SweepRun* first = nullptr;
    std::set<int64_t> seeds;
    for (size_t i = 0; i < sweep.runs.size(); ++i) {
      const SweepRun& run = sweep.runs[i];
      if (run.variant != variant) continue;
      if (status[i].state == RunState::finished) {
        ++finished;
        continue;
      }
      first = first == nullptr ? &run : first;
      ++left;
      trained += seeds.insert(run.seed).second ? 1 : 0;
    }
    if (first == nullptr) {
      print_row(shortened(variant), "finished");
      continue;
    }
    context.check_cancelled();
    const Forecast f =
        forecast(folder / first->folder, first->recipe, data, context_for(first->recipe, context));
    std::string line = count_of(left, "run") + ", " + format_bytes(f.disk) + " of results each";
    disk += f.disk * left;
    if (f.seconds) {
      const double training = f.training_seconds(), rest = f.all_seconds() - training;
      line += ", about " + duration(f.all_seconds()) + " each";
      seconds += training * static_cast<double>(trained) + rest * static_cast<double>(left);
    } else if (!f.obstacle.empty()) {
      timed = false;
      line += ", time not measured: " + f.obstacle;
    }
    print_row(shortened(variant), line);
  }
  if (finished > 0) print_row("finished", count_of(finished, "run"));
  print_row("disk", format_bytes(disk) + " of results");
  if (timed) print_row("time", "about " + duration(seconds) + " in all");
}

}  // namespace

void run_sweep_command(const Tools& tools, const SweepCommand& command) {
  const Context& context = tools.context;
  const Timer timer;
  Sweep sweep = load_sweep(command.recipe, command.overrides);
  const fs::path folder = command.out.empty() ? fs::path("runs") / sweep.name : fs::path(command.out);
  if (command.dry_run) {
    for (const SweepRun& run : sweep.runs)
      require(run.recipe.model.python.empty(),
              "--dry-run knows nothing of networks in Python; run without it");
  }
  check_sweep(sweep, tools.make_foreign);
  if (command.dry_run) {
    if (context.ranks().root()) dry_run(folder, sweep, command.data, context);
    return;
  }
  const auto all = static_cast<long long>(sweep.runs.size());
  int64_t certified = 0, wanted = 0, decompositions = 0;
  const SweepCalls calls = {
      .begin =
          [&](const SweepRun& run, int64_t number, double left) {
            std::fprintf(stderr, "run %lld of %lld: %s%s\n", static_cast<long long>(number), all,
                         printable(run.label(sweep.subsets)).c_str(),
                         left < 0 ? "" : ("; about " + duration(left) + " left").c_str());
          },
      .done =
          [&](const SweepRun& run, const Run& one) {
            const CertifiedPairs pairs = certified_pairs(one.folder(), one.plan().method);
            certified += pairs.certified;
            wanted += pairs.wanted;
            decompositions += pairs.decompositions;
            // The last step; the table has all.
            const std::vector<std::string> lines = one.headline();
            const size_t last = std::min(lines.size(), one.folder().recipe().curvature.splits.size());
            for (size_t i = lines.size() - last; i < lines.size(); ++i)
              std::printf("%s: %s\n", printable(run.label(sweep.subsets)).c_str(),
                          printable(lines[i]).c_str());
            std::fflush(stdout);
          },
      .failed =
          [&](const SweepRun& run, const std::string& why) {
            std::fprintf(stderr, "seigh: %s failed: %s\n", printable(run.label(sweep.subsets)).c_str(),
                         shortened(why, 1000).c_str());
          }};
  const SweepOutcome outcome =
      run_sweep(folder, sweep, command.resume, command.data, tools.make_foreign, calls, context);
  by_root(context, [&] { report(folder, sweep); });
  if (!context.ranks().root()) return;
  std::fprintf(
      stderr, "done in %.0f s, peak memory %.2f GB%s\n", timer.seconds(),
      static_cast<double>(peak_memory_bytes()) / 1e9,
      outcome.skipped > 0 ? ("; " + count_of(outcome.skipped, "run") + " finished before").c_str() : "");
  require(outcome.failed == 0, failures_in_words(outcome, sweep));
  if (decompositions > 0)
    print_certified(certified, wanted, command.strict,
                    " in " + std::to_string(decompositions) + " decompositions");
}

void show_sweep(const fs::path& folder) {
  const Sweep sweep = sweep_of(folder);
  const std::vector<RunStatus> status = sweep_status(folder, sweep);
  std::printf("%s: %s\n", printable(sweep.name).c_str(), size_in_words(sweep).c_str());
  print_lines(summary_table(sweep, sweep_rows(folder, sweep)));
  std::map<RunState, int64_t> count;
  size_t width = 0;
  for (const SweepRun& run : sweep.runs) width = std::max(width, printable(run.folder).size());
  for (const RunStatus& s : status) ++count[s.state];
  std::printf("\n%lld of %lld finished, %lld failed\n", static_cast<long long>(count[RunState::finished]),
              static_cast<long long>(status.size()), static_cast<long long>(count[RunState::failed]));
  for (size_t i = 0; i < status.size(); ++i) {
    const RunStatus& s = status[i];
    const std::string state = s.state == RunState::finished ? "finished"
                              : s.state == RunState::failed ? "failed: " + shortened(s.why, 300)
                              : s.state == RunState::begun  ? "begun"
                                                            : "not yet";
    std::printf("%-*s  %s\n", static_cast<int>(width), printable(sweep.runs[i].folder).c_str(),
                state.c_str());
  }
}

void report_sweep(const fs::path& folder, const Context& context) {
  by_root(context, [&] { report(folder, sweep_of(folder)); });
}

}  // namespace seigh::app
