// seigh run, train, overlap, report: the stages of a recipe.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/seigh/commands.h"
#include "apps/seigh/figures.h"
#include "apps/seigh/joint_page.h"
#include "apps/seigh/stage_command.h"
#include "apps/seigh/sweep.h"
#include "apps/seigh/synthetic.h"
#include "seigh/core/context.h"
#include "seigh/core/device.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/core/printable.h"
#include "seigh/core/timer.h"
#include "seigh/recipe/options.h"
#include "seigh/report/headline.h"
#include "seigh/run/forecast.h"
#include "seigh/run/stages.h"
#include "seigh/run/sweep.h"
#include "seigh/run/synthetic.h"

namespace seigh::app {
namespace {

// The lines from the `from`-th on; returns how many there are.
size_t print_headline(const Run& run, size_t from) {
  const std::vector<std::string> lines = run.headline();
  for (size_t i = from; i < lines.size(); ++i) std::printf("%s\n", printable(lines[i]).c_str());
  std::fflush(stdout);
  return lines.size();
}

void print_pruning(const Run& run) {
  if (run.folder().recipe().prune.scores.empty()) return;
  for (const std::string& line : run.pruning()) std::printf("%s\n", printable(line).c_str());
}

void print_result(const Run& run, size_t printed = 0) {
  print_headline(run, printed);
  std::printf("report: %s\n",
              printable(fs::absolute(run.folder().report()).lexically_normal().string()).c_str());
}

}  // namespace

void print_certified(int64_t certified, int64_t of, bool strict, const std::string& details) {
  std::printf("%lld of %lld certified%s\n", static_cast<long long>(certified), static_cast<long long>(of),
              details.c_str());
  if (certified >= of) return;
  const std::string message =
      std::to_string(of - certified) + " of " + std::to_string(of) +
      " pairs are not certified: spend more products, ask for fewer pairs, or take krylov "
      "where a sketch was taken";
  if (strict) throw NotCertified{message};
  std::fflush(stdout);
  std::fprintf(stderr, "seigh: warning: %s\n", message.c_str());
}

void print_certified(const Run& run, bool strict) {
  const CertifiedPairs all = certified_pairs(run.folder(), run.plan().method);
  if (all.decompositions == 0) return;
  print_certified(all.certified, all.wanted, strict,
                  all.decompositions == 1 ? ""
                                          : " in " + std::to_string(all.decompositions) +
                                                " decompositions, least in the one with " + all.least);
}

void add_data(CLI::App* command, std::string& folder) {
  command->add_option("--data", folder,
                      "Folder of the data set; default: $SEIGH_DATA, then the usual places");
}

Context context_of(const Tools& tools, const Recipe& recipe) {
  require(tools.device.empty() || recipe.model.python.empty() || usable_device(tools.device).is_cpu(),
          "--device ", tools.device,
          ": a network in Python is computed where its function puts it; leave --device out");
  return context_for(recipe, tools.context, tools.device);
}

void require_no_device(const Tools& tools, const std::string& computes) {
  require(tools.device.empty(), "--device is for networks, ", computes, "; leave it out");
}

Run open_run(const Tools& tools, const std::string& folder, const std::string& data, Network network,
             bool shared) {
  RunFolder there = RunFolder::open(folder, shared, tools.context);
  const Context context = network == Network::computed ? context_of(tools, there.recipe()) : tools.context;
  std::shared_ptr<const Foreign> foreign;
  if (tools.trust_code) {
    Recipe recipe = there.recipe();
    foreign = make_foreign(recipe, tools.make_foreign);
  }
  return Run(std::move(there), data, context, std::move(foreign));
}

void add_stage(CLI::App& app, Action& action, const std::string& name, const std::string& description,
               Network network, const std::function<void(Run&)>& stage) {
  struct Options {
    std::string folder, data;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("RUN", options->folder, "Run folder, as seigh run made it")->required();
  add_data(command, options->data);
  command->footer("Example:\n  seigh " + name + " runs/mnist-mini");
  command->callback([options, network, stage, &action] {
    action = [options, network, stage](const Tools& tools) {
      Run run = open_run(tools, options->folder, options->data, network);
      stage(run);
    };
  });
}

void add_run(CLI::App& app, Action& action) {
  struct Options {
    std::string recipe, keys, out, data;
    bool resume = false, dry_run = false, strict = false;
    std::vector<std::string> overrides;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Do a whole recipe: train, decompose, overlap, report");
  command->add_option("RECIPE", options->recipe, "TOML file that defines the experiment");
  command->add_option("--out", options->out, "Run folder; default: runs/<name of the recipe>");
  command->add_flag(
      "--resume", options->resume,
      "Continue a run that was stopped, or redo what another recipe changes in it: what that supersedes "
      "is moved to old/ in the run folder, the rest kept");
  command->add_option("--set", options->overrides, "Override a key, as KEY=VALUE; may be repeated")
      ->take_all();
  add_data(command, options->data);
  command->add_flag("--dry-run", options->dry_run,
                    "Only say what is to be done, how, and what it takes: products, memory, disk and, if the "
                    "data are there, time; "
                    "writes nothing");
  command->add_flag("--strict", options->strict, "Exit with 3 unless all pairs asked for are certified");
  const CLI::Option* keys = command
                                ->add_option("--keys", options->keys,
                                             "List the keys a recipe may have, and exit; with a word those "
                                             "of that table, or that have it in their name")
                                ->expected(0, 1);
  command->footer(
      "Examples:\n  seigh run recipes/mnist-mini.toml --out runs/quick --set eigh.k=100 --set "
      "dense.steps=[]\n"
      "  seigh run recipes/mnist-mini.toml --out runs/quick --set eigh.k=60 --resume\n"
      "  seigh run recipes/mnist-mini.toml --dry-run\n"
      "  seigh run recipes/mnist-mini.toml --out runs/seeds --set sweep.seeds=3\n"
      "  seigh run --keys eigh");
  command->callback([options, keys, &action] {
    action = [options, list = keys->count() > 0](const Tools& tools) {
      const Context& context = tools.context;
      if (list) {
        std::fputs(recipe_reference(options->keys).c_str(), stdout);
        return;
      }
      require(!options->recipe.empty(),
              "run: RECIPE is missing; for example: seigh run recipes/mnist-mini.toml");
      std::vector<std::string> overrides = options->overrides;
      if (is_synthetic(options->recipe, overrides)) {
        require_no_device(tools, "and a synthetic study has none");
        return run_synthetic_command(tools, {.recipe = options->recipe,
                                             .out = options->out,
                                             .overrides = overrides,
                                             .resume = options->resume,
                                             .dry_run = options->dry_run});
      }
      if (!tools.device.empty()) overrides.push_back("device=\"" + tools.device + "\"");
      if (is_sweep(options->recipe, overrides))
        return run_sweep_command(tools, {.recipe = options->recipe,
                                         .out = options->out,
                                         .data = options->data,
                                         .overrides = overrides,
                                         .resume = options->resume,
                                         .dry_run = options->dry_run,
                                         .strict = options->strict});
      const Timer timer;
      Recipe recipe = load_recipe(options->recipe, overrides);
      const fs::path out = options->out.empty() ? fs::path("runs") / recipe.name : fs::path(options->out);
      const std::shared_ptr<const Foreign> foreign = make_foreign(recipe, tools.make_foreign);
      Run::check(recipe, foreign.get());
      const Context there = context_for(recipe, context);
      if (options->dry_run) {
        require(foreign == nullptr, "--dry-run knows nothing of networks in Python; run without it");
        if (!context.ranks().root()) return;
        for (const std::string& line : forecast(out, recipe, options->data, there).lines())
          std::printf("%s\n", printable(line).c_str());
        return;
      }
      Run run(RunFolder::start(out, recipe, options->resume, context), options->data, there, foreign);
      run.train();
      // What a step comes to is printed as soon as it is known.
      size_t printed = 0;
      run.eigh([&](int64_t step) {
        run.overlap(step);
        printed = print_headline(run, printed);
      });
      run.prune();
      run.dynamics(/*whatever_it_takes=*/false);
      run.report();
      print_pruning(run);
      print_result(run, printed);
      if (!context.ranks().root()) return;
      std::fprintf(stderr, "done in %.0f s, peak memory %.2f GB\n", timer.seconds(),
                   static_cast<double>(peak_memory_bytes()) / 1e9);
      print_certified(run, options->strict);
    };
  });
}

void add_train(CLI::App& app, Action& action) {
  add_stage(app, action, "train", "Train the network of a run folder and keep its checkpoints",
            Network::computed, [](Run& run) {
              run.train();
              std::printf("checkpoints: %s\n",
                          printable((run.folder().path() / "checkpoints").string()).c_str());
            });
}

void add_overlap(CLI::App& app, Action& action) {
  add_stage(app, action, "overlap",
            "Overlap of masks and eigenspaces for every decomposition of a run folder", Network::unused,
            [](Run& run) {
              run.overlap();
              for (const std::string& line : run.headline()) std::printf("%s\n", printable(line).c_str());
            });
}

void add_prune(CLI::App& app, Action& action) {
  add_stage(app, action, "prune",
            "Test accuracy of a run's network without the parameters that scores put last", Network::computed,
            [](Run& run) {
              require(!run.folder().recipe().prune.scores.empty(), run.folder().path().string(),
                      ": the recipe prunes nothing; name scores: seigh run RECIPE --resume --set "
                      "prune.scores='[\"magnitude\"]'");
              run.prune();
              print_pruning(run);
            });
}

void add_report(CLI::App& app, Action& action) {
  struct Options {
    std::vector<std::string> folders;
    std::string data, out, figures;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "report", "Write report.html from what a run folder or a sweep holds, or one page of several runs");
  command->add_option("RUN", options->folders, "Run folders, as seigh run made them")->required();
  command->add_option("--out", options->out,
                      "The page; default: report.html in the run folder or, of several, in the current one");
  command->add_option(
      "--figures", options->figures,
      "Write no page but figures for print into this folder, each as SVG and PDF: all that the "
      "run, sweep or synthetic study has data for");
  add_data(command, options->data);
  command->footer(
      "Examples:\n  seigh report runs/mnist-mini\n"
      "  seigh report runs/mnist-mini runs/quick --out both.html\n"
      "  seigh report runs/mnist-mini --figures paper/figures");
  command->callback([options, &action] {
    action = [options](const Tools& tools) {
      if (!options->figures.empty()) {
        require(options->out.empty(),
                "--figures writes no page, so --out has nothing to name; leave one of them out");
        require(options->folders.size() == 1,
                "--figures takes one folder: of a run, a sweep or a synthetic study; name a single one");
        if (!tools.context.ranks().root()) return;
        for (const std::string& line : write_figures(options->folders[0], options->figures).lines)
          std::printf("%s\n", printable(line).c_str());
        return;
      }
      if (options->folders.size() == 1 && holds_sweep(options->folders[0]))
        return report_sweep(options->folders[0], tools.context);
      if (options->folders.size() == 1 && options->out.empty() && holds_synthetic(options->folders[0])) {
        if (tools.context.ranks().root()) report_synthetic_command(options->folders[0]);
        return;
      }
      if (options->folders.size() == 1 && options->out.empty()) {
        Run run = open_run(tools, options->folders[0], options->data, Network::unused);
        run.report();
        print_result(run);
        return;
      }
      if (!tools.context.ranks().root()) return;
      const fs::path out = options->out.empty() ? "report.html" : options->out;
      write_joint_page({options->folders.begin(), options->folders.end()}, out, tools.context);
      std::printf("report: %s\n", printable(fs::absolute(out).lexically_normal().string()).c_str());
    };
  });
}

}  // namespace seigh::app
