// The runs of a sweep, one after the other, in one folder.
//
//   recipe.toml     the sweep as it was written, with what was set on top of it
//   <run>/          one ordinary run folder a run ("learning_rate=0.1-seed-3-subset-1"), for every command
//   failures.json   of the runs that failed when they were last tried: {"<run>": "why"}
//   summary.csv     one line a run, step and split (seigh/report/sweep_summary.h)
//
// Runs whose training is the same, as those that differ in subsets or in eigh, train once: checkpoints are
// hard links to the other run's where these say that the same keys decided them (or copies, on file systems
// without links). Files are never changed in place, so a link is as good as a copy.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/recipe/sweep.h"
#include "seigh/report/sweep_summary.h"
#include "seigh/run/foreign.h"
#include "seigh/run/stages.h"

namespace seigh {

/// Is `folder` one of a sweep? False where it cannot be told.
bool holds_sweep(const fs::path& folder);
/// The sweep that `folder` is of. Throws Error.
Sweep sweep_of(const fs::path& folder);

enum class RunState { absent, begun, failed, finished };
struct RunStatus {
  RunState state = RunState::absent;
  std::string why;  ///< it failed
};
/// How far every run of a sweep has come, in their order.
std::vector<RunStatus> sweep_status(const fs::path& folder, const Sweep& sweep);

/// What is told on the way, by the root alone; each may be empty.
struct SweepCalls {
  /// `number` counts from 1; `seconds_left` is for all runs to come, -1: not known yet.
  std::function<void(const SweepRun&, int64_t number, double seconds_left)> begin;
  std::function<void(const SweepRun&, const Run&)> done;
  std::function<void(const SweepRun&, const std::string& why)> failed;
};

struct SweepOutcome {
  int64_t skipped = 0;  ///< finished before
  int64_t done = 0, failed = 0;
};

/// Makes what the runs' recipes leave open known, and checks every one of them as Run::check does. Throws
/// Error.
void check_sweep(Sweep& sweep, const MakeForeign& make_foreign);
/// Does every run that is not finished; one that fails (Error) is told and written down, the others go on.
/// For all ranks together: there only what fails in the root's own part (training, overlap) lets the others
/// go on. `sweep` has been through check_sweep(). Throws Error when `folder` holds something else, when
/// another process works in it, and without `resume` when it holds this sweep.
SweepOutcome run_sweep(const fs::path& folder, const Sweep& sweep, bool resume, const fs::path& data_folder,
                       const MakeForeign& make_foreign, const SweepCalls& calls, const Context& context);
/// "3 of 15 runs failed ...", and what to do about it.
std::string failures_in_words(const SweepOutcome& outcome, const Sweep& sweep);

/// The rows of all runs that are there, and agree with the sweep. Throws Error on damaged files.
std::vector<SummaryRow> sweep_rows(const fs::path& folder, const Sweep& sweep);

}  // namespace seigh
