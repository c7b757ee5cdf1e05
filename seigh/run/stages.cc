#include "seigh/run/stages.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>
#include <sstream>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/core/device.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"
#include "seigh/core/fingerprint.h"
#include "seigh/core/timer.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/check.h"
#include "seigh/curvature/fingerprint.h"
#include "seigh/curvature/model_source.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/range.h"
#include "seigh/eigen/refine.h"
#include "seigh/eigen/seigh.h"
#include "seigh/io/file.h"
#include "seigh/io/limits.h"
#include "seigh/nn/rescale.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/recipe/options.h"
#include "seigh/recipe/own_network.h"
#include "seigh/report/headline.h"
#include "seigh/report/page.h"
#include "seigh/report/report_data.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/finished.h"
#include "seigh/results/model_file.h"
#include "seigh/results/overlap_file.h"
#include "seigh/run/data.h"
#include "seigh/run/dynamics.h"
#include "seigh/run/pruning.h"
#include "seigh/run/study.h"
#include "seigh/sketch/measure.h"
#include "seigh/spectrum/diagonal.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/placement.h"

namespace seigh {
namespace {

std::string label(int64_t step, const std::string& split, const std::string& what) {
  return "step " + std::to_string(step) + " " + split + " " + what;
}

bool file_holds(const fs::path& path, const std::string& text) {
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return false;
  try {
    return read_file(path) == text;
  } catch (const Error&) {
    return false;
  }
}

// A record without the keys of the eigensolver.
std::string without_eigh(const std::string& record) {
  std::istringstream lines(record);
  std::string kept;
  for (std::string line; std::getline(lines, line);)
    if (!line.starts_with("eigh.")) kept += line + "\n";
  return kept;
}

// The network of a recipe; of one from elsewhere its names and shapes, be they only in a checkpoint.
std::unique_ptr<Model> model_of(const Recipe& r, const Foreign* foreign, const RunFolder* folder) {
  if (r.model.python.empty()) return make_model(r);
  if (foreign != nullptr)
    return std::make_unique<StoredModel>(foreign->description(), foreign->parameters(), foreign->buffers(),
                                         foreign->hidden_units());
  const std::vector<int64_t> there = folder != nullptr ? folder->checkpoints() : std::vector<int64_t>();
  require(!there.empty(), r.model.python,
          " is Python code: python3 -m seigh run RECIPE, which the Python package has, runs it");
  return StoredModel::of_checkpoint(folder->checkpoint(there.front()));
}

}  // namespace

void by_root(const Context& context, const std::function<void()>& body) {
  if (context.ranks().alone()) return body();
  std::string error;
  bool failed = false;
  try {
    if (context.ranks().root()) body();
  } catch (const Error& e) {
    failed = true;
    error = e.what();
  }
  if (context.ranks().agree(failed))
    throw SharedError(context.ranks().root() ? error : "the root could not do its part");
}

Run::Run(RunFolder folder, const fs::path& data_folder, const Context& context,
         std::shared_ptr<const Foreign> foreign)
    : context_(context),
      folder_(std::move(folder)),
      data_folder_(data_folder),
      foreign_(std::move(foreign)),
      model_(model_of(folder_.recipe(), foreign_.get(), &folder_)),
      subset_(select_parameters(model_->parameters(), folder_.recipe().curvature.parameters)),
      loss_(make_loss(folder_.recipe())) {
  check(folder_.recipe(), *model_, subset_, loss_);
  plan_ = plan_run(folder_.recipe(), &folder_, subset_.count, context_);
}

void Run::check(const Recipe& r, const Foreign* foreign) {
  usable_device(r.device);
  const std::unique_ptr<Model> model = model_of(r, foreign, nullptr);
  check(r, *model, select_parameters(model->parameters(), r.curvature.parameters), make_loss(r));
}

void Run::check(const Recipe& r, const Model& model, const ParameterSubset& subset, const Loss& loss) {
  if (r.curvature.rescaled == "balanced") require_rescalable(model);
  train_options(r, loss);
  solver_options(r).validate(subset.count);
  curvature_options(r, loss).validate();
}

const DataSplits& Run::data() {
  if (!data_) {
    require(folder_.recipe().model.python.empty(), folder_.path().string(), " is a run of ",
            folder_.recipe().model.python,
            ", Python code, which is not run from a run folder unasked: python3 -m seigh COMMAND RUN "
            "--trust-code");
    data_ = checked_data(folder_.recipe(), *model_, loss_, data_folder_, context_);
    folder_.log("data", {{"name", data_->name},
                         {"source", data_->source},
                         {"train", data_->train.size()},
                         {"test", data_->test.size()}});
    tell(model_->notes());
  }
  return *data_;
}

// For training and accuracies.
const DataSplits& Run::placed_data() {
  if (!placed_) placed_ = placed(data(), context_);
  return *placed_;
}

const Dataset& Run::split(const std::string& name) {
  return named_part(data(), name);
}

// Code may have changed under its name: a checkpoint that is there must still have its loss.
void Run::check_foreign(const std::vector<int64_t>& missing) const {
  const std::vector<int64_t>& wanted = folder_.recipe().train.checkpoints;
  if (!foreign_ || missing.size() == wanted.size()) return;
  const int64_t step = *std::find_if(wanted.begin(), wanted.end(), [&](int64_t s) {
    return !std::binary_search(missing.begin(), missing.end(), s);
  });
  const Checkpoint there = trained(step);
  const double now = foreign_->loss(there), then = there.loss;
  const double same = there.parameters.scalar_type() == at::kDouble ? 1e-9 : 1e-4;
  require(std::abs(now - then) <= same * std::max(std::abs(then), same) || std::isnan(then),
          folder_.path().string(), ": at the parameters of step ", step, " the loss of ",
          folder_.recipe().model.python, " was ", then, " and is ", now,
          ": network, loss or data are others than those of this folder; choose another with --out");
}

void Run::train() {
  const Recipe& r = folder_.recipe();
  std::vector<int64_t> missing;
  for (const int64_t step : r.train.checkpoints)
    if (!is_there(folder_.checkpoint(step), context_)) missing.push_back(step);
  check_foreign(missing);
  if (missing.empty()) return;
  by_root(context_, [&] { train_alone(missing); });  // training is not shared out
}

void Run::train_alone(const std::vector<int64_t>& missing) {
  const Recipe& r = folder_.recipe();
  const Timer timer;
  const std::string recipe = record(r, Stage::train);
  const auto save = [&](const Checkpoint& c) {
    require(c.parameters.isfinite().all().item<bool>(),
            "training diverged: a parameter is not finite at step ", c.step,
            "; lower train.learning_rate (now ", r.train.learning_rate, ")");
    write_checkpoint(folder_.checkpoint(c.step), *model_, c, recipe);
    folder_.log("checkpoint", {{"step", c.step},
                               {"loss", c.loss},
                               {"test_accuracy", c.test_accuracy},
                               {"seconds", timer.seconds()}});
  };
  if (brings_weights(r)) {
    folder_.log("train", {{"from", missing.front()}, {"to", missing.back()}});
    for (const int64_t step : missing)
      save(foreign_ ? foreign_->checkpoint(step, r.model.weights.empty() ? fs::path() : weights_file(r, step))
                    : brought_checkpoint(r, *model_, loss_, data(), step, context_));
    return;
  }
  for (const Stretch& stretch : training_stretches(missing, folder_.checkpoints())) {
    Checkpoint start;
    if (stretch.from) {
      start = finished_checkpoint(folder_, *model_, *stretch.from);
    } else {
      start.parameters = model_->initial_parameters(static_cast<uint64_t>(r.seed));
      start.buffers = model_->initial_buffers();
    }
    TrainOptions options = train_options(r, loss_);
    options.checkpoint_steps = stretch.checkpoints;
    options.steps = stretch.checkpoints.back();
    folder_.log("train", {{"from", start.step}, {"to", options.steps}, {"device", context_.device().str()}});
    seigh::train(*model_, placed_data(), options, std::move(start), save, context_);
  }
}

void Run::write_overlap(const Decomposition& d, const EigenResult& result, const Checkpoint& checkpoint) {
  require(result.rank > 0, "step ", d.step, ", ", d.split,
          ": no such eigenvectors were found, so there is nothing to compare with the largest parameters; at "
          "these parameters and samples the matrix has no such eigenvalues, or is zero",
          brings_weights(folder_.recipe())
              ? std::string()
              : text_of(", as after training with too large steps: lower train.learning_rate (now ",
                        folder_.recipe().train.learning_rate, ")"));
  // The root may be here alone, with eigenvectors from a file.
  const int64_t piece =
      std::clamp<int64_t>(context_.memory().available() / 8, int64_t{8} << 20, int64_t{1} << 30);
  const OverlapOptions options{
      .random_masks = folder_.recipe().overlap.random_masks,
      .seed = static_cast<uint64_t>(folder_.recipe().seed),
      // Rows of all masks at once, where memory allows: each call is a pass over the
      // vectors. Work with a piece takes some five times as much.
      .piece_bytes = result.eigenvectors.divided() ? context_.ranks().agree(piece) : piece};
  const Recipe& r = folder_.recipe();
  const OverlapStudy study =
      study_overlap(r, subset_, unit_groups(model_->hidden_units(), subset_),
                    score_inputs(d.step, d.split, checkpoint, needed_of_model(r.overlap.scores)), result,
                    options, context_);
  if (context_.ranks().root())
    write_overlap_file(folder_.overlap(d.step, d.split, to_string(d.method)), study, options,
                       recipe_of(Stage::overlap));
  folder_.log("overlap",
              {{"file", folder_.overlap(d.step, d.split, to_string(d.method)).filename().string()}});
}

// What the recipe's masks need of the model at this step and on these samples, beside the gradient, which is
// always kept: is something of it missing?
bool Run::model_file_lacks(int64_t step, const std::string& split_name) const {
  const auto path = folder_.model(step, split_name);
  bool lacks = !is_there(path, context_);
  if (!lacks && context_.ranks().root()) {
    const ModelFile there = read_model_file(path, subset_.count);
    const std::set<std::string> needed = needed_of_model_at(step, split_name);
    lacks = (needed.contains("fisher") && !there.fisher.defined()) ||
            (needed.contains("diagonal") && !there.diagonal.defined());
  }
  return context_.ranks().agree(lacks);
}

// With what pruning needs there.
std::set<std::string> Run::needed_of_model_at(int64_t step, const std::string& split_name) const {
  const Recipe& r = folder_.recipe();
  std::set<std::string> needed = needed_of_model(r.overlap.scores);
  if (std::binary_search(r.prune.steps.begin(), r.prune.steps.end(), step) && split_name == pruning_split(r))
    needed.merge(needed_of_model(r.prune.scores));
  return needed;
}

// Of the matrix h; ranks that share out its samples have their part of each mean.
void Run::write_model(const Decomposition& d, const Checkpoint& checkpoint, CurvatureOperator& h) {
  const Recipe& r = folder_.recipe();
  const std::set<std::string> needed = needed_of_model_at(d.step, d.split);
  const double samples = static_cast<double>(r.curvature.samples);
  const int64_t mine =
      plan_.divides_samples ? context_.ranks().share(r.curvature.samples).count : r.curvature.samples;
  const auto joined = [&](at::Tensor mean) {
    if (!plan_.divides_samples) return mean;
    mean.mul_(static_cast<double>(mine) / samples);
    context_.ranks().sum(mean);
    return mean;
  };
  ModelFile content;
  content.gradient = joined(h.gradient().cpu());
  if (needed.contains("fisher")) {
    const auto source = source_of(d, checkpoint, h.dtype(), label(d.step, d.split, "gradients"));
    CurvatureOptions options = curvature_options(r, loss_);
    options.kind = CurvatureKind::hessian;
    options.dtype = h.dtype();
    options.replay = false;
    AutogradCurvatureOperator gradients(source, options, label(d.step, d.split, "gradients"), context_);
    at::Tensor sum = at::zeros({subset_.count}, at::kDouble);
    const DeviceMemory there(h.device(), context_.device_memory());
    const int64_t left = h.device().is_cpu() ? context_.memory().available() : there.available();
    const bool unknown = !h.device().is_cpu() && !there.obstacle().empty();
    const int64_t together = unknown ? 8 : std::clamp<int64_t>(left / (32 * subset_.count), 1, 64);
    context_.progress().begin(label(d.step, d.split, "gradients of single samples"), source->samples(),
                              "samples");
    for (int64_t begin = 0; begin < source->samples(); begin += together) {
      const int64_t n = std::min(together, source->samples() - begin);
      sum += gradients.per_sample_gradients(begin, n).square().sum(1).cpu();
      context_.progress().advance(n);
    }
    context_.progress().end();
    content.fisher = joined(sum / static_cast<double>(std::max<int64_t>(source->samples(), 1)));
  }
  if (needed.contains("diagonal")) {
    const DiagonalResult diagonal = seigh::diagonal(
        *shared_out(h),
        {.products = std::min<int64_t>(100, subset_.count), .seed = static_cast<uint64_t>(r.seed)}, context_);
    content.diagonal = diagonal.diagonal;
    content.diagonal_error = diagonal.error;
  }
  if (context_.ranks().root())
    write_model_file(folder_.model(d.step, d.split), content, without_eigh(recipe_of(Stage::eigh)));
  context_.ranks().wait();
}

// Eigenvectors of the recorded step before `step`, from memory or else from their file; none where neither
// holds them.
Eigenvectors Run::previous_vectors(int64_t step, const std::string& split_name) const {
  if (const auto found = previous_.find(split_name); found != previous_.end()) return found->second;
  const std::vector<int64_t>& steps = folder_.recipe().curvature.steps;
  const auto here = std::lower_bound(steps.begin(), steps.end(), step);
  if (here == steps.begin()) return {};
  const auto path = folder_.eigen(*std::prev(here), split_name, to_string(plan_.method));
  if (!is_there(path, context_)) return {};
  return finished_eigen(path, subset_.count, Vectors::by_panels, context_).result.eigenvectors;
}

// Each note once, however many matrices it is about.
void Run::tell(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) {
    if (!told_.insert(note).second) continue;
    context_.progress().note(note);
    folder_.log("note", {{"text", note}});
  }
}

EigenFileInfo Run::file_info(const Decomposition& d) {
  const Recipe& r = folder_.recipe();
  EigenFileInfo info;
  info.matrix = r.curvature.matrix;
  info.split = d.split;
  info.step = d.step;
  info.parameters = subset_.count;
  info.samples = r.curvature.samples;
  info.k = r.eigh.k;
  info.dtype = r.eigh.dtype;
  info.fingerprint = fingerprint_;
  info.sample_indices = chosen(d.split);
  info.tensors = subset_.specs;
  // Without eigenvectors on disk, overlap cannot be taken anew.
  info.recipe = recipe_of(r.eigh.vectors ? Stage::eigh : Stage::overlap);
  return info;
}

// What results of a stage say of the recipe: which method it was, where the recipe leaves that open.
std::string Run::recipe_of(Stage stage) const {
  Recipe r = folder_.recipe();
  r.eigh.method = plan_.method;
  return record(r, stage);
}

// The folder of an unfinished decomposition says at once what it will be of.
void Run::begin_partial(const Decomposition& d) const {
  const auto file = folder_.partial(d.step, d.split, to_string(d.method)) / "recipe.toml";
  if (!is_there(file, context_) && context_.ranks().root()) write_file(file, recipe_of(Stage::eigh));
}

// The loss at a checkpoint over this rank's samples.
std::shared_ptr<const GraphSource> Run::source_of(const Decomposition& d, const Checkpoint& checkpoint,
                                                  at::ScalarType dtype, const std::string& name) {
  const Recipe& r = folder_.recipe();
  const Context::Scope scope(context_);
  if (foreign_) return foreign_->source(checkpoint, d.split, r.curvature.samples, dtype);
  at::Tensor mine = chosen(d.split);
  if (plan_.divides_samples) {
    const Share share = context_.ranks().share(mine.numel());
    mine = mine.slice(0, share.begin, share.end());
  }
  tell(chosen_samples_note(r, split(d.split), d.split));
  const c10::Device device = context_.device();
  return std::make_shared<ModelSource>(*model_, checkpoint.parameters.to(device),
                                       moved(checkpoint.buffers, device),
                                       split(d.split).select(mine).on(device), loss_, dtype, name);
}

std::unique_ptr<CurvatureOperator> Run::matrix(const Decomposition& d, const Checkpoint& checkpoint,
                                               at::ScalarType dtype, int64_t reserve,
                                               const std::string& prefix) {
  const Recipe& r = folder_.recipe();
  CurvatureOptions options = curvature_options(r, loss_);
  options.dtype = dtype;
  options.reserve = reserve;
  const std::string name = label(d.step, d.split, prefix + r.curvature.matrix);
  const auto source = source_of(d, checkpoint, dtype, name);
  auto h = make_checked_operator(source, options, name, context_);
  folder_.log("matrix",
              {{"name", name},
               {"products", h->options().products == Products::difference ? "difference" : "autograd"},
               {"way", h->way()},
               {"product_error", h->product_error()}});
  tell(h->notes());
  return h;
}

// Which samples of a split the curvature is taken on.
at::Tensor Run::chosen(const std::string& split_name) {
  const Recipe& r = folder_.recipe();
  if (foreign_) return at::arange(r.curvature.samples, at::kLong);
  return curvature_samples(r, split(split_name), split_name);
}

// They themselves; of a network from elsewhere numbers that stand for them.
Dataset Run::chosen_samples(const std::string& split_name) {
  if (!foreign_) return split(split_name).select(chosen(split_name));
  const auto [x, y] = foreign_->digest(split_name, folder_.recipe().curvature.samples);
  return {x, y};
}

// The matrix as all ranks together apply it.
std::unique_ptr<LinearOperator> Run::shared_out(CurvatureOperator& h) const {
  if (!plan_.divides_samples) return std::make_unique<DividedColumns>(h, context_);
  const int64_t samples = folder_.recipe().curvature.samples;
  return std::make_unique<DividedSamples>(
      h, static_cast<double>(context_.ranks().share(samples).count) / static_cast<double>(samples), context_);
}

void Run::with_matrix(std::optional<int64_t> step, const std::string& split_name, int64_t reserve,
                      const std::function<void(LinearOperator&, const EigenFileInfo&)>& body) {
  const Recipe& r = folder_.recipe();
  require(step || !r.curvature.steps.empty(), "curvature.steps names no step; name one with --step");
  const Decomposition d{step ? *step : r.curvature.steps.back(),
                        split_name.empty() ? r.curvature.splits.front() : split_name, plan_.method};
  const std::vector<int64_t> there = folder_.checkpoints();
  std::string steps;
  for (const int64_t s : there) steps.append(steps.empty() ? "" : ", ").append(std::to_string(s));
  require(std::binary_search(there.begin(), there.end(), d.step), folder_.path().string(),
          " holds no checkpoint of step ", d.step,
          there.empty() ? "; make it with: seigh train " + folder_.path().string()
                        : "; there are those of steps " + steps);
  const Checkpoint c = checkpoint(d.step);
  const auto h = matrix(d, c, eigh_dtype(r), reserve);
  fingerprint(d, c, *h);
  EigenFileInfo info = file_info(d);
  info.recipe = {};  // not all of its keys decide
  if (!plan_.divides_samples && context_.ranks().alone()) return body(*h, info);
  body(*shared_out(*h), info);
}

// Keeps it for the files about this matrix.
std::string Run::fingerprint(const Decomposition& d, const Checkpoint& checkpoint, CurvatureOperator& h) {
  return fingerprint_ = seigh::fingerprint(plan_.divides_samples ? nullptr : &h, chosen_samples(d.split),
                                           checkpoint.parameters);
}

// Without eigenvectors on disk, overlap is taken while they are at hand, before the file that marks the end.
void Run::finish(const Decomposition& d, const EigenFileInfo& info, const EigenResult& result,
                 const Checkpoint& checkpoint) {
  if (!folder_.recipe().eigh.vectors) write_overlap(d, result, checkpoint);
  const auto path = folder_.eigen(d.step, d.split, to_string(d.method));
  write_eigen_file(path, info, result, folder_.recipe().eigh.vectors, context_);
  folder_.log("eigh", {{"file", path.filename().string()},
                       {"products", result.products},
                       {"seconds", result.seconds},
                       {"peak_bytes", result.peak_bytes}});
}

void Run::forget_partial(const Decomposition& d) const {
  context_.ranks().wait();
  if (!context_.ranks().root()) return;
  if (d.method == Method::seigh && folder_.recipe().eigh.keep_measurements) return;
  std::error_code none;
  const auto path = folder_.partial(d.step, d.split, to_string(d.method));
  fs::remove_all(path, none);
  fs::remove(path.parent_path(), none);  // where no other is left in it
}

// What a process left that was killed between a result and its tidying up. Measurements of which a result has
// been made before all were there stay: they may be gone on with.
void Run::forget_finished_partial(const Decomposition& d) const {
  const auto place = folder_.partial(d.step, d.split, to_string(d.method));
  bool over = is_there(place, context_);
  if (over && d.method == Method::seigh && context_.ranks().root()) {
    try {
      const auto path = folder_.eigen(d.step, d.split, to_string(d.method));
      over = finished_eigen(path, subset_.count).info.s >= SketchStore(place, context_).plan().s;
    } catch (const Error&) {  // for whoever needs one of them to say
      over = false;
    }
  }
  if (context_.ranks().agree(over)) forget_partial(d);
}

// The recipe's method applied to one matrix.
EigenResult Run::solve(const Decomposition& d, const Checkpoint& checkpoint) {
  const Recipe& r = folder_.recipe();
  SolverOptions solver = solver_options(r);
  solver.method = d.method;
  solver.state = folder_.partial(d.step, d.split, to_string(d.method));
  if (r.eigh.warm_start) solver.start = previous_vectors(d.step, d.split);
  const EighPlan plan = plan_.solver(solver, eigh_dtype(r), context_);
  solver.basis = plan.basis;
  solver.on_disk = plan.on_disk;
  // The root's: ranks that differed would wait for each other for ever.
  const int64_t left = context_.ranks().agree(context_.memory().available());
  require(plan.memory < left, "k = ", r.eigh.k, " eigenpairs of ", subset_.count, " parameters take ",
          format_bytes(plan.memory), " of memory, ", format_bytes(left),
          " are left; lower eigh.k or raise the ceiling (--memory)");
  folder_.log("plan", {{"file", folder_.eigen(d.step, d.split, to_string(d.method)).filename().string()},
                       {"plan", plan.text()}});
  if (d.method == Method::krylov || d.method == Method::seigh) begin_partial(d);
  const auto h = matrix(d, checkpoint, eigh_dtype(r), plan.memory);
  if (foreign_) require_same(*h, context_);  // which the recipe does not tell
  solver.fingerprint = fingerprint(d, checkpoint, *h);
  if (model_file_lacks(d.step, d.split)) write_model(d, checkpoint, *h);
  if (!plan_.divides_samples) return seigh::eigh(*h, solver, context_);
  return seigh::eigh(*shared_out(*h), solver, context_);
}

// The recipe's method and, where asked, the exact decomposition of one matrix.
void Run::decompose(int64_t step, const std::string& split_name, const Checkpoint& checkpoint) {
  const Recipe& r = folder_.recipe();
  const bool dense_only = plan_.method == Method::dense;
  const bool want_dense = dense_only || std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step);
  const Decomposition sketched{step, split_name, plan_.method},
      exact{step, split_name, Method::dense, !dense_only};
  const auto sketch_path = folder_.eigen(step, split_name, to_string(plan_.method));
  const bool need_dense = want_dense && !is_there(folder_.eigen(step, split_name, "dense"), context_);
  // The exact decomposition measures the sketch's error, which takes the sketch's eigenvectors.
  const bool need_sketch =
      !dense_only && (!is_there(sketch_path, context_) || (need_dense && !r.eigh.vectors));
  if (!need_sketch && !dense_only) forget_finished_partial(sketched);
  if (!need_sketch && !need_dense) {
    // Scores that the recipe asks for since.
    std::set<std::string> needed = needed_of_model_at(step, split_name);
    needed.erase("initial");
    if (!needed.empty() && model_file_lacks(step, split_name))
      write_model(sketched, checkpoint, *matrix(sketched, checkpoint, eigh_dtype(r), 0));
    previous_.erase(split_name);  // the next step's is this one, on disk
    return;
  }

  EigenResult sketch;
  std::string of_sketch;  // its fingerprint, where it was there already
  if (need_sketch) {
    sketch = solve(sketched, checkpoint);
    EigenFileInfo info = file_info(sketched);
    info.s = sketch.products - sketch.checks - r.eigh.probes;
    if (!is_there(sketch_path, context_)) finish(sketched, info, sketch, checkpoint);
    forget_partial(sketched);
  } else if (!dense_only) {
    EigenFile there = stored(sketched);
    of_sketch = there.info.fingerprint;
    sketch = std::move(there.result);
  }
  if (r.eigh.warm_start && !dense_only && !r.eigh.vectors)
    previous_[split_name] = sketch.eigenvectors.compact();
  if (need_dense) {
    const auto h = matrix(exact, checkpoint, at::kDouble, 0, "exact ");
    fingerprint(exact, checkpoint, *h);
    if (model_file_lacks(step, split_name)) write_model(exact, checkpoint, *h);
    if (!dense_only && !need_sketch)
      require_same_matrix(sketch_path.string(), of_sketch, fingerprint_, sketch_path.string());
    const DenseResult d = dense(*shared_out(*h), r.eigh.k, r.eigh.selection, context_);
    EigenFileInfo info = file_info(exact);
    info.s = d.result.products;
    info.dtype = "float64";
    if (!dense_only) info.sketch_error = exact_error(d.matrix, sketch.eigenvalues, sketch.eigenvectors);
    finish(exact, info, d.result, checkpoint);
  }
}

// Every rank for itself: the root reads checkpoints in sections of its own, too.
void Run::require_checkpoint(int64_t step) const {
  const auto path = folder_.checkpoint(step);
  std::error_code none;
  require(fs::exists(path, none), path.string(), " is missing; make it with: seigh train ",
          folder_.path().string());
}

// As it came from training.
Checkpoint Run::trained(int64_t step) const {
  require_checkpoint(step);
  return finished_checkpoint(folder_, *model_, step);
}

// As matrices, scores and masks see it.
Checkpoint Run::checkpoint(int64_t step) const {
  require_checkpoint(step);
  return rescaled_checkpoint(folder_, *model_, step);
}

// Calls body(d, store, checkpoint) for every decomposition by seigh that is not finished (or whose
// measurements are kept); without `make`, only where there is a store already.
template <typename Body>
void Run::for_stores(bool make, const Body& body) {
  const Recipe& r = folder_.recipe();
  require(plan_.method == Method::seigh, folder_.path().string(), ": the method is ", to_string(plan_.method),
          "; only seigh's products can be measured apart from each other (eigh.method = \"seigh\")");
  for (const Decomposition& d : plan_.decompositions) {
    const auto place = folder_.partial(d.step, d.split, to_string(d.method));
    const bool there = is_there(place / "plan.h5", context_);
    // A decomposition from fewer products than planned is no reason not to measure the rest.
    if (d.method != Method::seigh ||
        (!there && (!make || is_there(folder_.eigen(d.step, d.split, to_string(d.method)), context_))))
      continue;
    if (!make) {
      SketchStore store(place, context_);
      body(d, store);
      continue;
    }
    begin_partial(d);
    const SketchPlan plan = sketch_plan(solver_options(r), label(d.step, d.split, r.curvature.matrix),
                                        subset_.count, eigh_dtype(r));
    SketchStore store = SketchStore::together(place, plan, context_);
    body(d, store);
  }
}

void Run::measure(int64_t part, int64_t parts) {
  for_stores(/*make=*/true, [&](const Decomposition& d, SketchStore& store) {
    SolverOptions solver = solver_options(folder_.recipe());
    solver.method = Method::seigh;
    solver.state = store.folder();
    const EighPlan plan = plan_eigh(subset_.count, store.plan().dtype, solver, context_.memory().available());
    const Checkpoint c = checkpoint(d.step);
    const auto h = matrix(d, c, store.plan().dtype, plan.memory);
    store.tie_to(fingerprint(d, c, *h));
    seigh::measure(*h, store, part * context_.ranks().size() + context_.ranks().rank(),
                   parts * context_.ranks().size(), context_);
    context_.ranks().wait();
    folder_.log("measure", {{"folder", store.folder().filename().string()},
                            {"part", part + 1},
                            {"parts", parts},
                            {"shards", static_cast<int64_t>(store.finished().size())},
                            {"of", store.plan().shards()}});
  });
}

std::vector<std::string> Run::recover() {
  std::vector<std::string> lines;
  for_stores(/*make=*/false, [&](const Decomposition& d, SketchStore& store) {
    const auto path = folder_.eigen(d.step, d.split, to_string(d.method));
    const Timer timer;
    const bool again = is_there(path, context_);
    if (again && finished_eigen(path, subset_.count).info.s >= store.finished_columns()) return;
    // They may have been copied from elsewhere. Each rank reads its part.
    for (const auto& [shard, what] :
         damaged_shards(store, context_.ranks().rank(), context_.ranks().size(), context_))
      fail(what, "; remove what is damaged with: seigh verify ", folder_.path().string(), " --repair");
    const Sketch sketch = sketch_of(store);
    std::error_code none;
    if (again && context_.ranks().root())
      fs::remove(folder_.overlap(d.step, d.split, to_string(d.method)), none);  // of fewer products
    EigenResult result = seigh::recover(sketch, context_.device());
    const Recipe& r = folder_.recipe();
    const Checkpoint c = checkpoint(d.step);
    const SolverOptions solver = solver_options(r);
    const int64_t refining =
        r.curvature.precision == "float32" ? 0 : refinement_memory(solver, subset_.count, store.plan().dtype);
    const auto h = matrix(d, c, store.plan().dtype, (int64_t{1} << 30) + refining);
    store.tie_to(fingerprint(d, c, *h));
    const auto together = shared_out(*h);
    result = on_device_of(*together, "a recovery", [&] {
      finish_sketch(*together, result, solver, context_);
      return refined(*together, std::move(result), solver, context_);
    });
    result.seconds = timer.seconds();
    EigenFileInfo info = file_info(d);
    info.s = sketch.products;
    finish(d, info, result, c);
    const int64_t planned = store.plan().s;
    std::string line = path.filename().string() + ": " + std::to_string(result.rank) + " pairs from " +
                       std::to_string(sketch.products) + " products";
    if (sketch.products < planned) {
      line += " of " + std::to_string(planned) + " planned: a smaller sketch, whose error is larger";
    }
    lines.push_back(line);
    if (sketch.products == planned) forget_partial(d);
  });
  return lines;
}

std::vector<std::string> Run::verify(int64_t columns, bool repair) {
  std::vector<std::string> damaged;
  for_stores(/*make=*/false, [&](const Decomposition& d, SketchStore& store) {
    const std::map<int64_t, std::string> unsound = damaged_shards(store, 0, 1, context_);
    std::vector<int64_t> sound = store.finished();
    std::erase_if(sound, [&](int64_t shard) { return unsound.contains(shard); });
    for (const auto& [shard, what] : unsound) {
      damaged.push_back(what);
      if (repair) store.remove_damaged(shard);
    }
    if (columns == 0 || sound.empty()) return;
    const Checkpoint c = checkpoint(d.step);
    const auto h = matrix(d, c, store.plan().dtype, int64_t{1} << 30);
    store.tie_to(fingerprint(d, c, *h));
    context_.progress().begin("measuring columns of " + store.folder().filename().string() + " anew", columns,
                              "products");
    // Which ones must not be known beforehand.
    std::random_device chance;
    for (int64_t i = 0; i < columns; ++i) {
      const int64_t shard = sound[chance() % sound.size()];
      const SketchPlan::Columns range = store.plan().columns_of(shard);
      const int64_t column = range.begin + static_cast<int64_t>(chance()) % range.all;
      const double difference = remeasure(*h, store, column, context_);
      // Other mini-batches, threads or another machine: sums in another order.
      const double tolerance = store.plan().dtype == at::kFloat ? 1e-3 : 1e-10;
      if (!(difference <= tolerance)) {
        damaged.push_back(store.shard_file(shard).string() + ": column " + std::to_string(column) +
                          ", measured anew, differs by " + std::to_string(difference) + " of its norm");
        std::error_code none;
        if (repair) fs::remove(store.shard_file(shard), none);
      }
      context_.progress().advance(1);
    }
    context_.progress().end();
  });
  return damaged;
}

// A finished decomposition with its eigenvectors.
EigenFile Run::stored(const Decomposition& d) const {
  const auto path = folder_.eigen(d.step, d.split, to_string(d.method));
  EigenFile file = finished_eigen(path, subset_.count, Vectors::if_small, context_);
  require(file.has_vectors, path.string(),
          " holds no eigenvectors; delete it and continue with seigh run --resume");
  return file;
}

void Run::eigh(const std::function<void(int64_t)>& after_step) {
  for (const int64_t step : folder_.recipe().curvature.steps) {
    const Checkpoint c = checkpoint(step);
    for (const std::string& split_name : folder_.recipe().curvature.splits) decompose(step, split_name, c);
    if (after_step) after_step(step);
  }
}

void Run::overlap(std::optional<int64_t> step) {
  by_root(context_, [&] {  // eigenvectors from a file are not shared out
    for (const Decomposition& d : plan_.decompositions) {
      std::error_code none;
      if (step && d.step != *step) continue;
      if (fs::exists(folder_.overlap(d.step, d.split, to_string(d.method)), none)) continue;
      const auto path = folder_.eigen(d.step, d.split, to_string(d.method));
      require(fs::exists(path, none), path.string(), " is missing; make it with: seigh eigh ",
              folder_.path().string());
      write_overlap(d, stored(d).result, checkpoint(d.step));
    }
  });
}

void Run::prune() {
  const Recipe& r = folder_.recipe();
  if (r.prune.scores.empty()) return;
  by_root(context_, [&] {  // networks are not shared out
    PruningFile there = pruning_there(folder_);
    const std::vector<PruningRow> missing = missing_rows(r, there.rows);
    if (!missing.empty()) prune_alone(missing, std::move(there));
  });
}

// What scores at a step are made of, the eigenvectors apart.
ScoreInputs Run::score_inputs(int64_t step, const std::string& split_name, const Checkpoint& c,
                              const std::set<std::string>& needed) const {
  ScoreInputs inputs;
  inputs.parameters = subset_.gather(model_->parameters(), c.parameters);
  if (needed.contains("initial"))
    inputs.initial = subset_.gather(model_->parameters(), checkpoint(0).parameters);
  if (needed.contains("gradient") || needed.contains("fisher") || needed.contains("diagonal")) {
    const fs::path path = folder_.model(step, split_name);
    std::error_code none;
    require(fs::exists(path, none), path.string(), " is missing; make it with: seigh eigh ",
            folder_.path().string());
    const ModelFile model = read_model_file(path, subset_.count);
    inputs.gradient = model.gradient;
    inputs.fisher = model.fisher;
    inputs.diagonal = model.diagonal;
  }
  return inputs;
}

// Masks are those of the parameters as matrices see them; what they are applied to is the network as trained,
// which without the same parameters is the same function.
void Run::prune_alone(const std::vector<PruningRow>& missing, PruningFile there) {
  const Recipe& r = folder_.recipe();
  const Context::Scope scope(context_);
  const Timer timer;
  const std::vector<UnitLayout> layouts = prunable(r, subset_);
  const int64_t count = eligible_count(layouts);
  there.recipe = recipe_of(Stage::prune);
  std::optional<Checkpoint> whole;
  std::optional<EigenFile> eigen;
  std::optional<ResultEigenspace> space;
  ScoreInputs inputs;
  at::Tensor order;
  // Training tells of itself.
  const bool told = r.prune.fine_tune == 0;
  if (told) context_.progress().begin("pruning", static_cast<int64_t>(missing.size()), "masks");
  for (size_t i = 0; i < missing.size(); ++i) {
    context_.check_cancelled();
    PruningRow row = missing[i];
    if (!whole || whole->step != row.step) {
      const std::set<std::string> needed = needed_of_scores(r.prune.scores);
      whole = trained(row.step);
      inputs = score_inputs(row.step, pruning_split(r), checkpoint(row.step), needed);
      space.reset();
      if (needed.contains("space")) {
        eigen = stored({row.step, pruning_split(r), plan_.method});
        space.emplace(eigen->result.eigenvectors);
        inputs.space = &*space;
        inputs.eigenvalues = eigen->result.eigenvalues;
      }
    }
    at::Tensor pruned;
    row.prunable = row.kept = count;
    if (row.score != "none") {
      // The masks of an order hold each other, so the first, of the lowest sparsity, knows all of them.
      const bool same = i > 0 && row.step == missing[i - 1].step && row.score == missing[i - 1].score &&
                        row.control == missing[i - 1].control && row.draw == missing[i - 1].draw;
      row.kept = kept_of(count, row.sparsity);
      if (!same)
        order = pruning_order(row, row.kept, inputs, layouts, static_cast<uint64_t>(r.seed), context_);
      pruned = subset_.spread(model_->parameters(), pruned_by(order, row.kept, layouts));
    }
    there.rows.push_back(pruned_result(std::move(row), *whole, pruned));
    write_pruning_file(folder_.pruning(), there);
    if (told) context_.progress().advance(1);
  }
  if (told) context_.progress().end();
  folder_.log("prune", {{"file", folder_.pruning().filename().string()},
                        {"masks", static_cast<int64_t>(missing.size())},
                        {"seconds", timer.seconds()}});
}

// The network without the parameters that `pruned` (undefined: none) marks, before and after fine-tuning.
PruningRow Run::pruned_result(PruningRow row, const Checkpoint& whole, const at::Tensor& pruned) {
  const Recipe& r = folder_.recipe();
  const c10::Device device = context_.device();
  const Dataset& test = placed_data().test;
  const at::Tensor left =
      (pruned.defined() ? whole.parameters.masked_fill(pruned, 0) : whole.parameters).to(device);
  const std::vector<at::Tensor> buffers = moved(whole.buffers, device);
  row.accuracy = accuracy(*model_, left, buffers, test, context_);
  row.loss = mean_loss(*model_, loss_, left, buffers, test, context_);
  if (r.prune.fine_tune == 0) return row;
  TrainOptions options = train_options(r, loss_);
  options.schedule = {};
  options.steps = r.prune.fine_tune;
  options.checkpoint_steps = {options.steps};
  options.pruned = pruned;
  Checkpoint start;
  start.parameters = left;
  start.buffers = buffers;
  try {
    seigh::train(
        *model_, placed_data(), options, std::move(start),
        [&](const Checkpoint& c) {
          row.tuned_accuracy = c.test_accuracy;
          row.tuned_loss =
              mean_loss(*model_, loss_, c.parameters.to(device), moved(c.buffers, device), test, context_);
        },
        context_);
  } catch (const Diverged& error) {  // which is a result, too
    folder_.log("note", {{"text", text_of("pruned by ", row.score, " to ", row.kept, " of ", row.prunable,
                                          ": ", error.what())}});
  }
  return row;
}

std::vector<std::string> Run::pruning() const {
  return pruning_table(pruning_results(folder_));
}

std::string Run::page_data() const {
  return report_data(folder_, *model_, subset_.count, plan_.method, headline(), pruning_results(folder_));
}

std::optional<Dynamics> Run::dynamics(bool whatever_it_takes) {
  std::optional<Dynamics> dynamics;
  by_root(context_, [&] {  // files are not shared out
    dynamics = current_dynamics(folder_, plan_.method);
    if (dynamics) return;
    const DynamicsOf run{folder_, *model_, subset_, plan_.method};
    const DynamicsSources sources = dynamics_sources(folder_, plan_.method);
    const bool cheap = dynamics_cost(run, sources).cheap();
    if (whatever_it_takes || (cheap && sources.checkpoints.size() >= 2)) {
      const Timer timer;
      dynamics = dynamics_of(run, context_);
      write_dynamics_file(folder_.dynamics(), *dynamics);
      folder_.log("dynamics",
                  {{"file", folder_.dynamics().filename().string()}, {"seconds", timer.seconds()}});
    } else if (!cheap) {
      context_.progress().note("the maps of all pairs of steps take long; make them with: seigh dynamics " +
                               folder_.path().string());
    }
  });
  return dynamics;
}

Dynamics Run::dynamics_with(const Run& other) {
  const DynamicsOf run{folder_, *model_, subset_, plan_.method},
      with{other.folder_, *other.model_, other.subset_, other.plan_.method};
  Dynamics dynamics = dynamics_between(run, with, context_);
  const fs::path path = folder_.dynamics(dynamics.other);
  write_dynamics_file(path, dynamics);
  folder_.log("dynamics", {{"file", path.filename().string()}});
  return dynamics;
}

void Run::report() {
  if (!context_.ranks().root()) return;
  const std::string page = report_page(folder_.recipe().name, page_data());
  if (file_holds(folder_.report(), page)) return;
  write_file(folder_.report(), page);
  folder_.log("report", {{"file", "report.html"}});
}

std::vector<std::string> Run::headline() const {
  return seigh::headline(folder_, plan_.method);
}

}  // namespace seigh
