#include "seigh/run/stages.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "seigh/base/error.h"
#include "seigh/base/timer.h"
#include "seigh/curvature/hessian.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/seigh.h"
#include "seigh/overlap/curves.h"
#include "seigh/problem/mlp.h"
#include "seigh/problem/train.h"
#include "seigh/report/eigen_file.h"
#include "seigh/report/overlap_file.h"
#include "seigh/report/page.h"
#include "seigh/run/report_data.h"

namespace seigh {
namespace {

std::string label(int64_t step, const std::string& split, const std::string& what) {
  return "step " + std::to_string(step) + " " + split + " " + what;
}

std::unique_ptr<Model> make_model(const Recipe& r) {
  std::vector<int64_t> widths = {r.data.image_size * r.data.image_size};
  widths.insert(widths.end(), r.model.hidden.begin(), r.model.hidden.end());
  widths.push_back(10);  // both data sets have ten classes
  return std::make_unique<Mlp>(std::move(widths), parse_activation(r.model.activation));
}

at::ScalarType parse_dtype(const std::string& name) { return name == "float64" ? at::kDouble : at::kFloat; }

}  // namespace

struct Run::Decomposition {
  int64_t step;
  std::string split, method;
};

Run::Run(RunFolder folder, const std::filesystem::path& data_folder, Progress& progress)
    : folder_(std::move(folder)), data_folder_(data_folder), model_(make_model(folder_.recipe())), progress_(progress) {
  const Recipe& r = folder_.recipe();
  parse_loss(r.train.loss);
  SeighOptions{.k = r.eigh.k, .s = r.eigh.s, .probes = r.eigh.probes}.validate(model_->parameter_count());
}

const DataSplits& Run::data() {
  if (!data_) {
    const Recipe& r = folder_.recipe();
    MnistOptions options;
    options.name = r.data.name;
    options.data_folder = data_folder_;
    options.image_size = r.data.image_size;
    options.validation_samples = r.data.validation_samples;
    data_ = load_mnist(options);
    folder_.log("data", {{"name", data_->name}, {"source", data_->source}, {"train", data_->train.size()}, {"test", data_->test.size()}});
  }
  return *data_;
}

const Dataset& Run::split(const std::string& name) {
  return name == "train" ? data().train : name == "test" ? data().test : data().validation;
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
    start = read_checkpoint(folder_.checkpoint(*(missing - 1)), *model_);
  }
  TrainOptions options;
  options.steps = steps.back();  // nobody needs what comes after the last checkpoint
  options.batch_size = r.train.batch_size;
  options.learning_rate = r.train.learning_rate;
  options.loss = parse_loss(r.train.loss);
  options.seed = static_cast<uint64_t>(r.seed);
  options.checkpoint_steps.assign(missing, steps.end());
  const Timer timer;
  folder_.log("train", {{"from", start.step}, {"to", options.steps}});
  const auto save = [&](const Checkpoint& c) {
    write_checkpoint(folder_.checkpoint(c.step), *model_, c);
    folder_.log("checkpoint", {{"step", c.step}, {"loss", c.loss}, {"test_accuracy", c.test_accuracy}, {"seconds", timer.seconds()}});
  };
  seigh::train(*model_, data(), options, std::move(start), save, progress_);
}

std::vector<Run::Decomposition> Run::decompositions() const {
  const Recipe& r = folder_.recipe();
  std::vector<Decomposition> all;
  for (const int64_t step : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      all.push_back({step, split, r.eigh.method});
      if (std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step)) all.push_back({step, split, "dense"});
    }
  }
  return all;
}

void Run::write_overlap(const Decomposition& d, const Eigenvectors& vectors, const Checkpoint& checkpoint) {
  require(vectors.count() > 0, "step ", d.step, ", ", d.split, ": the matrix is zero, it has no leading eigenvectors");
  std::vector<int64_t> layer_sizes;
  for (const ParameterSpec& p : model_->parameters()) layer_sizes.push_back(p.numel());
  const OverlapOptions options{.random_masks = folder_.recipe().overlap.random_masks,
                               .seed = static_cast<uint64_t>(folder_.recipe().seed)};
  write_overlap_file(folder_.overlap(d.step, d.split, d.method),
                     overlap_curves(ResultEigenspace(vectors), checkpoint.parameters, layer_sizes, options, progress_), options);
  folder_.log("overlap", {{"file", folder_.overlap(d.step, d.split, d.method).filename().string()}});
}

// Sketch and, where asked, the exact decomposition of one matrix.
void Run::decompose(int64_t step, const std::string& split_name, const Checkpoint& checkpoint) {
  const Recipe& r = folder_.recipe();
  std::error_code none;
  const auto exists = [&](const std::filesystem::path& path) { return std::filesystem::exists(path, none); };
  const bool want_dense = std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step);
  const Decomposition sketched{step, split_name, r.eigh.method}, exact{step, split_name, "dense"};
  const auto sketch_path = folder_.eigen(step, split_name, r.eigh.method), dense_path = folder_.eigen(step, split_name, "dense");
  const bool need_dense = want_dense && !exists(dense_path);
  // The exact decomposition measures the sketch's error, which takes the sketch's eigenvectors.
  const bool need_sketch = !exists(sketch_path) || (need_dense && !r.eigh.vectors);
  if (!need_sketch && !need_dense) return;

  EigenFileInfo info;
  info.matrix = r.curvature.matrix;
  info.split = split_name;
  info.step = step;
  info.parameters = model_->parameter_count();
  info.samples = r.curvature.samples;
  info.k = r.eigh.k;
  info.s = r.eigh.s;
  info.dtype = r.eigh.dtype;
  info.sample_indices = balanced_subset(split(split_name).y, split(split_name).classes, r.curvature.samples);
  const Dataset samples = split(split_name).select(info.sample_indices);
  HessianOptions options{.loss = parse_loss(r.train.loss), .batch_size = r.curvature.batch_size};

  // Without eigenvectors on disk, overlap is taken while they are in memory, before the file that marks the end.
  const auto finish = [&](const Decomposition& d, const EigenFileInfo& about, const EigenResult& result) {
    if (!r.eigh.vectors) write_overlap(d, result.eigenvectors, checkpoint);
    const auto path = folder_.eigen(d.step, d.split, d.method);
    write_eigen_file(path, about, result, r.eigh.vectors);
    folder_.log("eigh", {{"file", path.filename().string()}, {"products", result.products}, {"seconds", result.seconds}, {"peak_bytes", result.peak_bytes}});
  };

  EigenResult sketch;
  if (need_sketch) {
    options.dtype = parse_dtype(r.eigh.dtype);
    HessianOperator hessian(*model_, checkpoint.parameters, checkpoint.buffers, samples, options, label(step, split_name, "Hessian"));
    sketch = seigh(hessian,
                   {.k = r.eigh.k, .s = r.eigh.s, .seed = static_cast<uint64_t>(r.seed), .probes = r.eigh.probes, .block = r.eigh.block},
                   progress_);
    if (!exists(sketch_path)) finish(sketched, info, sketch);
  } else {
    sketch = read_eigen_file(sketch_path, /*with_vectors=*/true).result;
  }
  if (need_dense) {
    options.dtype = at::kDouble;
    HessianOperator hessian(*model_, checkpoint.parameters, checkpoint.buffers, samples, options, label(step, split_name, "exact Hessian"));
    const DenseResult d = dense(hessian, r.eigh.k, progress_);
    info.s = d.result.products;
    info.dtype = "float64";
    info.sketch_error = exact_error(d.matrix, sketch.eigenvalues, sketch.eigenvectors);
    finish(exact, info, d.result);
  }
}

void Run::eigh() {
  for (const int64_t step : folder_.recipe().curvature.steps) {
    const auto path = folder_.checkpoint(step);
    std::error_code none;
    require(std::filesystem::exists(path, none), path.string(), " is missing; make it with: seigh train ", folder_.path().string());
    const Checkpoint checkpoint = read_checkpoint(path, *model_);
    for (const std::string& split_name : folder_.recipe().curvature.splits) decompose(step, split_name, checkpoint);
  }
}

void Run::overlap() {
  std::error_code none;
  for (const Decomposition& d : decompositions()) {
    if (std::filesystem::exists(folder_.overlap(d.step, d.split, d.method), none)) continue;
    const auto path = folder_.eigen(d.step, d.split, d.method);
    require(std::filesystem::exists(path, none), path.string(), " is missing; make it with: seigh eigh ", folder_.path().string());
    const EigenFile file = read_eigen_file(path, /*with_vectors=*/true);
    require(file.has_vectors, path.string(), " holds no eigenvectors, so its overlap cannot be computed; delete it and run seigh eigh ",
            folder_.path().string(), " again");
    write_overlap(d, file.result.eigenvectors, read_checkpoint(folder_.checkpoint(d.step), *model_));
  }
}

void Run::report() {
  write_report_page(folder_.report(), folder_.recipe().name, report_data(folder_, *model_, headline()));
  folder_.log("report", {{"file", "report.html"}});
}

std::vector<std::string> Run::headline() const {
  std::vector<std::string> lines;
  std::error_code none;
  for (const Decomposition& d : decompositions()) {
    const auto path = folder_.overlap(d.step, d.split, d.method);
    if (!std::filesystem::exists(path, none)) continue;
    const OverlapCurves curves = read_overlap_file(path);
    const int64_t k = curves.magnitude.numel();
    const double overlap = curves.magnitude[k - 1].item<double>(), chance = curves.chance[k - 1].item<double>();
    char line[200];
    std::snprintf(line, sizeof(line), "step %5lld  %-5s  %-6s overlap of the %lld largest parameters with the top-%lld eigenspace %.4f, %.2f x chance (%.4f)",
                  static_cast<long long>(d.step), d.split.c_str(), d.method == "dense" ? "exact" : d.method.c_str(),
                  static_cast<long long>(k), static_cast<long long>(k), overlap, overlap / chance, chance);
    lines.emplace_back(line);
  }
  return lines;
}

}  // namespace seigh
