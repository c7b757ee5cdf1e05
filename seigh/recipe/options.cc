#include "seigh/recipe/options.h"

#include <algorithm>

#include "seigh/core/device.h"
#include "seigh/core/error.h"
#include "seigh/data/cifar.h"
#include "seigh/data/text.h"
#include "seigh/nn/script_module.h"
#include "seigh/nn/zoo.h"
#include "seigh/recipe/own_network.h"

namespace seigh {
namespace {

template <size_t N>
void assign(std::array<int64_t, N>& to, const std::vector<int64_t>& from) {
  if (from.size() == N) std::copy(from.begin(), from.end(), to.begin());
}

DataSplits load_clean_data(const Recipe& r, const fs::path& data_folder) {
  if (!r.data.x.empty()) return load_own_data(r);
  if (r.data.name == "cifar-10") {
    return load_cifar10({.data_folder = data_folder,
                         .validation_samples = r.data.validation_samples,
                         .normalise = r.data.normalise});
  }
  if (r.data.name == "text") {
    DataSplits text = load_text({.name = r.data.text, .data_folder = data_folder, .context = r.data.context});
    require(text.train.classes == r.data.vocabulary, "the text ", r.data.text, " has ", text.train.classes,
            " different characters, data.vocabulary is ", r.data.vocabulary,
            "; set data.vocabulary = ", text.train.classes);
    return text;
  }
  MnistOptions options;
  options.name = r.data.name;
  options.data_folder = data_folder;
  options.image_size = r.data.image_size;
  options.validation_samples = r.data.validation_samples;
  return load_mnist(options);
}

}  // namespace

DataSplits load_data(const Recipe& r, const fs::path& data_folder) {
  DataSplits data = load_clean_data(r, data_folder);
  if (r.data.label_noise > 0)
    data.train.y =
        noisy_labels(data.train.y, data.train.classes, r.data.label_noise, static_cast<uint64_t>(r.seed));
  return data;
}

std::unique_ptr<Model> make_model(const Recipe& r) {
  const Recipe::Network& m = r.model;
  if (!m.module.empty()) return std::make_unique<ScriptModel>(m.module);
  ModelOptions options;
  options.kind = m.kind;
  options.mlp = {m.hidden, parse_activation(m.activation)};
  assign(options.three_c3d.channels, m.channels);
  assign(options.three_c3d.hidden, m.hidden);
  assign(options.all_cnn.channels, m.channels);
  options.resnet = {
      .stem = parse_stem(m.stem), .norm = parse_norm(m.norm), .groups = m.groups, .width = m.width};
  assign(options.resnet.blocks, m.blocks);
  options.vit = {
      .patch = m.patch, .width = m.width, .depth = m.depth, .heads = m.heads, .mlp_ratio = m.mlp_ratio};
  options.transformer = {.width = m.width,
                         .depth = m.depth,
                         .heads = m.heads,
                         .mlp_ratio = m.mlp_ratio,
                         .tied = m.tied,
                         .experts = m.experts,
                         .chosen = m.chosen};
  if (!r.data.x.empty()) return make_model(options, {m.inputs}, m.outputs);
  if (r.data.name == "text") return make_model(options, {r.data.context}, r.data.vocabulary);
  const int64_t side = r.data.image_size, classes = 10;
  if (r.data.name == "cifar-10") return make_model(options, {3, 32, 32}, classes);
  return make_model(options, {1, side, side}, classes);
}

Loss make_loss(const Recipe& r) {
  if (!r.model.python.empty()) return {};  // its own
  if (r.train.loss.ends_with(".pt")) return Loss(load_script_loss(r.train.loss));
  const Loss loss{parse_loss(r.train.loss), r.train.label_smoothing};
  loss.validate();
  return loss;
}

TrainOptions train_options(const Recipe& r, const Loss& loss) {
  TrainOptions options;
  options.steps = r.train.checkpoints.back();  // nobody needs what comes after the last checkpoint
  options.batch_size = r.train.batch_size;
  options.learning_rate = r.train.learning_rate;
  options.schedule = {.kind = parse_schedule(r.train.schedule),
                      .warmup = r.train.warmup,
                      .steps = r.train.steps,
                      .milestones = r.train.milestones,
                      .decay = r.train.decay};
  options.optimizer = {.kind = parse_optimizer(r.train.optimizer),
                       .momentum = r.train.momentum,
                       .weight_decay = r.train.weight_decay,
                       .beta1 = r.train.betas.at(0),
                       .beta2 = r.train.betas.at(1),
                       .epsilon = r.train.epsilon};
  options.loss = loss;
  options.seed = static_cast<uint64_t>(r.seed);
  options.checkpoint_steps = r.train.checkpoints;
  return options;
}

CurvatureOptions curvature_options(const Recipe& r, const Loss& loss) {
  return {.kind = parse_curvature(r.curvature.matrix),
          .loss = loss,
          .batch_size = r.curvature.batch_size,
          .products = parse_products(r.curvature.products),
          .precision = parse_precision(r.curvature.precision),
          .parameters = r.curvature.parameters,
          .l2 = r.curvature.l2,
          .draws = r.curvature.draws,
          .seed = static_cast<uint64_t>(r.seed)};
}

Context context_for(const Recipe& r, const Context& context, const std::string& device) {
  return on_device(context, device.empty() ? r.device : device).with_determinism(r.deterministic);
}

SolverOptions solver_options(const Recipe& r) {
  SolverOptions options = r.eigh;
  options.seed = static_cast<uint64_t>(r.seed);
  const Precision precision = parse_precision(r.curvature.precision);
  options.rounds = precision != Precision::float32 && eigh_dtype(r) == at::kFloat &&
                   (precision == Precision::bf16 || r.device.starts_with("cuda"));
  return options;
}

std::vector<std::string> result_methods(Method method) {
  if (method == Method::dense) return {to_string(method)};
  return {to_string(method), "dense"};
}

at::ScalarType eigh_dtype(const Recipe& r) {
  return r.eigh.dtype == "float64" ? at::kDouble : at::kFloat;
}

at::Tensor curvature_subset(const Dataset& part, int64_t count, int64_t subset) {
  return part.y.dim() == 1 ? balanced_subset(part.y, part.classes, count, subset)
                           : first_subset(part.size(), count, subset);
}

}  // namespace seigh
