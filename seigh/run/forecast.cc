#include "seigh/run/forecast.h"

#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <utility>

#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"
#include "seigh/core/timer.h"
#include "seigh/curvature/check.h"
#include "seigh/curvature/model_source.h"
#include "seigh/eigen/seigh.h"
#include "seigh/nn/subset.h"
#include "seigh/recipe/options.h"
#include "seigh/recipe/own_network.h"
#include "seigh/results/finished.h"
#include "seigh/run/data.h"
#include "seigh/run/pruning.h"

namespace seigh {
namespace {

constexpr double kEnough = 0.3;  // seconds of a measurement

// Seconds of a call, the first one, which warms up, apart where that is affordable.
template <typename Call>
double seconds_of(const Call& call) {
  Timer timer;
  call();
  const double first = timer.seconds();
  if (first > kEnough) return first;
  timer = Timer();
  int calls = 0;
  do {
    call();
    ++calls;
  } while (timer.seconds() < kEnough);
  return timer.seconds() / calls;
}

at::Tensor random_block(int64_t rows, int64_t columns, at::ScalarType dtype) {
  return at::randn({columns, rows}, at::TensorOptions().dtype(dtype)).t();
}

// Multiplications of tall blocks with small ones, which the algebra beside products mostly is: flops a
// second.
double algebra_rate(int64_t dimension, int64_t columns, at::ScalarType dtype) {
  const int64_t rows = std::min<int64_t>(dimension, 100'000), width = std::clamp<int64_t>(columns, 1, 256);
  const at::Tensor x = random_block(rows, width, dtype);
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(width * width);
  return flops / seconds_of([&] { at::matmul(x.t(), x); });
}

// Of a whole matrix in float64, from one that is decomposed in a moment.
double whole_decomposition(int64_t dimension) {
  const int64_t small = std::min<int64_t>(dimension, 700);
  const at::Tensor x = at::randn({small, small}, at::TensorOptions().dtype(at::kDouble));
  const double seconds = seconds_of([&, a = at::matmul(x, x.t())] { at::linalg_eigh(a); });
  return seconds * std::pow(static_cast<double>(dimension) / static_cast<double>(small), 3);
}

double seconds_of_a_product(LinearOperator& h, int64_t products) {
  const int64_t columns = std::clamp<int64_t>(h.preferred_block(), 1, std::max<int64_t>(products, 1));
  const at::Tensor block = random_block(h.size(), columns, h.dtype());
  return seconds_of([&] { h.apply(block); }) / static_cast<double>(columns);
}

// A product of SEIGH's with what is made of it at once: the test matrices take their time.
double seconds_of_a_measurement(LinearOperator& h, const Recipe& r, int64_t products,
                                const Context& context) {
  SketchPlan plan = sketch_plan(solver_options(r), h.name(), h.size(), h.dtype());
  plan.k = plan.s = std::clamp<int64_t>(h.preferred_block(), 1, std::max<int64_t>(products, 1));
  return seconds_of([&] { seigh::measure(h, plan, context); }) / static_cast<double>(plan.s);
}

// Of one step, from as many as are quickly done.
double seconds_of_a_step(const Model& model, const DataSplits& data, TrainOptions options,
                         const Checkpoint& start, const Context& context) {
  options.checkpoint_steps.clear();
  const auto train_for = [&](int64_t steps) {
    options.steps = steps;
    const Timer timer;
    train(
        model, data, options, start, [](const Checkpoint&) {}, context);
    return timer.seconds();
  };
  const double first = train_for(1);
  if (first > kEnough) return first;
  const int64_t steps = std::clamp<int64_t>(static_cast<int64_t>(kEnough / first), 2, 100);
  return train_for(steps) / static_cast<double>(steps);
}

Forecast::Seconds measure(const Forecast& f, const Recipe& r, const RunFolder& folder, const Model& model,
                          const Loss& loss, const DataSplits& data, const ParameterSubset& subset,
                          const Context& context) {
  Forecast::Seconds seconds;
  Checkpoint at;
  at.parameters = model.initial_parameters(static_cast<uint64_t>(r.seed));
  at.buffers = model.initial_buffers();
  const c10::Device device = context.device();
  if (f.trained && !f.training.empty())
    seconds.step = seconds_of_a_step(model, data, train_options(r, loss), at, context);
  if (!f.training.empty()) {
    // Of an own network's, the first thousand samples (brought_checkpoint()).
    const int64_t all = f.trained ? data.test.size() : std::min<int64_t>(data.test.size(), 1000);
    const int64_t some = std::min<int64_t>(all, 500);
    const Dataset part{data.test.x.slice(0, 0, some), data.test.y.slice(0, 0, some), data.test.classes};
    const at::Tensor parameters = at.parameters.to(device);
    const std::vector<at::Tensor> buffers = moved(at.buffers, device);
    const Timer timer;
    accuracy(model, parameters, buffers, part, context);
    seconds.accuracy = timer.seconds() * static_cast<double>(all) / static_cast<double>(some);
  }
  if (!f.decompositions.empty()) {
    const Decomposition& d = f.decompositions.back();
    for (const Item& item : f.items) {  // better parameters than the initial ones
      if (item.stage == Stage::train && item.differs.empty() && item.step == d.step)
        at = finished_checkpoint(folder, model, item.step);
    }
    const auto matrix = [&](at::ScalarType dtype, int64_t reserve, double& check) {
      CurvatureOptions options = curvature_options(r, loss);
      options.dtype = dtype;
      options.reserve = reserve;
      const Dataset& part = named_part(data, d.split);
      const auto source = [&] {
        const Context::Scope scope(context);
        return std::make_shared<ModelSource>(model, at.parameters.to(device), moved(at.buffers, device),
                                             part.select(curvature_samples(r, part, d.split)).on(device),
                                             loss, dtype, "the matrix");
      }();
      const Timer timer;
      auto h = make_checked_operator(source, options, "the matrix", context);
      check = timer.seconds();
      return h;
    };
    const bool exact = f.exact.products > 0;
    if (f.plan.method != Method::dense) {
      const auto h = matrix(eigh_dtype(r), f.solver.memory, seconds.check);
      seconds.product = f.plan.method == Method::seigh
                            ? seconds_of_a_measurement(*h, r, f.solver.products, context)
                            : seconds_of_a_product(*h, f.solver.products);
      seconds.algebra = f.solver.flops / algebra_rate(subset.count, r.eigh.k, eigh_dtype(r));
    }
    if (exact) {
      const auto h = matrix(at::kDouble, f.exact.memory, seconds.exact_check);
      seconds.exact_product = seconds_of_a_product(*h, subset.count);
      seconds.exact_algebra = whole_decomposition(subset.count);
    }
  }
  if (f.overlaps > 0) {
    const double k = static_cast<double>(r.eigh.k);
    seconds.overlap =
        2.0 * static_cast<double>(subset.count) * k * k / algebra_rate(subset.count, r.eigh.k, eigh_dtype(r));
  }
  return seconds;
}

int64_t free_bytes(fs::path folder) {
  std::error_code none;
  folder = fs::absolute(folder);
  while (!fs::exists(folder, none) && folder.has_parent_path() &&
         folder.parent_path().string() != folder.string())
    folder = folder.parent_path();
  const fs::space_info space = fs::space(folder, none);
  return none ? 0 : static_cast<int64_t>(space.available);
}

std::string list(const std::vector<int64_t>& steps) {
  std::string text;
  constexpr size_t kMost = 8;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (i == kMost && steps.size() > kMost + 1) return text + ", ..., " + std::to_string(steps.back());
    text.append(i > 0 ? ", " : "").append(std::to_string(steps[i]));
  }
  return text;
}

std::string about(double seconds) {
  char text[40];
  if (seconds < 0.1) return "less than 0.1 s";
  if (seconds < 100) {
    std::snprintf(text, sizeof(text), "about %.2g s", seconds);
  } else if (seconds < 5400) {
    std::snprintf(text, sizeof(text), "about %.0f min", seconds / 60);
  } else {
    std::snprintf(text, sizeof(text), "about %.1f h", seconds / 3600);
  }
  return text;
}

std::string each(double seconds) {
  char text[40];
  std::snprintf(text, sizeof(text), seconds < 1 ? "%.2g ms" : "%.3g s",
                seconds < 1 ? 1000 * seconds : seconds);
  return text;
}

}  // namespace

double Forecast::training_seconds() const {
  double sum = 0;
  for (const Stretch& s : training) {
    const int64_t steps = trained ? s.checkpoints.back() - s.from.value_or(0) : 0;
    sum += static_cast<double>(steps) * seconds->step +
           static_cast<double>(s.checkpoints.size()) * seconds->accuracy;
  }
  return sum;
}

double Forecast::solver_seconds() const {
  return static_cast<double>(solver.products) * seconds->product + seconds->check + seconds->algebra;
}

double Forecast::exact_seconds() const {
  return static_cast<double>(exact.products) * seconds->exact_product + seconds->exact_check +
         seconds->exact_algebra;
}

double Forecast::all_seconds() const {
  double sum = training_seconds() + static_cast<double>(overlaps) * seconds->overlap;
  for (const Decomposition& d : decompositions)
    sum += d.method == Method::dense ? exact_seconds() : solver_seconds();
  return sum;
}

std::vector<std::string> Forecast::lines() const {
  std::vector<std::string> all;
  const auto add = [&](const std::string& head, const std::string& text) {
    all.push_back(head + std::string(head.size() < 16 ? 16 - head.size() : 1, ' ') + text);
  };
  const auto timed = [&](const auto& text) { return seconds ? text() : std::string(); };
  add("folder", folder.string() + (there ? " holds a run: continue it with --resume" : " is not there yet"));
  for (const std::string& line : in_words(items))
    add("",
        line + (line.starts_with("kept")
                    ? ""
                    : "; would be moved to " + (folder / place_for_old(folder, superseded(items))).string()));
  add("network", network + ", matrices over " + std::to_string(parameters) + " parameters");

  std::vector<int64_t> checkpoints;
  int64_t steps = 0;
  for (const Stretch& s : training) {
    checkpoints.insert(checkpoints.end(), s.checkpoints.begin(), s.checkpoints.end());
    if (trained) steps += s.checkpoints.back() - s.from.value_or(0);
  }
  std::sort(checkpoints.begin(), checkpoints.end());
  if (checkpoints.empty()) {
    add("training", "nothing to do");
  } else {
    add("training", (trained ? std::to_string(steps) + " steps" : "from files") + ", to checkpoints " +
                        list(checkpoints) + timed([&] {
                          return (trained ? ": " + each(seconds->step) + " a step, " : ": ") +
                                 about(training_seconds());
                        }));
  }

  const auto with = [&](bool is_exact) {
    return std::count_if(decompositions.begin(), decompositions.end(),
                         [&](const Decomposition& d) { return (d.method == Method::dense) == is_exact; });
  };
  const auto describe = [&](const char* head, int64_t count, const EighPlan& how, double product,
                            double check, double whole) {
    if (count == 0) return;
    add(head, std::to_string(count) + (count == 1 ? " by " : ", each by ") + how.text());
    if (!seconds) return;
    // check.h
    add("", each(product) + " a product, " + each(check) +
                " the check of the matrix by two further ones and differences of the gradient");
    add("", about(whole) + (count == 1 ? "" : " each"));
  };
  if (decompositions.empty()) add("decompositions", "nothing to do");
  describe("decompositions", with(false), solver, seconds ? seconds->product : 0,
           seconds ? seconds->check : 0, seconds ? solver_seconds() : 0);
  describe(plan.method == Method::dense ? "decompositions" : "exact", with(true), exact,
           seconds ? seconds->exact_product : 0, seconds ? seconds->exact_check : 0,
           seconds ? exact_seconds() : 0);
  add("overlap", overlaps == 0
                     ? std::string("nothing to do")
                     : std::to_string(overlaps) + (overlaps == 1 ? " curve" : " sets of curves") + timed([&] {
                         return ": " + about(static_cast<double>(overlaps) * seconds->overlap);
                       }));
  if (pruned > 0)
    add("pruning", text_of(pruned, pruned == 1 ? " mask" : " masks", ", each the test data twice",
                           fine_tuning > 0 ? text_of(" and ", fine_tuning, " steps of training") : "",
                           "; not in the time below"));
  const int64_t memory = std::max(with(false) > 0 ? solver.memory : 0, with(true) > 0 ? exact.memory : 0);
  add("memory", format_bytes(memory) + " for the decomposition" +
                    timed([&] { return ", " + format_bytes(measured_memory) + " for a block of products"; }) +
                    "; " + format_bytes(available_memory) + " are available" +
                    (memory >= available_memory ? ": too little, so the run would be refused" : ""));
  add("device", device +
                    (measured_on_device > 0 ? ", " + format_bytes(measured_on_device) +
                                                  " of its memory for training and products"
                                            : std::string()) +
                    (available_on_device > 0 ? "; " + format_bytes(available_on_device) + " are available"
                                             : std::string()));
  add("disk", format_bytes(disk) + " of results" +
                  (meanwhile > 0 ? ", " + format_bytes(meanwhile) + " more meanwhile" : "") + "; " +
                  format_bytes(free_disk) + " are free" +
                  (disk + meanwhile > free_disk ? ": too little" : ""));
  if (seconds) {
    add("time", about(all_seconds()) + (adaptive ? ", less where what is asked for is reached early" : ""));
  } else {
    add("time", obstacle.empty() ? std::string("none") : "not measured: " + obstacle);
  }
  return all;
}

Forecast forecast(const fs::path& path, const Recipe& r, const fs::path& data_folder,
                  const Context& everybody) {
  const Context context = everybody.alone();  // only the root is here
  const Context::Scope scope(context);
  Forecast f;
  const RunFolder folder = RunFolder::view(path, r);
  f.folder = path;
  f.there = folder.holds_run();
  f.items = folder.items();
  const std::unique_ptr<Model> model = make_model(r);
  const ParameterSubset subset = select_parameters(model->parameters(), r.curvature.parameters);
  const Loss loss = make_loss(r);
  f.network = model->description();
  f.parameters = subset.count;
  f.trained = !brings_weights(r);
  f.adaptive = r.eigh.tolerance > 0 || r.eigh.error > 0;
  f.available_memory = context.memory().available();
  f.free_disk = free_bytes(path);
  f.device = context.device().str();
  DeviceMemory device_memory(context.device(), context.device_memory());
  f.available_on_device = device_memory.available();
  const int64_t beside = basis_memory(context.device(), context);

  std::set<std::string> kept;
  std::vector<int64_t> there, missing;
  for (const Item& item : f.items) {
    if (!item.differs.empty() || !item.finished) continue;
    kept.insert((path / item.file).string());
    if (item.stage == Stage::train) there.push_back(item.step);
  }
  const auto is_kept = [&](const fs::path& file) { return kept.contains(file.string()); };
  for (const int64_t step : r.train.checkpoints)
    if (!is_kept(folder.checkpoint(step))) missing.push_back(step);
  f.training = training_stretches(missing, there);

  const auto eigen = [&](const Decomposition& d) {
    return folder.eigen(d.step, d.split, to_string(d.method));
  };
  SolverOptions solver = solver_options(r);
  f.plan.parameters = subset.count;
  const auto method = method_there(r, [&](const Decomposition& d) { return is_kept(eigen(d)); });
  f.plan.method =
      method ? *method
             : plan_eigh(subset.count, eigh_dtype(r), solver, f.available_memory, context.ranks(), beside)
                   .method;
  f.plan.decompositions = decompositions(r, f.plan.method);
  for (const Decomposition& d : f.plan.decompositions) {
    if (!is_kept(eigen(d))) f.decompositions.push_back(d);
    if (!is_kept(folder.overlap(d.step, d.split, to_string(d.method)))) ++f.overlaps;
  }
  std::vector<PruningRow> rows;
  if (is_kept(folder.pruning())) rows = pruning_there(folder).rows;
  f.pruned = static_cast<int64_t>(missing_rows(r, rows).size());
  f.fine_tuning = r.prune.fine_tune;
  const bool by_choice = r.eigh.method == Method::automatic && !method;
  solver.state = path / "partial";
  if (!by_choice) solver.method = f.plan.method;  // for its reason, where it was chosen
  f.solver =
      plan_eigh(subset.count, eigh_dtype(r), solver, f.available_memory / 5 * 3, context.ranks(), beside);
  solver.method = Method::dense;
  solver.tolerance = solver.error = 0;
  // Not of a matrix too large for it.
  if (std::any_of(f.decompositions.begin(), f.decompositions.end(),
                  [](const Decomposition& d) { return d.method == Method::dense; }))
    f.exact =
        plan_eigh(subset.count, at::kDouble, solver, f.available_memory / 5 * 3, context.ranks(), beside);
  if (f.plan.method == Method::dense) f.exact.reason = f.solver.reason;

  int64_t states = 1;  // of a checkpoint: parameters, and what the optimizer remembers
  if (f.trained) states += r.train.optimizer == "adamw" ? 2 : r.train.momentum > 0 ? 1 : 0;
  f.disk = 4 * model->parameter_count() * states * static_cast<int64_t>(missing.size());
  for (const Decomposition& d : f.decompositions) {
    const bool wide = d.method == Method::dense || eigh_dtype(r) == at::kDouble;
    if (r.eigh.vectors) f.disk += r.eigh.k * subset.count * (wide ? 8 : 4);
    if (d.method != Method::dense) f.meanwhile = f.solver.disk;
  }

  if (missing.empty() && f.decompositions.empty() && f.overlaps == 0) return f;
  DataSplits data;
  try {
    data = placed(checked_data(r, *model, loss, data_folder, context), context);
  } catch (const Error& error) {
    f.obstacle = error.what();
    return f;
  }
  context.memory().reset_peak();
  const int64_t before = context.memory().held(), before_there = device_memory.held();
  device_memory.reset_peak();
  try {
    f.seconds = measure(f, r, folder, *model, loss, data, subset, context);
  } catch (const Error& error) {
    f.obstacle = error.what();
  }
  f.measured_memory = context.memory().peak() - before;
  f.measured_on_device = device_memory.most() - before_there;
  return f;
}

}  // namespace seigh
