#include "seigh/curvature/model_source.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros_like.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>

#include "seigh/core/error.h"
#include "seigh/curvature/mlp_curvature.h"

namespace seigh {
namespace {

// Floating tensors in `dtype`; classes and tokens as they are. Tensors of inference mode cannot be part of a
// graph.
at::Tensor as(const at::Tensor& tensor, at::ScalarType dtype) {
  at::Tensor plain = tensor.detach();
  if (plain.is_floating_point()) plain = plain.to(dtype);
  return plain.is_inference() ? plain.clone() : plain;
}

}  // namespace

ModelSource::ModelSource(const Model& model, const at::Tensor& parameters,
                         const std::vector<at::Tensor>& buffers, const Dataset& data, const Loss& loss,
                         at::ScalarType dtype, const std::string& name)
    : model_(model),
      name_(name),
      dtype_(dtype),
      given_parameters_(parameters.detach()),
      parameters_(as(parameters, dtype)),
      given_buffers_(buffers),
      given_(data),
      loss_(loss) {
  require(data.size() > 0, name, ": the data set is empty");
  data_ = {as(data.x, dtype), as(data.y, dtype), data.classes, data.numbers};
  for (const at::Tensor& buffer : buffers) buffers_.push_back(as(buffer, dtype));
  require(parameters_.isfinite().all().item<bool>(), name, ": the parameters hold NaN or infinity");
  require(data_.x.isfinite().all().item<bool>(), name, ": the inputs hold NaN or infinity");
  if (loss_.kind == LossKind::custom) find_whole();
}

std::shared_ptr<const GraphSource> ModelSource::again(const at::Tensor& order, at::ScalarType dtype) const {
  auto other =
      std::make_shared<ModelSource>(model_, given_parameters_, given_buffers_,
                                    order.defined() ? given_.select(order) : given_, loss_, dtype, name_);
  other->order_ = order.defined() && order_.defined() ? order_.index_select(0, order)
                                                      : (order.defined() ? order : order_);
  return other;
}

int64_t ModelSource::sample_number(int64_t i) const {
  return data_.numbers.defined() ? data_.numbers[i].item<int64_t>() : i;
}

std::vector<std::string> ModelSource::notes() const {
  if (cut_) return {};
  return {text_of("the loss of a part of the samples is no share of that of all (", loss_.custom->name(),
                  "): all ", samples(), " are taken together, whatever memory that needs")};
}

std::vector<int64_t> ModelSource::batches() const {
  return cut_ ? std::vector<int64_t>() : std::vector<int64_t>{0};
}

std::vector<at::Tensor> ModelSource::leaves() const {
  std::vector<at::Tensor> all;
  for (const at::Tensor& piece : unflatten(model_.parameters(), parameters_)) all.push_back(piece.detach());
  return all;
}

int64_t ModelSource::targets(int64_t begin, int64_t end) const {
  return target_count(y(begin, end));
}

// The gradient of a loss of the user's own in some outputs, in float64.
at::Tensor ModelSource::own_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = outputs.detach().requires_grad_(true);
  const at::Tensor value = loss_.custom->mean(leaf, y(begin, end));
  require(value.requires_grad(), loss_.custom->name(), " has no derivative in the outputs");
  const at::Tensor gradient = torch::autograd::grad({value}, {leaf}, {}, /*retain_graph=*/false,
                                                    /*create_graph=*/false, /*allow_unused=*/true)[0];
  return gradient.defined() ? gradient.to(at::kDouble) : at::zeros_like(leaf, at::kDouble);
}

void ModelSource::find_whole() {
  {
    const at::NoGradGuard no_grad;
    const std::vector<at::Tensor> all = leaves();
    std::vector<at::Tensor> parts;
    constexpr int64_t kChunk = 64;  // bounds the activations in memory
    for (int64_t begin = 0; begin < samples(); begin += kChunk)
      parts.push_back(outputs(all, begin, std::min(begin + kChunk, samples())));
    whole_.outputs = at::cat(parts);
  }
  try {  // shares to more digits than the products'
    const at::Tensor exact = whole_.outputs.to(at::kDouble);
    whole_.gradient = own_gradient(exact, 0, samples());
    whole_.outputs = exact;
  } catch (const Error&) {  // it does not run in float64
    whole_.gradient = own_gradient(whole_.outputs, 0, samples());
  }
  const std::string& file = loss_.custom->name();
  require(
      whole_.gradient.isfinite().all().item<bool>(), file, ": the loss of all ", samples(),
      " samples together has a derivative that is NaN or infinite; check it on these outputs and targets");
  whole_.gradient_norm = whole_.gradient.norm().item<double>();
  if (samples() == 1) return;
  const std::optional<double> first = share(0, samples() / 2), second = share(samples() / 2, samples());
  cut_ = first && second;
  require(
      !cut_ || std::abs(*first + *second - 1) < 1e-4, file, " is not a mean over samples: of ", samples(),
      " of them its derivatives are ", cut_ ? 1 / (*first + *second) : 0,
      " times what their two halves give on average; divide by the number of samples, or by their weights");
}

// What the loss of all samples has of the loss of these alone: d(all)/df = share * d(these)/df. None where no
// number is it.
std::optional<double> ModelSource::share(int64_t begin, int64_t end) const {
  const double plain = static_cast<double>(targets(begin, end)) / static_cast<double>(targets(0, samples()));
  const at::Tensor all = whole_.gradient.slice(0, begin, end);
  if (all.abs().max().item<double>() == 0) {
    // Nothing of them counts, or they fit perfectly; their own loss may be 0/0.
    const at::NoGradGuard no_grad;
    const at::Tensor value = loss_.custom->mean(whole_.outputs.slice(0, begin, end), y(begin, end));
    return value.isfinite().item<bool>() ? plain : 0;
  }
  const at::Tensor own = own_gradient(whole_.outputs.slice(0, begin, end), begin, end);
  const double square = own.square().sum().item<double>();
  if (!std::isfinite(square) || square == 0) return std::nullopt;
  const double share = (all * own).sum().item<double>() / square;
  // What rounding may leave: of the gradient of these, and next to that of all.
  const double same = whole_.outputs.scalar_type() == at::kDouble ? 1e-7 : 1e-3;
  const double left = (all - own * share).norm().item<double>();
  if (left > same * all.norm().item<double>() + same * same * whole_.gradient_norm) return std::nullopt;
  return std::abs(share / plain - 1) < same ? plain : share;
}

// By which a loss of the user's own, as a sum over targets, is to be multiplied; 1 for a plain mean.
double ModelSource::factor(int64_t begin, int64_t end) const {
  if (loss_.kind != LossKind::custom || (begin == 0 && end == samples())) return 1;
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = factors_.find({begin, end}); known != factors_.end()) return known->second;
  }
  const std::optional<double> found = share(begin, end);
  require(found.has_value(), loss_.custom->name(), ": the loss of samples ", begin, " to ", end - 1,
          " is no share of that of all ", samples(),
          "; divide by a number that depends on the targets alone, or take all samples at once "
          "(curvature.batch_size = ",
          samples(), ")");
  const double value =
      *found * static_cast<double>(targets(0, samples())) / static_cast<double>(targets(begin, end));
  const std::lock_guard lock(mutex_);
  return factors_[{begin, end}] = value;
}

bool ModelSource::supports(CurvatureKind kind) const {
  if (kind == CurvatureKind::mc_fisher) return loss_.kind != LossKind::custom;
  // Gradients of single targets: the loss must be a sum of theirs.
  return kind != CurvatureKind::empirical_fisher || cut_;
}

at::Tensor ModelSource::outputs(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const {
  return model_.forward(leaves, buffers_, data_.x.slice(0, begin, end));
}

void ModelSource::prepare(int64_t begin, int64_t end) const {
  factor(begin, end);
}

at::Tensor ModelSource::loss(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const {
  const at::Tensor f = outputs(leaves, begin, end).to(dtype_);  // a loss of float32 also under autocast
  const double times = factor(begin, end);
  if (times == 0) return 0 * f.square().sum();  // their own loss may be 0/0
  const at::Tensor sum = accurate_loss_sum(loss_, f, y(begin, end));
  return times == 1 ? sum : sum * times;
}

at::Tensor ModelSource::output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const {
  const double times = factor(begin, end);
  if (times == 0) return at::zeros_like(outputs);
  return seigh::output_gradient(loss_, outputs, y(begin, end)) * times;
}

at::Tensor ModelSource::sampled_output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end,
                                                uint64_t seed, int64_t draw) const {
  const int64_t each = targets(0, 1);
  if (!order_.defined()) return seigh::sampled_output_gradient(loss_, outputs, seed, draw, begin * each);
  std::vector<at::Tensor> drawn;  // a sample's draws belong to it, wherever it stands
  for (int64_t i = begin; i < end; ++i) {
    drawn.push_back(seigh::sampled_output_gradient(loss_, outputs.slice(0, i - begin, i - begin + 1), seed,
                                                   draw, order_[i].item<int64_t>() * each));
  }
  return at::cat(drawn);
}

at::Tensor ModelSource::output_hessian_product(const at::Tensor& outputs, int64_t begin, int64_t end,
                                               const at::Tensor& u) const {
  const double times = factor(begin, end);
  if (times == 0) return at::zeros_like(u);
  const at::Tensor product = seigh::output_hessian_product(loss_, outputs, y(begin, end), u);
  return times == 1 ? product : product * times;
}

std::unique_ptr<CurvatureOperator> ModelSource::faster_operator(const CurvatureOptions& options,
                                                                const std::string& name,
                                                                const Context& context) const {
  CurvatureOptions o = options;
  o.loss = loss_;
  o.dtype = dtype_;
  return MlpCurvatureOperator::where_possible(model_, given_parameters_, given_, o, name, context);
}

}  // namespace seigh
