#include "seigh/run/stages.h"

#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "seigh/base/error.h"
#include "seigh/base/memory_pool.h"
#include "seigh/base/timer.h"
#include "seigh/curvature/make.h"
#include "seigh/eigen/dense.h"
#include "seigh/overlap/curves.h"
#include "seigh/report/eigen_file.h"
#include "seigh/report/overlap_file.h"
#include "seigh/report/page.h"
#include "seigh/run/finished.h"
#include "seigh/run/options.h"
#include "seigh/run/own_network.h"
#include "seigh/run/report_data.h"

namespace seigh {
namespace {

std::string label(int64_t step, const std::string& split, const std::string& what) {
  return "step " + std::to_string(step) + " " + split + " " + what;
}

const Dataset& named_part(const DataSplits& data, const std::string& name) {
  return name == "train" ? data.train : name == "test" ? data.test : data.validation;
}

// Is `data` what the page says already?
bool report_shows(const std::filesystem::path& page, const std::string& data) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(page, none)) return false;
  try {
    const auto shown = nlohmann::json::parse(read_report_data(page), nullptr, /*allow_exceptions=*/false);
    return shown == nlohmann::json::parse(data);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

struct Run::Decomposition {
  int64_t step;
  std::string split, method;
};

Run::Run(RunFolder folder, const std::filesystem::path& data_folder, Progress& progress)
    : folder_(std::move(folder)),
      data_folder_(data_folder),
      model_(make_model(folder_.recipe())),
      subset_(select_parameters(model_->parameters(), folder_.recipe().curvature.parameters)),
      loss_(make_loss(folder_.recipe())),
      progress_(progress) {
  check(folder_.recipe(), subset_, loss_);
  method_ = choose_method();
}

// The recipe's method; where that is auto, the one whose files are there already.
std::string Run::choose_method() const {
  const Recipe& r = folder_.recipe();
  if (parse_method(r.eigh.method) != Method::automatic) return r.eigh.method;
  for (const Method method : methods()) {
    for (const int64_t step : r.curvature.steps) {
      for (const std::string& split : r.curvature.splits) {
        std::error_code none;
        const bool exact = std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step);
        if ((method != Method::dense || !exact) &&
            std::filesystem::exists(folder_.eigen(step, split, to_string(method)), none))
          return to_string(method);
      }
    }
  }
  return to_string(plan_eigh(subset_.count, eigh_dtype(r), eigh_options(r), available_memory()).method);
}

void Run::check(const Recipe& r) {
  check(r, select_parameters(make_model(r)->parameters(), r.curvature.parameters), make_loss(r));
}

void Run::check(const Recipe& r, const ParameterSubset& subset, const Loss& loss) {
  train_options(r, loss);
  eigh_options(r).validate(subset.count);
  curvature_options(r, loss).validate();
}

const DataSplits& Run::data() {
  if (!data_) {
    const Recipe& r = folder_.recipe();
    DataSplits loaded = load_data(r, data_folder_);
    // All that the recipe asks of the data, now rather than after the training.
    if (!r.model.module.empty()) probe(r, *model_, loss_, loaded);
    if (!brings_weights(r)) train_options(r, loss_).validate(loaded.train.size());
    for (const std::string& name : r.curvature.splits) {
      const Dataset& part = named_part(loaded, name);
      try {
        curvature_samples(r, part);
      } catch (const Error& error) {
        fail("curvature.samples, split \"", name, "\": ", error.what());
      }
    }
    data_ = std::move(loaded);
    folder_.log("data", {{"name", data_->name},
                         {"source", data_->source},
                         {"train", data_->train.size()},
                         {"test", data_->test.size()}});
  }
  return *data_;
}

const Dataset& Run::split(const std::string& name) {
  return named_part(data(), name);
}

void Run::train() {
  const Recipe& r = folder_.recipe();
  // Continue from the last checkpoint before the first missing one.
  const std::vector<int64_t>& steps = r.train.checkpoints;
  std::error_code none;
  const auto missing = std::find_if(steps.begin(), steps.end(), [&](int64_t step) {
    return !std::filesystem::exists(folder_.checkpoint(step), none);
  });
  if (missing == steps.end()) return;
  Checkpoint start;
  if (missing == steps.begin()) {
    start.parameters = model_->initial_parameters(static_cast<uint64_t>(r.seed));
    start.buffers = model_->initial_buffers();
  } else {
    start = finished_checkpoint(folder_, *model_, *(missing - 1));
  }
  TrainOptions options = train_options(r, loss_);
  options.checkpoint_steps.assign(missing, steps.end());
  const Timer timer;
  folder_.log("train", {{"from", start.step}, {"to", options.steps}});
  const auto save = [&](const Checkpoint& c) {
    require(c.parameters.isfinite().all().item<bool>(),
            "training diverged: a parameter is not finite at step ", c.step,
            "; lower train.learning_rate (now ", r.train.learning_rate, ")");
    write_checkpoint(folder_.checkpoint(c.step), *model_, c);
    folder_.log("checkpoint", {{"step", c.step},
                               {"loss", c.loss},
                               {"test_accuracy", c.test_accuracy},
                               {"seconds", timer.seconds()}});
  };
  if (brings_weights(r)) {
    for (auto step = missing; step != steps.end(); ++step)
      save(brought_checkpoint(r, *model_, loss_, data(), *step));
    return;
  }
  seigh::train(*model_, data(), options, std::move(start), save, progress_);
}

std::vector<Run::Decomposition> Run::decompositions() const {
  const Recipe& r = folder_.recipe();
  std::vector<Decomposition> all;
  for (const int64_t step : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      all.push_back({step, split, method_});
      if (method_ != "dense" && std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step))
        all.push_back({step, split, "dense"});
    }
  }
  return all;
}

void Run::write_overlap(const Decomposition& d, const EigenResult& result, const Checkpoint& checkpoint) {
  require(result.rank > 0, "step ", d.step, ", ", d.split,
          ": the matrix has no such eigenvectors (is it zero?); has the training diverged? lower "
          "train.learning_rate (now ",
          folder_.recipe().train.learning_rate, ")");
  std::vector<int64_t> layer_sizes;
  for (const ParameterSpec& p : subset_.specs) layer_sizes.push_back(p.numel());
  const OverlapOptions options{.random_masks = folder_.recipe().overlap.random_masks,
                               .seed = static_cast<uint64_t>(folder_.recipe().seed)};
  OverlapCurves curves = overlap_curves(ResultEigenspace(result.eigenvectors),
                                        subset_.gather(model_->parameters(), checkpoint.parameters),
                                        layer_sizes, options, progress_);
  if (result.residuals.defined()) curves.bound_magnitude(result.subspace_errors());
  write_overlap_file(folder_.overlap(d.step, d.split, d.method), curves, options);
  folder_.log("overlap", {{"file", folder_.overlap(d.step, d.split, d.method).filename().string()}});
}

// Eigenvectors of the recorded step before `step`, from memory or else from their file; undefined where
// neither holds them.
at::Tensor Run::previous_vectors(int64_t step, const std::string& split_name) const {
  if (const auto found = previous_.find(split_name); found != previous_.end()) return found->second;
  const std::vector<int64_t>& steps = folder_.recipe().curvature.steps;
  const auto here = std::lower_bound(steps.begin(), steps.end(), step);
  if (here == steps.begin()) return {};
  const auto path = folder_.eigen(*std::prev(here), split_name, method_);
  std::error_code none;
  if (!std::filesystem::exists(path, none)) return {};
  const EigenFile file = finished_eigen(path, subset_.count, /*with_vectors=*/true);
  return file.has_vectors ? file.result.eigenvectors.all() : at::Tensor();
}

// The recipe's method and, where asked, the exact decomposition of one matrix.
void Run::decompose(int64_t step, const std::string& split_name, const Checkpoint& checkpoint) {
  const Recipe& r = folder_.recipe();
  std::error_code none;
  const auto exists = [&](const std::filesystem::path& path) { return std::filesystem::exists(path, none); };
  const bool dense_only = method_ == "dense";
  const bool want_dense = dense_only || std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step);
  const Decomposition sketched{step, split_name, method_}, exact{step, split_name, "dense"};
  const auto sketch_path = folder_.eigen(step, split_name, method_),
             dense_path = folder_.eigen(step, split_name, "dense");
  const bool need_dense = want_dense && !exists(dense_path);
  // The exact decomposition measures the sketch's error, which takes the sketch's eigenvectors.
  const bool need_sketch = !dense_only && (!exists(sketch_path) || (need_dense && !r.eigh.vectors));
  if (!need_sketch && !need_dense) {
    previous_.erase(split_name);  // the next step's is this one, on disk
    return;
  }

  EigenFileInfo info;
  info.matrix = r.curvature.matrix;
  info.split = split_name;
  info.step = step;
  info.parameters = subset_.count;
  info.samples = r.curvature.samples;
  info.k = r.eigh.k;
  info.dtype = r.eigh.dtype;
  info.sample_indices = curvature_samples(r, split(split_name));
  const Dataset samples = split(split_name).select(info.sample_indices);
  CurvatureOptions options = curvature_options(r, loss_);

  // Without eigenvectors on disk, overlap is taken while they are in memory, before the file that marks the
  // end.
  const auto finish = [&](const Decomposition& d, const EigenFileInfo& about, const EigenResult& result) {
    if (!r.eigh.vectors) write_overlap(d, result, checkpoint);
    const auto path = folder_.eigen(d.step, d.split, d.method);
    write_eigen_file(path, about, result, r.eigh.vectors);
    folder_.log("eigh", {{"file", path.filename().string()},
                         {"products", result.products},
                         {"seconds", result.seconds},
                         {"peak_bytes", result.peak_bytes}});
  };

  EigenResult sketch;
  if (need_sketch) {
    EighOptions solver = eigh_options(r);
    solver.method = parse_method(method_);
    solver.state = folder_.partial(step, split_name, method_);
    if (r.eigh.warm_start) solver.start = previous_vectors(step, split_name);
    options.dtype = eigh_dtype(r);
    // The solver's memory comes first, but the products need some to be fast.
    const EighPlan plan = plan_eigh(subset_.count, options.dtype, solver, available_memory() / 5 * 3);
    solver.basis = plan.basis;
    options.reserve = plan.memory;
    require(options.reserve < available_memory(), "k = ", r.eigh.k, " eigenpairs of ", subset_.count,
            " parameters take ", format_bytes(options.reserve), " of memory, ",
            format_bytes(available_memory()), " are left; lower eigh.k or raise the ceiling (--memory)");
    folder_.log("plan", {{"file", sketch_path.filename().string()}, {"plan", plan.text()}});
    const auto matrix = make_curvature_operator(*model_, checkpoint.parameters, checkpoint.buffers, samples,
                                                options, label(step, split_name, r.curvature.matrix));
    check_reproducible(*matrix);
    sketch = seigh::eigh(*matrix, solver, progress_);
    info.s = plan.products - r.eigh.probes;
    if (!exists(sketch_path)) finish(sketched, info, sketch);
    std::filesystem::remove_all(solver.state, none);
    std::filesystem::remove(solver.state.parent_path(), none);  // where no other is left in it
  } else if (!dense_only) {
    sketch = stored(sketched).result;
  }
  if (r.eigh.warm_start && !dense_only) previous_[split_name] = sketch.eigenvectors.all();
  if (need_dense) {
    options.dtype = at::kDouble;
    const auto matrix =
        make_curvature_operator(*model_, checkpoint.parameters, checkpoint.buffers, samples, options,
                                label(step, split_name, "exact " + r.curvature.matrix));
    const DenseResult d = dense(*matrix, r.eigh.k, parse_selection(r.eigh.selection), progress_);
    info.s = d.result.products;
    info.dtype = "float64";
    if (!dense_only) info.sketch_error = exact_error(d.matrix, sketch.eigenvalues, sketch.eigenvectors);
    finish(exact, info, d.result);
  }
}

// A finished decomposition with its eigenvectors.
EigenFile Run::stored(const Decomposition& d) const {
  const auto path = folder_.eigen(d.step, d.split, d.method);
  EigenFile file = finished_eigen(path, subset_.count, /*with_vectors=*/true);
  require(file.has_vectors, path.string(),
          " holds no eigenvectors; delete it and continue with seigh run --resume");
  return file;
}

void Run::eigh() {
  for (const int64_t step : folder_.recipe().curvature.steps) {
    const auto path = folder_.checkpoint(step);
    std::error_code none;
    require(std::filesystem::exists(path, none), path.string(), " is missing; make it with: seigh train ",
            folder_.path().string());
    const Checkpoint checkpoint = finished_checkpoint(folder_, *model_, step);
    for (const std::string& split_name : folder_.recipe().curvature.splits)
      decompose(step, split_name, checkpoint);
  }
}

void Run::overlap() {
  std::error_code none;
  for (const Decomposition& d : decompositions()) {
    if (std::filesystem::exists(folder_.overlap(d.step, d.split, d.method), none)) continue;
    const auto path = folder_.eigen(d.step, d.split, d.method);
    require(std::filesystem::exists(path, none), path.string(), " is missing; make it with: seigh eigh ",
            folder_.path().string());
    write_overlap(d, stored(d).result, finished_checkpoint(folder_, *model_, d.step));
  }
}

void Run::report() {
  const std::string data = report_data(folder_, *model_, subset_.count, method_, headline());
  if (report_shows(folder_.report(), data)) return;
  write_report_page(folder_.report(), folder_.recipe().name, data);
  folder_.log("report", {{"file", "report.html"}});
}

std::vector<std::string> Run::headline() const {
  const Recipe& r = folder_.recipe();
  std::error_code none;
  std::vector<std::string> lines;
  char text[200];
  int64_t k = 0;
  for (const int64_t step : r.curvature.steps) {
    std::string line;
    for (const std::string& split : r.curvature.splits) {
      for (const std::string& method : result_methods(method_)) {
        const auto path = folder_.overlap(step, split, method);
        if (!std::filesystem::exists(path, none)) continue;
        const OverlapCurves curves = finished_overlap(path);
        const int64_t last = curves.magnitude.numel() - 1;
        const double overlap = curves.magnitude[last].item<double>(),
                     chance = curves.chance[last].item<double>();
        if (k == 0) {
          k = last + 1;
          std::snprintf(text, sizeof(text),
                        "Overlap of the %lld largest of %lld parameters with the top-%lld eigenspace, over "
                        "chance (%.4g):",
                        static_cast<long long>(k), static_cast<long long>(subset_.count),
                        static_cast<long long>(k), chance);
          lines.emplace_back(text);
        }
        if (method == "dense") {
          std::snprintf(text, sizeof(text), " (exact %.4f)", overlap);
        } else {
          std::snprintf(text, sizeof(text), "   %s %.4f, %.2f x", split.c_str(), overlap, overlap / chance);
        }
        line += text;
      }
    }
    if (line.empty()) continue;
    std::snprintf(text, sizeof(text), "step %6lld", static_cast<long long>(step));
    lines.push_back(text + line);
  }
  return lines;
}

}  // namespace seigh
