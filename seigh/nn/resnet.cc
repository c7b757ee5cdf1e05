#include "seigh/nn/resnet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/relu.h>

#include <sstream>

#include "seigh/core/error.h"
#include "seigh/nn/convnets.h"
#include "seigh/nn/hidden_units.h"

namespace seigh {

using Stem = ResNetOptions::Stem;
using Norm = ResNetOptions::Norm;

void ResNetOptions::validate() const {
  require_widths("resnet", {width});
  require(norm != Norm::group || (groups >= 1 && width % groups == 0), "resnet: ", groups,
          " groups of group norm do not divide the width ", width);
  for (const int64_t count : blocks)
    require(count >= 1, "resnet: a stage of ", count, " blocks is not possible");
}

Stem parse_stem(const std::string& name) {
  require(name == "cifar" || name == "imagenet", "unknown stem \"", name, "\"; choose cifar or imagenet");
  return name == "cifar" ? Stem::cifar : Stem::imagenet;
}

Norm parse_norm(const std::string& name) {
  require(name == "batch" || name == "group" || name == "none", "unknown norm \"", name,
          "\"; choose batch, group or none");
  return name == "batch" ? Norm::batch : name == "group" ? Norm::group : Norm::none;
}

ResNet::ResNet(const std::vector<int64_t>& input_shape, int64_t classes, const ResNetOptions& options)
    : classes_(classes), options_(options) {
  require_image("resnet", input_shape, 1, classes);
  options.validate();
  add_convolution_and_norm("conv1", "bn1", input_shape[0], options.width,
                           options.stem == Stem::cifar ? 3 : 7);
  int64_t in = options.width;
  for (size_t stage = 0; stage < options.blocks.size(); ++stage) {
    const int64_t out = options.width << stage;
    for (int64_t block = 0; block < options.blocks[stage]; ++block) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(block) + ".";
      add_convolution_and_norm(name + "conv1", name + "bn1", in, out, 3);
      add_convolution_and_norm(name + "conv2", name + "bn2", out, out, 3);
      if (in != out) add_convolution_and_norm(name + "downsample.0", name + "downsample.1", in, out, 1);
      in = out;
    }
  }
  add_linear("fc", in, classes, Initialization::torch_default(in), Initialization::torch_default(in));
}

void ResNet::add_convolution_and_norm(const std::string& conv, const std::string& norm, int64_t in,
                                      int64_t out, int64_t kernel) {
  add_conv(conv, in, out, kernel, Initialization::kaiming_normal_fan_out(out * kernel * kernel));
  if (options_.norm == Norm::none) return;
  add_norm(norm, out);
  if (options_.norm == Norm::batch) add_running_statistics(norm, out);
}

std::string ResNet::description() const {
  int64_t layers = 2;
  for (const int64_t count : options_.blocks) layers += 2 * count;
  std::ostringstream text;
  text << "resnet" << layers << ", width " << options_.width << ", "
       << (options_.stem == Stem::cifar ? "CIFAR" : "ImageNet") << " stem, "
       << (options_.norm == Norm::batch   ? "batch norm"
           : options_.norm == Norm::group ? "group norm"
                                          : "no norm")
       << ", " << classes_ << " classes";
  return text.str();
}

std::vector<HiddenUnits> ResNet::hidden_units() const {
  std::vector<HiddenUnits> all;
  struct Layer {
    std::string conv, norm;
  };
  const bool grouped = options_.norm == Norm::group;
  // Channels that `made` make and `read` read.
  const auto add = [&](int64_t channels, const std::vector<Layer>& made,
                       const std::vector<std::string>& read) {
    const int64_t groups = grouped ? options_.groups : 1;
    for (const bool whole : {true, false}) {
      if (whole && groups == 1) continue;
      HiddenUnitsOf units(parameters_, whole ? groups : channels / groups);
      for (const Layer& layer : made) {
        units.made_by(layer.conv, whole ? 1 : groups);
        if (options_.norm != Norm::none) units.made_by(layer.norm, whole ? 1 : groups);
      }
      for (const std::string& layer : read) units.read_by(layer, whole ? 1 : groups);
      all.push_back(units.units());
    }
  };
  std::vector<Layer> made{{"conv1", "bn1"}};  // of the residual stream
  std::vector<std::string> read;
  for (size_t stage = 0; stage < options_.blocks.size(); ++stage) {
    const int64_t channels = options_.width << stage;
    for (int64_t block = 0; block < options_.blocks[stage]; ++block) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(block) + ".";
      read.push_back(name + "conv1");
      if (stage > 0 && block == 0) {
        read.push_back(name + "downsample.0");
        add(channels / 2, made, read);
        made = {{name + "downsample.0", name + "downsample.1"}};
        read.clear();
      }
      made.push_back({name + "conv2", name + "bn2"});
      add(channels, {{name + "conv1", name + "bn1"}}, {name + "conv2"});
    }
  }
  read.emplace_back("fc");
  add(options_.width << (options_.blocks.size() - 1), made, read);
  return all;
}

at::Tensor ResNet::normalized(ParameterReader& reader, const at::Tensor& x) const {
  if (options_.norm == Norm::none) return x;
  return options_.norm == Norm::batch ? batch_norm(reader, x) : group_norm(reader, x, options_.groups);
}

at::Tensor ResNet::forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                           const at::Tensor& x, bool training) const {
  ParameterReader reader(parameters, buffers, training);
  const auto layer = [&](const at::Tensor& input, int64_t stride, int64_t padding) {
    const at::Tensor convolved = conv_without_bias(reader, input, stride, padding);
    return normalized(reader, convolved);
  };
  const bool small = options_.stem == Stem::cifar;
  at::Tensor h = at::relu(layer(x, small ? 1 : 2, small ? 1 : 3));
  if (!small) h = at::max_pool2d(h, 3, 2, 1);
  for (size_t stage = 0; stage < options_.blocks.size(); ++stage) {
    for (int64_t block = 0; block < options_.blocks[stage]; ++block) {
      const bool halves = stage > 0 && block == 0;
      const at::Tensor inner = at::relu(layer(h, halves ? 2 : 1, 1));
      const at::Tensor residual = layer(inner, 1, 1);
      h = at::relu(residual + (halves ? layer(h, 2, 0) : h));
    }
  }
  return linear(reader, at::mean(h, {2, 3}));
}

}  // namespace seigh
