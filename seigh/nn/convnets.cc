#include "seigh/nn/convnets.h"

#include <ATen/ops/mean.h>
#include <ATen/ops/relu.h>

#include <algorithm>
#include <sstream>

#include "seigh/core/error.h"
#include "seigh/nn/hidden_units.h"

namespace seigh {

namespace {

using Init = Initialization;

Init xavier_conv(int64_t in, int64_t out, int64_t kernel) {
  return Init::xavier_normal(in * kernel * kernel, out * kernel * kernel);
}

}  // namespace

void require_image(const std::string& model, const std::vector<int64_t>& shape, int64_t side,
                   int64_t classes) {
  require(shape.size() == 3 && shape[0] >= 1 && std::min(shape[1], shape[2]) >= side, model,
          ": images of shape [channels, height, width] with sides of at least ", side,
          " are needed, not samples of shape ", at::IntArrayRef(shape));
  require(classes >= 1, model, ": at least one class is needed, not ", classes);
}

void require_widths(const std::string& model, at::IntArrayRef widths) {
  for (const int64_t width : widths) require(width >= 1, model, ": a width of ", width, " is not possible");
}

ThreeC3d::ThreeC3d(const std::vector<int64_t>& input_shape, int64_t classes, const ThreeC3dOptions& options) {
  require_image("3c3d", input_shape, 10, classes);
  require_widths("3c3d", options.channels);
  require_widths("3c3d", options.hidden);
  const auto [c1, c2, c3] = options.channels;
  const auto pooled = [](int64_t side) { return (side + 1) / 2; };
  const auto remaining = [&](int64_t side) { return pooled(pooled(pooled(side - 4) - 2)); };
  const int64_t features = c3 * remaining(input_shape[1]) * remaining(input_shape[2]);

  add_conv("conv1", input_shape[0], c1, 5, xavier_conv(input_shape[0], c1, 5), Init::constant(0));
  add_conv("conv2", c1, c2, 3, xavier_conv(c1, c2, 3), Init::constant(0));
  add_conv("conv3", c2, c3, 3, xavier_conv(c2, c3, 3), Init::constant(0));
  const int64_t widths[] = {features, options.hidden[0], options.hidden[1], classes};
  for (int i = 0; i < 3; ++i) {
    add_linear("dense" + std::to_string(i + 1), widths[i], widths[i + 1],
               Init::xavier_uniform(widths[i], widths[i + 1]), Init::constant(0));
  }
  std::ostringstream text;
  text << "3c3d, convolutions " << c1 << '-' << c2 << '-' << c3 << ", linear " << features << '-' << widths[1]
       << '-' << widths[2] << '-' << classes;
  description_ = text.str();
}

std::string ThreeC3d::description() const {
  return description_;
}

std::vector<HiddenUnits> ThreeC3d::hidden_units() const {
  return chain_of_units(parameters_);
}

at::Tensor ThreeC3d::forward(const std::vector<at::Tensor>& parameters,
                             const std::vector<at::Tensor>& buffers, const at::Tensor& x,
                             bool training) const {
  ParameterReader reader(parameters, buffers, training);
  at::Tensor h = x;
  // The published order is ReLU, then pooling. They commute, and a quarter of the numbers remains for the
  // ReLU.
  for (const int64_t padding : {0, 0, 1})
    h = at::relu(max_pool_3x3_stride_2_same(conv(reader, h, 1, padding)));
  h = h.flatten(1);
  for (int i = 0; i < 2; ++i) h = at::relu(linear(reader, h));
  return linear(reader, h);
}

AllCnn::AllCnn(const std::vector<int64_t>& input_shape, int64_t classes, const AllCnnOptions& options) {
  require_image("all-cnn-c", input_shape, 9, classes);
  require_widths("all-cnn-c", options.channels);
  const auto [a, b] = options.channels;
  const int64_t widths[] = {input_shape[0], a, a, a, b, b, b, b, b, classes};
  for (int i = 0; i < 9; ++i) {
    const int64_t kernel = i < 7 ? 3 : 1;
    add_conv("conv" + std::to_string(i + 1), widths[i], widths[i + 1], kernel,
             xavier_conv(widths[i], widths[i + 1], kernel), Init::constant(0.1));
  }
  std::ostringstream text;
  text << "all-cnn-c, " << a << " and " << b << " channels, " << classes << " classes";
  description_ = text.str();
}

std::string AllCnn::description() const {
  return description_;
}

std::vector<HiddenUnits> AllCnn::hidden_units() const {
  return chain_of_units(parameters_);
}

at::Tensor AllCnn::forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                           const at::Tensor& x, bool training) const {
  ParameterReader reader(parameters, buffers, training);
  at::Tensor h = x;
  for (int stage = 0; stage < 2; ++stage) {
    for (int i = 0; i < 2; ++i) h = at::relu(conv(reader, h, 1, 1));
    h = at::relu(conv_3x3_stride_2_same(reader, h));
  }
  for (int i = 0; i < 3; ++i) h = at::relu(conv(reader, h, 1, 0));
  return at::mean(h, {2, 3});
}

}  // namespace seigh
