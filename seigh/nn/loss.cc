#include "seigh/nn/loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <torch/autograd.h>

#include <cmath>
#include <vector>

#include "seigh/core/deterministic.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"

namespace seigh {

namespace {

void check(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets) {
  loss.validate();
  if (loss.kind == LossKind::custom) {
    require(outputs.dim() >= 1 && targets.dim() >= 1 && outputs.size(0) == targets.size(0),
            loss.custom->name(), ": outputs of shape ", outputs.sizes(), " and targets of shape ",
            targets.sizes(), " are not of the same samples");
    return;
  }
  if (loss.kind != LossKind::cross_entropy && targets.is_floating_point()) {
    require(outputs.dim() >= 2 && targets.sizes() == outputs.sizes(), to_string(loss.kind),
            ": outputs of shape ", outputs.sizes(), " need floating targets of the same shape, not ",
            targets.sizes());
    return;
  }
  require(outputs.dim() >= 2 && targets.scalar_type() == at::kLong &&
              targets.sizes() == outputs.sizes().slice(0, static_cast<size_t>(outputs.dim() - 1)),
          to_string(loss.kind), ": outputs of shape ", outputs.sizes(),
          " need int64 targets of all their dimensions but the last, not ", targets.scalar_type(),
          " of shape ", targets.sizes());
}

// Targets as numbers of the outputs' shape and dtype.
at::Tensor values_of(const at::Tensor& targets, const at::Tensor& outputs) {
  return (targets.is_floating_point() ? targets : at::one_hot(targets, outputs.size(-1)))
      .to(outputs.scalar_type());
}

// The shape of outputs with one leading dimension more, of any size.
std::vector<int64_t> with_leading(const at::Tensor& outputs) {
  std::vector<int64_t> shape = outputs.sizes().vec();
  shape.insert(shape.begin(), -1);
  return shape;
}

at::Tensor custom_product(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets,
                          const at::Tensor& u) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = outputs.detach().requires_grad_(true);
  const at::Tensor gradient =
      torch::autograd::grad({loss_sum(loss, leaf, targets)}, {leaf}, {}, /*retain_graph=*/true,
                            /*create_graph=*/true)[0];
  at::Tensor product = at::empty(u.sizes(), u.options());
  const at::Tensor vectors = u.reshape(with_leading(outputs)), products = product.view(with_leading(outputs));
  for (int64_t i = 0; i < vectors.size(0); ++i)
    products[i].copy_(torch::autograd::grad({gradient}, {leaf}, {vectors[i]}, /*retain_graph=*/true)[0]);
  return product;
}

}  // namespace

LossKind parse_loss(const std::string& name) {
  for (const LossKind kind :
       {LossKind::cross_entropy, LossKind::mean_squared_error, LossKind::binary_cross_entropy}) {
    if (to_string(kind) == name) return kind;
  }
  fail("unknown loss \"", name, "\"; choose cross_entropy, mean_squared_error or binary_cross_entropy");
}

std::string to_string(LossKind kind) {
  switch (kind) {
    case LossKind::cross_entropy:
      return "cross_entropy";
    case LossKind::mean_squared_error:
      return "mean_squared_error";
    case LossKind::binary_cross_entropy:
      return "binary_cross_entropy";
    case LossKind::custom:
      return "custom";
  }
  fail("loss out of range");
}

void Loss::validate() const {
  require(0 <= label_smoothing && label_smoothing <= 1, "label smoothing must lie between 0 and 1, not ",
          label_smoothing);
  require(kind == LossKind::cross_entropy || label_smoothing == 0, "label smoothing (", label_smoothing,
          ") belongs to cross_entropy; ", to_string(kind), " has none");
  require((kind == LossKind::custom) == (custom != nullptr), "a loss of kind ", to_string(kind),
          custom != nullptr ? " has no function of its own" : " needs its function");
}

int64_t target_count(const at::Tensor& targets) {
  return targets.is_floating_point() && targets.dim() >= 2 ? targets.numel() / targets.size(-1)
                                                           : targets.numel();
}

at::Tensor loss_sum(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets) {
  check(loss, outputs, targets);
  const double s = loss.label_smoothing, classes = static_cast<double>(outputs.size(-1));
  switch (loss.kind) {
    case LossKind::cross_entropy: {
      const at::Tensor log_p = at::log_softmax(outputs, -1);
      const at::Tensor sum = -log_p.gather(-1, targets.unsqueeze(-1)).sum();
      return s == 0 ? sum : (1 - s) * sum - s / classes * log_p.sum();
    }
    case LossKind::mean_squared_error:
      return (outputs - values_of(targets, outputs)).square().sum() / classes;
    case LossKind::binary_cross_entropy:
      return (outputs.clamp_min(0) - outputs * values_of(targets, outputs) +
              at::log1p((-outputs.abs()).exp()))
                 .sum() /
             classes;
    case LossKind::custom:
      // The zero keeps the gradient a function of the outputs where the loss is linear in them.
      return loss.custom->mean(outputs, targets) * target_count(targets) + 0 * outputs.square().sum();
  }
  fail("loss out of range");
}

at::Tensor accurate_loss_sum(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets) {
  if (loss.kind != LossKind::cross_entropy || loss.label_smoothing > 0)
    return loss_sum(loss, outputs, targets);
  check(loss, outputs, targets);
  const at::Tensor target = targets.unsqueeze(-1);
  // The target's own entry is the constant 0.
  return (outputs - outputs.gather(-1, target)).scatter(-1, target, 0.0).logsumexp(-1).sum();
}

at::Tensor output_gradient(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets) {
  check(loss, outputs, targets);
  if (loss.kind == LossKind::cross_entropy) {
    const double s = loss.label_smoothing, classes = static_cast<double>(outputs.size(-1));
    const at::Tensor target = targets.unsqueeze(-1), p = at::softmax(outputs, -1);
    if (s == 0) {  // -sum_{c != t} p[c], not p[t] - 1, which loses its digits to rounding
      const at::Tensor others = p.scatter(-1, target, 0.0);
      return others.scatter(-1, target, -others.sum(-1, /*keepdim=*/true));
    }
    const at::Tensor one_hot = at::one_hot(targets, outputs.size(-1)).to(outputs.scalar_type());
    return p - (one_hot * (1 - s) + s / classes);
  }
  if (loss.kind == LossKind::binary_cross_entropy)
    return (at::sigmoid(outputs) - values_of(targets, outputs)) / static_cast<double>(outputs.size(-1));
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = outputs.detach().requires_grad_(true);
  return torch::autograd::grad({loss_sum(loss, leaf, targets)}, {leaf})[0];
}

at::Tensor output_hessian_product(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets,
                                  const at::Tensor& u) {
  check(loss, outputs, targets);
  require(u.dim() >= outputs.dim() &&
              u.sizes().slice(static_cast<size_t>(u.dim() - outputs.dim())) == outputs.sizes(),
          to_string(loss.kind), ": a vector of shape ", u.sizes(), " does not fit outputs of shape ",
          outputs.sizes());
  switch (loss.kind) {
    case LossKind::cross_entropy: {
      // A constant more in every entry of u changes nothing, and where one p is nearly 1 it saves the digits
      // of its row.
      const at::Tensor likeliest = outputs.argmax(-1, /*keepdim=*/true);
      std::vector<int64_t> rows = u.sizes().vec();
      rows.back() = 1;
      const at::Tensor p = at::softmax(outputs, -1), shifted = u - u.gather(-1, likeliest.expand(rows));
      const at::Tensor pu = p * shifted;
      return pu - p * pu.sum(-1, /*keepdim=*/true);
    }
    case LossKind::mean_squared_error:
      return u * (2.0 / static_cast<double>(outputs.size(-1)));
    case LossKind::binary_cross_entropy: {
      const at::Tensor p = at::sigmoid(outputs);
      return u * (p * (1 - p) / static_cast<double>(outputs.size(-1)));
    }
    case LossKind::custom:
      return custom_product(loss, outputs, targets, u);
  }
  fail("loss out of range");
}

namespace {

// Uniform numbers for every output, those of a row at counters that depend on its number alone: [rows, C].
// `which`: independent ones of a draw, 0 or 1.
at::Tensor uniform_of_outputs(const at::Tensor& outputs, uint64_t seed, int64_t draw, int64_t which,
                              int64_t row_begin) {
  const int64_t classes = outputs.size(-1), rows = outputs.numel() / classes;
  return random_uniform(seed, Stream::sampled_targets, rows * classes, 2 * draw + which, row_begin * classes)
      .reshape({rows, classes})
      .to(outputs.device());
}

}  // namespace

at::Tensor sampled_targets(const Loss& loss, const at::Tensor& outputs, uint64_t seed, int64_t draw,
                           int64_t row_begin) {
  require(loss.kind != LossKind::custom,
          "targets cannot be sampled for custom: it has no distribution over targets");
  require(outputs.dim() >= 2 && outputs.size(-1) >= 1,
          "targets are sampled for outputs [samples, classes], not ", outputs.sizes());
  const at::Tensor f = outputs.detach().to(at::kDouble).flatten(0, -2);
  if (loss.kind == LossKind::mean_squared_error) {
    // Box-Muller; 1 - u lies in (0, 1].
    const at::Tensor radius = (-2 * at::log1p(-uniform_of_outputs(outputs, seed, draw, 0, row_begin))).sqrt();
    const at::Tensor angle =
        2 * 3.14159265358979323846 * uniform_of_outputs(outputs, seed, draw, 1, row_begin);
    const double deviation = std::sqrt(static_cast<double>(outputs.size(-1)) / 2);
    return (f + deviation * radius * at::cos(angle)).to(outputs.scalar_type()).reshape(outputs.sizes());
  }
  if (loss.kind == LossKind::binary_cross_entropy) {
    return uniform_of_outputs(outputs, seed, draw, 0, row_begin)
        .lt(at::sigmoid(f))
        .to(outputs.scalar_type())
        .reshape(outputs.sizes());
  }
  const at::Tensor cdf = at::softmax(f, -1);
  add_up(cdf, -1);
  const at::Tensor u =
      random_uniform(seed, Stream::sampled_targets, cdf.size(0), draw, row_begin).to(cdf.device());
  // Class c when cdf[c - 1] <= u cdf[C - 1] < cdf[c]. As u < 1, at most C - 1 entries pass, but for the
  // rounding of u cdf[C - 1].
  const at::Tensor passed = cdf.le(u.unsqueeze(1) * cdf.slice(1, -1)).sum(1).clamp_max(outputs.size(-1) - 1);
  return passed.reshape(outputs.sizes().slice(0, static_cast<size_t>(outputs.dim() - 1)));
}

at::Tensor sampled_output_gradient(const Loss& loss, const at::Tensor& outputs, uint64_t seed, int64_t draw,
                                   int64_t row_begin) {
  const at::Tensor r = output_gradient(loss, outputs, sampled_targets(loss, outputs, seed, draw, row_begin));
  return loss.kind == LossKind::binary_cross_entropy ? r * std::sqrt(static_cast<double>(outputs.size(-1)))
                                                     : r;
}

}  // namespace seigh
