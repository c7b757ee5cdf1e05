#include "seigh/nn/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <limits>
#include <utility>

#include "seigh/core/random.h"

namespace seigh {

namespace {

constexpr double kNormEps = 1e-5, kBatchNormMomentum = 0.1;

double root(double variance) {
  return std::sqrt(variance);
}

at::Tensor draw(const Initialization& initialization, int64_t count, uint64_t seed, int64_t column) {
  const double scale = initialization.scale;
  switch (initialization.kind) {
    case Initialization::Kind::constant:
      break;
    case Initialization::Kind::normal:
      return (random_gaussian(seed, Stream::initialization, count, column, 1, at::kDouble).select(1, 0) *
              scale)
          .to(at::kFloat);
    case Initialization::Kind::uniform:
      return (random_uniform(seed, Stream::initialization, count, column) * (2 * scale) - scale)
          .to(at::kFloat);
  }
  return at::full({count}, scale, at::kFloat);
}

// Both sides by name: libtorch's rule for batches of weights takes the dimensions from the number of strides.
at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride,
                  int64_t padding) {
  return at::conv2d(x, weight, bias, {stride, stride}, at::IntArrayRef{padding, padding});
}

}  // namespace

Initialization Initialization::xavier_normal(int64_t fan_in, int64_t fan_out) {
  return normal(root(2.0 / static_cast<double>(fan_in + fan_out)));
}
Initialization Initialization::xavier_uniform(int64_t fan_in, int64_t fan_out) {
  return uniform(
      root(6.0 / static_cast<double>(fan_in + fan_out)));  // a uniform on [-b, b) has variance b^2 / 3
}
Initialization Initialization::kaiming_normal_fan_out(int64_t fan_out) {
  return normal(root(2.0 / static_cast<double>(fan_out)));
}
Initialization Initialization::torch_default(int64_t fan_in) {
  return uniform(root(1.0 / static_cast<double>(fan_in)));
}

at::Tensor LayeredModel::initial_parameters(uint64_t seed) const {
  std::vector<at::Tensor> pieces;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    pieces.push_back(draw(initializations_[i], parameters_[i].numel(), seed, static_cast<int64_t>(i)));
  }
  return flatten(pieces);
}

std::vector<at::Tensor> LayeredModel::initial_buffers() const {
  std::vector<at::Tensor> tensors;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    tensors.push_back(at::full(buffers_[i].shape, buffer_initializations_[i].scale, at::kFloat));
  }
  return tensors;
}

void LayeredModel::add(std::string name, std::vector<int64_t> shape, Initialization initialization) {
  parameters_.push_back({std::move(name), std::move(shape)});
  initializations_.push_back(initialization);
}

void LayeredModel::add_conv(const std::string& name, int64_t in, int64_t out, int64_t kernel,
                            Initialization weight) {
  add(name + ".weight", {out, in, kernel, kernel}, weight);
}

void LayeredModel::add_conv(const std::string& name, int64_t in, int64_t out, int64_t kernel,
                            Initialization weight, Initialization bias) {
  add_conv(name, in, out, kernel, weight);
  add(name + ".bias", {out}, bias);
}

void LayeredModel::add_linear(const std::string& name, int64_t in, int64_t out, Initialization weight,
                              Initialization bias, int64_t parts) {
  add(name + ".weight", {out, in}, weight);
  parameters_.back().parts = parts;
  add(name + ".bias", {out}, bias);
  parameters_.back().parts = parts;
}

void LayeredModel::add_norm(const std::string& name, int64_t channels) {
  add(name + ".weight", {channels}, Initialization::constant(1));
  add(name + ".bias", {channels}, Initialization::constant(0));
}

void LayeredModel::add_running_statistics(const std::string& name, int64_t channels) {
  buffers_.push_back({name + ".running_mean", {channels}});
  buffer_initializations_.push_back(Initialization::constant(0));
  buffers_.push_back({name + ".running_var", {channels}});
  buffer_initializations_.push_back(Initialization::constant(1));
}

at::Tensor conv(ParameterReader& reader, const at::Tensor& x, int64_t stride, int64_t padding) {
  const at::Tensor& weight = reader.parameter();
  const at::Tensor& bias = reader.parameter();
  return conv2d(x, weight, bias, stride, padding);
}

at::Tensor conv_without_bias(ParameterReader& reader, const at::Tensor& x, int64_t stride, int64_t padding) {
  return conv2d(x, reader.parameter(), {}, stride, padding);
}

at::Tensor conv_3x3_stride_2_same(ParameterReader& reader, const at::Tensor& x) {
  // left, right, top, bottom
  return conv(reader, at::constant_pad_nd(x, {x.size(3) % 2, 1, x.size(2) % 2, 1}), 2, 0);
}

at::Tensor max_pool_3x3_stride_2_same(const at::Tensor& x) {
  // An even height needs one more row at the bottom, which is what ceil_mode adds; an odd one has an exact
  // fit between one row on either side.
  return at::max_pool2d(x, 3, 2, {x.size(2) % 2, x.size(3) % 2}, 1, /*ceil_mode=*/true);
}

at::Tensor linear(ParameterReader& reader, const at::Tensor& x) {
  const at::Tensor& weight = reader.parameter();
  const at::Tensor& bias = reader.parameter();
  return at::linear(x, weight, bias);
}

at::Tensor batch_norm(ParameterReader& reader, const at::Tensor& x) {
  const at::Tensor& weight = reader.parameter();
  const at::Tensor& bias = reader.parameter();
  const at::Tensor& mean = reader.buffer();
  const at::Tensor& variance = reader.buffer();
  if (reader.training()) {
    return at::batch_norm(x, weight, bias, mean, variance, true, kBatchNormMomentum, kNormEps, false);
  }
  // y = (x - mean) weight / sqrt(variance + eps) + bias as x * scale + shift, whose second derivatives are
  // short.
  const at::Tensor scale = weight * at::rsqrt(variance + kNormEps);
  const at::Tensor shift = bias - mean * scale;
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[1] = -1;
  return x * scale.view(shape) + shift.view(shape);
}

at::Tensor group_norm(ParameterReader& reader, const at::Tensor& x, int64_t groups) {
  const at::Tensor& weight = reader.parameter();
  const at::Tensor& bias = reader.parameter();
  return at::group_norm(x, groups, weight, bias, kNormEps, false);
}

at::Tensor layer_norm(ParameterReader& reader, const at::Tensor& x, double eps) {
  const at::Tensor& weight = reader.parameter();
  const at::Tensor& bias = reader.parameter();
  return at::layer_norm(x, {x.size(-1)}, weight, bias, eps, false);
}

at::Tensor self_attention(ParameterReader& reader, const at::Tensor& x, int64_t heads, bool causal) {
  const int64_t n = x.size(0), tokens = x.size(1), width = x.size(2), head = width / heads;
  // [N, T, 3, heads, head] to three of [N, heads, T, head]
  const at::Tensor qkv = linear(reader, x).view({n, tokens, 3, heads, head}).permute({2, 0, 3, 1, 4});
  at::Tensor scores = at::matmul(qkv[0], qkv[1].transpose(2, 3)) / std::sqrt(static_cast<double>(head));
  if (causal) {
    const at::Tensor later = at::ones({tokens, tokens}, scores.options().dtype(at::kBool)).triu(1);
    scores = scores.masked_fill(later, -std::numeric_limits<double>::infinity());
  }
  const at::Tensor mixed = at::matmul(at::softmax(scores, -1), qkv[2]);
  return linear(reader, mixed.transpose(1, 2).reshape({n, tokens, width}));
}

at::Tensor feed_forward(ParameterReader& reader, const at::Tensor& x) {
  const at::Tensor hidden = at::gelu(linear(reader, x));
  return linear(reader, hidden);
}

}  // namespace seigh
