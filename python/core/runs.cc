#include "python/core/runs.h"

#include <chrono>
#include <cstdio>

#include "apps/seigh/command.h"
#include "apps/seigh/figures.h"
#include "apps/seigh/joint_page.h"
#include "apps/seigh/sweep_report.h"
#include "python/core/sources.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/io/safetensors.h"
#include "seigh/nn/model.h"
#include "seigh/recipe/recipe.h"
#include "seigh/recipe/sweep.h"
#include "seigh/recipe/synthetic.h"
#include "seigh/results/run_folder.h"
#include "seigh/run/stages.h"
#include "seigh/run/sweep.h"
#include "seigh/run/synthetic.h"
#ifdef SEIGH_MPI
#include "seigh/mpi/mpi.h"
#include "seigh/recipe/options.h"
#endif

namespace seigh::python {
namespace {

// What a problem is made of: make(recipe), a callable of a dictionary of the recipe's keys that are Python's.
MakeForeign maker(const py::object& make) {
  if (make.is_none()) return {};
  return [make = refer(make)](const Recipe& r) -> std::shared_ptr<const Foreign> {
    return with_gil([&] {
      py::dict keys;
      keys["model"] = r.model.python;
      keys["data"] = r.data.python;
      keys["loss"] = r.train.loss;
      keys["label_smoothing"] = r.train.label_smoothing;
      return std::make_shared<PythonForeign>((*make)(keys));
    });
  };
}

std::string run_synthetic_study(const std::string& origin, const std::vector<std::string>& set,
                                const std::string& out, bool resume, const Reference& tell,
                                const Context& context) {
  const SyntheticRecipe recipe = load_synthetic(origin, set);
  const fs::path folder = out.empty() ? fs::path("runs") / recipe.name : fs::path(out);
  if (!context.ranks().root()) return folder.string();
  for (const std::string& line : run_synthetic(folder, recipe, resume, context))
    with_gil([&] { (*tell)(line); });
  return folder.string();
}

std::string run_whole_sweep(const std::string& recipe, const std::vector<std::string>& set,
                            const std::string& out, bool resume, const std::string& data,
                            const MakeForeign& make, const Reference& tell, const Context& context) {
  const auto say = [&](const std::string& text) { with_gil([&] { (*tell)(text); }); };
  Sweep sweep = load_sweep(recipe, set);
  const fs::path folder = out.empty() ? fs::path("runs") / sweep.name : fs::path(out);
  check_sweep(sweep, make);
  const SweepCalls calls = {
      .begin =
          [&](const SweepRun& run, int64_t number, double) {
            say(text_of("run ", number, " of ", sweep.runs.size(), ": ", run.label(sweep.subsets)));
          },
      .done = {},
      .failed = [&](const SweepRun& run,
                    const std::string& why) { say(run.label(sweep.subsets) + " failed: " + why); }};
  const SweepOutcome outcome = run_sweep(folder, sweep, resume, data, make, calls, context);
  by_root(context, [&] {
    for (const std::string& text : app::write_sweep_report(folder, sweep)) say(text);
  });
  require(outcome.failed == 0, failures_in_words(outcome, sweep));
  return folder.string();
}

}  // namespace

bool interrupted() {
  thread_local std::chrono::steady_clock::time_point last;
  const auto now = std::chrono::steady_clock::now();
  if (now - last < std::chrono::milliseconds(50)) return false;
  last = now;
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() == 0) return false;
  PyErr_Clear();
  return true;
}

std::string PythonForeign::description() const {
  return with_gil([&] { return problem_->attr("description")().cast<std::string>(); });
}
std::vector<ParameterSpec> PythonForeign::parameters() const {
  return with_gil([&] { return specs_of(problem_->attr("parameters")()); });
}
std::vector<ParameterSpec> PythonForeign::buffers() const {
  return with_gil([&] { return specs_of(problem_->attr("buffers")()); });
}
std::vector<HiddenUnits> PythonForeign::hidden_units() const {
  return with_gil([&] {
    std::vector<HiddenUnits> units;
    for (const auto& [count, blocks] :
         problem_->attr("hidden_units")()
             .cast<std::vector<std::pair<int64_t, std::vector<std::tuple<size_t, int64_t, int64_t>>>>>()) {
      HiddenUnits& group = units.emplace_back(HiddenUnits{count, {}});
      for (const auto& [tensor, outer, inner] : blocks) group.blocks.push_back({tensor, outer, inner});
    }
    return units;
  });
}
int64_t PythonForeign::samples(const std::string& split) const {
  return with_gil([&] { return problem_->attr("samples")(split).cast<int64_t>(); });
}
Checkpoint PythonForeign::checkpoint(int64_t step, const fs::path& file) const {
  return with_gil([&] {
    const auto [parameters, buffers] =
        problem_->attr("checkpoint")(file.string()).cast<std::pair<at::Tensor, std::vector<at::Tensor>>>();
    Checkpoint c;
    c.step = step;
    c.parameters = parameters;
    c.buffers = buffers;
    c.loss = loss(c);
    c.train_loss = c.loss;
    c.test_accuracy = std::numeric_limits<double>::quiet_NaN();
    return c;
  });
}
double PythonForeign::loss(const Checkpoint& c) const {
  return with_gil([&] { return problem_->attr("loss")(c.parameters, c.buffers).cast<double>(); });
}
std::shared_ptr<const GraphSource> PythonForeign::source(const Checkpoint& c, const std::string& split,
                                                         int64_t samples, at::ScalarType dtype) const {
  return with_gil([&]() -> std::shared_ptr<const GraphSource> {
    return std::make_shared<PythonSource>(
        problem_->attr("source")(c.parameters, c.buffers, split, samples, dtype_name(dtype)));
  });
}
std::pair<at::Tensor, at::Tensor> PythonForeign::digest(const std::string& split, int64_t samples) const {
  return with_gil(
      [&] { return problem_->attr("digest")(split, samples).cast<std::pair<at::Tensor, at::Tensor>>(); });
}

namespace {

py::dict described(const Dynamics& dynamics) {
  py::dict found;
  py::list maps, gradients;
  for (const DynamicsMaps& m : dynamics.maps) {
    py::list passages;
    for (const auto& of_reference : m.crystallisation) {
      for (size_t i = 0; i < of_reference.size(); ++i) {
        const Crystallisation& c = of_reference[i];
        py::list thresholds, steps, before;
        for (const Crystallisation::Passage& p : c.passages) {
          thresholds.append(p.threshold);
          steps.append(p.step);
          before.append(p.before);
        }
        passages.append(py::dict(py::arg("what") = m.name, py::arg("k") = m.k[i], py::arg("rho") = m.rho[i],
                                 py::arg("reference") = c.reference, py::arg("ceiling") = c.ceiling,
                                 py::arg("similarity0") = c.similarity0, py::arg("thresholds") = thresholds,
                                 py::arg("steps") = steps, py::arg("before") = before));
      }
    }
    maps.append(py::dict(py::arg("name") = m.name, py::arg("steps") = m.steps,
                         py::arg("other_steps") = m.other_steps, py::arg("k") = m.k, py::arg("rho") = m.rho,
                         py::arg("chance") = m.chance, py::arg("values") = m.values,
                         py::arg("crystallisation") = passages));
  }
  for (const DynamicsGradient& g : dynamics.gradients)
    gradients.append(py::make_tuple(g.split, g.steps, g.share));
  found["maps"] = maps;
  found["gradients"] = gradients;
  found["parameters"] = dynamics.parameters;
  found["notes"] = dynamics.notes;
  return found;
}

}  // namespace

void define_runs(py::module_& m) {
  // A whole recipe: `text` of the file `origin`, or that file where it is None. `line` gets each line of the
  // result.
  m.def(
      "run",
      [](const std::optional<std::string>& text, const std::string& origin,
         const std::vector<std::string>& set, const std::string& out, bool resume, const std::string& data,
         const py::object& make, const py::object& line, const Context& context, bool decompose) {
        const MakeForeign make_it = maker(make);
        const Reference tell = refer(line);
        const py::gil_scoped_release released;
        if (!text && is_synthetic(origin, set)) {
          require(decompose, origin,
                  ": [synthetic] is a study without a network; seigh.run() and seigh run do it");
          return run_synthetic_study(origin, set, out, resume, tell, context);
        }
        if (!text && is_sweep(origin, set)) {
          require(decompose, origin, ": [sweep] makes a folder of runs; seigh.run() and seigh run do them");
          return run_whole_sweep(origin, set, out, resume, data, make_it, tell, context);
        }
        Recipe recipe = text ? parse_recipe(*text, origin, set) : load_recipe(origin, set);
        const fs::path folder = out.empty() ? fs::path("runs") / recipe.name : fs::path(out);
        const std::shared_ptr<const Foreign> foreign = make_foreign(recipe, make_it);
        Run::check(recipe, foreign.get());
        Run run(RunFolder::start(folder, recipe, resume, context), data, context_for(recipe, context),
                foreign);
        run.train();
        if (!decompose) return run.folder().path().string();
        size_t told = 0;
        const auto say = [&] {
          const std::vector<std::string> lines = run.headline();
          for (; told < lines.size(); ++told) with_gil([&] { (*tell)(lines[told]); });
        };
        run.eigh([&](int64_t step) {
          run.overlap(step);
          say();
        });
        say();
        run.prune();
        for (const std::string& row : run.pruning()) with_gil([&] { (*tell)(row); });
        run.dynamics(/*whatever_it_takes=*/false);
        run.report();
        return run.folder().path().string();
      },
      py::arg("text"), py::arg("origin"), py::arg("set"), py::arg("out"), py::arg("resume"), py::arg("data"),
      py::arg("make"), py::arg("line"), py::arg("context"), py::arg("decompose") = true);
  m.def("holds_run", [](const std::string& folder) { return RunFolder::view(folder, Recipe()).holds_run(); });
  m.def("read_tensors", [](const std::string& path) {
    const NamedTensors content = read_safetensors(path);
    py::dict tensors;
    for (const auto& [name, tensor] : content.tensors) tensors[name.c_str()] = tensor;
    return tensors;
  });
  m.def(
      "report",
      [](const std::string& folder, const Context& context) {
        Run run(RunFolder::open(folder, false, context), fs::path(), context);
        run.report();
        return std::make_pair(run.folder().report().string(), run.headline());
      },
      py::call_guard<py::gil_scoped_release>());
  m.def(
      "joint_report",
      [](const std::vector<std::string>& folders, const std::string& page, const Context& context) {
        by_root(context, [&] { app::write_joint_page({folders.begin(), folders.end()}, page, context); });
      },
      py::call_guard<py::gil_scoped_release>());
  m.def(
      "figures",
      [](const std::string& folder, const std::string& to, const Context& context) {
        std::vector<std::string> files, lines;
        by_root(context, [&] {
          const FiguresWritten written = app::write_figures(folder, to);
          for (const fs::path& file : written.files) files.push_back(file.string());
          lines = written.lines;
        });
        return std::make_pair(files, lines);
      },
      py::call_guard<py::gil_scoped_release>());
  m.def("dynamics", [](const std::string& folder, const std::string& other, const Context& context) {
    std::string path;
    const Dynamics found = [&] {
      const py::gil_scoped_release released;
      Run run(RunFolder::open(folder, false, context), fs::path(), context);
      path = run.folder().dynamics().string();
      if (other.empty()) return run.dynamics().value_or(Dynamics());
      Dynamics both = run.dynamics_with(Run(RunFolder::view(other), fs::path(), context));
      path = run.folder().dynamics(both.other).string();
      return both;
    }();
    return std::make_pair(described(found), path);
  });
  m.def("command", [](std::vector<std::string> words, const py::object& make) {
    app::CommandOptions options;
    options.cancelled = interrupted;
    options.make_foreign = maker(make);
    const py::gil_scoped_release released;
#ifdef SEIGH_MPI
    options.ranks = start_mpi();
#endif
    if (!options.ranks->root() && std::freopen("/dev/null", "w", stdout) == nullptr) return 1;
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    const int code = app::run_command(static_cast<int>(arguments.size()), arguments.data(), options);
    std::fflush(nullptr);
#ifdef SEIGH_MPI
    stop_mpi(code);
#endif
    return code;
  });
}

}  // namespace seigh::python
