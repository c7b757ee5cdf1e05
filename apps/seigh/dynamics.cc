// seigh dynamics: how masks and eigenspaces of a run's steps compare with each other, or with another run's.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/seigh/commands.h"
#include "apps/seigh/stage_command.h"
#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/results/dynamics_file.h"
#include "seigh/run/stages.h"

namespace seigh::app {
namespace {

// The records between which the passage lies: "100 to 200", "from 0" on where it never was below, "after
// 900".
std::string in_words(const Crystallisation::Passage& passage) {
  if (!passage.step) return passage.before ? "after " + std::to_string(*passage.before) : "-";
  if (!passage.before) return "from " + std::to_string(*passage.step);
  return std::to_string(*passage.before) + " to " + std::to_string(*passage.step);
}

double at(const at::Tensor& values, int64_t i, int64_t j) {
  return values[i][j].item<double>();
}

void print_crystallisation(const Dynamics& dynamics) {
  for (size_t reference = 0; reference < 2; ++reference) {
    bool begun = false;
    for (const DynamicsMaps& maps : dynamics.maps) {
      if (maps.crystallisation.size() <= reference) continue;
      for (size_t i = 0; i < maps.k.size(); ++i) {
        const Crystallisation& c = maps.crystallisation[reference][i];
        if (!begun) {
          std::printf(
              "%sBetween which records similarity with step %lld has gone some of the way from chance to its "
              "ceiling, to stay:\n",
              reference > 0 ? "\n" : "", static_cast<long long>(c.reference));
          std::printf("%-14s %7s %9s %9s %9s %9s", "", "rho", "k", "chance", "ceiling", "first");
          for (const auto& p : c.passages) std::printf(" %14g", p.threshold);
          std::printf("\n");
          begun = true;
        }
        std::printf("%-14s %7.3g %9lld %9.4f %9.4f %9.4f", printable(maps.name).c_str(), maps.rho[i],
                    static_cast<long long>(maps.k[i]), maps.chance[i], c.ceiling, c.similarity0);
        for (const auto& p : c.passages) std::printf(" %14s", in_words(p).c_str());
        std::printf("\n");
      }
    }
  }
}

// Of two families of eigenspaces: at the first and the last step that both have.
void print_pairs(const Dynamics& dynamics) {
  bool begun = false;
  for (const DynamicsMaps& maps : dynamics.maps) {
    if (maps.symmetric()) continue;
    std::vector<int64_t> both;
    std::ranges::set_intersection(maps.steps, maps.other_steps, std::back_inserter(both));
    if (both.empty()) continue;
    const auto place = [](const std::vector<int64_t>& steps, int64_t step) {
      return std::ranges::find(steps, step) - steps.begin();
    };
    for (size_t i = 0; i < maps.k.size(); ++i) {
      if (!begun) {
        std::printf("\nOverlap of the two at one step, the first and the last that both have:\n");
        begun = true;
      }
      const at::Tensor values = maps.values[static_cast<int64_t>(i)];
      std::printf("%-14s %7.3g %9lld %9.4f", printable(maps.name).c_str(), maps.rho[i],
                  static_cast<long long>(maps.k[i]), maps.chance[i]);
      for (const int64_t step : {both.front(), both.back()})
        std::printf("   step %lld: %.4f", static_cast<long long>(step),
                    at(values, place(maps.steps, step), place(maps.other_steps, step)));
      std::printf("\n");
    }
  }
}

void print_gradients(const Dynamics& dynamics) {
  for (const DynamicsGradient& gradient : dynamics.gradients) {
    const int64_t k = gradient.share.size(1), last = gradient.share.size(0) - 1;
    std::printf("\nShare of the %s gradient in the top space:", printable(gradient.split).c_str());
    for (const int64_t size : k > 10 ? std::vector<int64_t>{10, k} : std::vector<int64_t>{k})
      std::printf("   k = %lld: %.4f at step %lld, %.4f at step %lld", static_cast<long long>(size),
                  at(gradient.share, 0, size - 1), static_cast<long long>(gradient.steps.front()),
                  at(gradient.share, last, size - 1), static_cast<long long>(gradient.steps.back()));
    std::printf("\n");
  }
}

void print(const Dynamics& dynamics, const fs::path& path, bool json) {
  if (json) {
    std::printf("%s\n", dynamics_json(dynamics).c_str());
    return;
  }
  print_crystallisation(dynamics);
  print_pairs(dynamics);
  print_gradients(dynamics);
  std::printf("%swritten to %s\n", printable(dynamics.notes, /*keep_lines=*/true).c_str(),
              printable(path.string()).c_str());
}

}  // namespace

void add_dynamics(CLI::App& app, Action& action) {
  struct Options {
    std::string folder, data, with;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "dynamics", "How masks and eigenspaces of a run's steps compare with each other, and when they settle");
  command->add_option("RUN", options->folder, "Run folder, as seigh run made it")->required();
  command->add_option(
      "--with", options->with,
      "Another run folder of the same network and checkpoints, as of curvature.matrix = \"ggn\": "
      "compare this run's eigenspaces with its");
  command->add_flag("--json", options->json, "All maps, as JSON");
  command->footer(
      "Examples:\n  seigh dynamics runs/mnist-mini\n"
      "  seigh run recipes/mnist-mini.toml --set curvature.matrix=ggn --out runs/ggn\n"
      "  seigh dynamics runs/mnist-mini --with runs/ggn --json");
  command->callback([options, &action] {
    action = [options](const Tools& tools) {
      Run run = open_run(tools, options->folder, "", Network::unused);
      if (options->with.empty()) {
        const std::optional<Dynamics> dynamics = run.dynamics();
        if (dynamics) print(*dynamics, run.folder().dynamics(), options->json);
        return;
      }
      if (!tools.context.ranks().root()) return;
      RunFolder folder = RunFolder::view(options->with);
      for (const Item& item : folder.items())
        require(item.differs.empty(), (folder.path() / item.file).string(),
                " was made by another recipe than ", (folder.path() / "recipe.toml").string(),
                " is; go on with that run first: seigh run --resume");
      const Run other(std::move(folder), "", tools.context);
      const Dynamics dynamics = run.dynamics_with(other);
      print(dynamics, run.folder().dynamics(dynamics.other), options->json);
    };
  });
}

}  // namespace seigh::app
