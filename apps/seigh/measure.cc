// seigh measure, recover, verify: the products of a run apart from what is made of them.
#include <cstdio>
#include <memory>
#include <string>

#include "apps/seigh/commands.h"
#include "apps/seigh/stage_command.h"
#include "seigh/core/error.h"
#include "seigh/run/stages.h"

namespace seigh::app {
namespace {

struct Options {
  std::string folder, data, shard;
  int64_t columns = 2;
  bool repair = false, strict = false;
};

// "3/16": the third of sixteen, as 2 and 16.
std::pair<int64_t, int64_t> parse_shard(const std::string& text) {
  if (text.empty()) return {0, 1};
  long long part = 0, parts = 0;
  int used = 0;
  const bool read = std::sscanf(text.c_str(), "%lld/%lld%n", &part, &parts, &used) == 2 &&
                    used == static_cast<int>(text.size());
  constexpr long long kMost = 1'000'000;
  require(read && 1 <= part && part <= parts && parts <= kMost,
          "--shard must be a part and their number, as 3/16, not \"", text, "\"");
  return {part - 1, parts};
}

CLI::App* add(CLI::App& app, const std::shared_ptr<Options>& o, const char* name, const char* description) {
  CLI::App* command = app.add_subcommand(name, description);
  command
      ->add_option("RUN", o->folder, "Run folder with its checkpoints, as seigh run or seigh train made it")
      ->required();
  add_data(command, o->data);
  return command;
}

}  // namespace

void add_measure(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = add(app, o, "measure",
                          "Only the matrix-vector products of a run, or a part of them, for seigh recover");
  command->add_option("--shard", o->shard, "The part to measure, as 3/16; default: all that is missing");
  command->footer(
      "Several processes may measure in one folder: they share the work. On several machines, copy the run "
      "folder, give "
      "each\nmachine its --shard, and copy the files of partial/ back.\n"
      "Examples:\n  seigh measure runs/mnist-mini\n  seigh measure runs/mnist-mini --shard 1/2");
  command->callback([o, &action] {
    action = [o](const Tools& tools) {
      const auto [part, parts] = parse_shard(o->shard);
      Run run = open_run(tools, o->folder, o->data, Network::computed, /*shared=*/true);
      run.measure(part, parts);
      std::printf("measurements: %s\n", (run.folder().path() / "partial").c_str());
    };
  });
}

void add_recover(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      add(app, o, "recover", "Eigenpairs from the products measured so far, be they fewer than planned");
  command->add_flag("--strict", o->strict, "Exit with 3 unless all pairs asked for are certified");
  command->footer("Example:\n  seigh recover runs/mnist-mini");
  command->callback([o, &action] {
    action = [o](const Tools& tools) {
      Run run = open_run(tools, o->folder, o->data, Network::computed);
      const std::vector<std::string> lines = run.recover();
      for (const std::string& line : lines) std::printf("%s\n", line.c_str());
      if (lines.empty()) std::printf("nothing to recover: no measurements without a decomposition\n");
      print_certified(run, o->strict);
    };
  });
}

void add_verify(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      add(app, o, "verify", "Check the measurements of a run: checksums, and columns measured anew");
  command
      ->add_option(
          "--columns", o->columns,
          "Columns of each matrix to measure anew, at random; 0: checksums only, which needs no data")
      ->capture_default_str();
  command->add_flag("--repair", o->repair,
                    "Remove what is damaged; seigh run --resume or seigh measure makes it again");
  command->footer(
      "Examples:\n  seigh verify runs/mnist-mini\n  seigh verify runs/mnist-mini --columns 0 --repair");
  command->callback([o, &action] {
    action = [o](const Tools& tools) {
      constexpr int64_t kMost = 1'000'000;
      require(0 <= o->columns && o->columns <= kMost, "--columns must lie between 0 and ", kMost, ", not ",
              o->columns);
      // Checksums need no network.
      Run run = open_run(tools, o->folder, o->data, o->columns > 0 ? Network::computed : Network::unused);
      const std::vector<std::string> damaged = run.verify(o->columns, o->repair);
      for (const std::string& line : damaged) std::printf("%s\n", line.c_str());
      require(damaged.empty(), damaged.size(), " of the measurements are damaged",
              o->repair ? " and have been removed; make them again with seigh run --resume or seigh measure"
                        : "; remove them with --repair");
      std::printf("all measurements are sound\n");
    };
  });
}

}  // namespace seigh::app
