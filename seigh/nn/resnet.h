// Residual networks with two layers per block (He, Zhang, Ren, Sun, "Deep residual learning", CVPR 2016).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "seigh/nn/layers.h"

namespace seigh {

struct ResNetOptions {
  enum class Stem { cifar, imagenet };
  enum class Norm { batch, group, none };
  Stem stem = Stem::cifar;  ///< cifar: conv 3x3; imagenet: conv 7x7 of stride 2 and a 3x3 maximum of stride 2
  Norm norm = Norm::batch;
  int64_t groups = 32;  ///< of group norm; must divide `width`
  int64_t width = 64;   ///< channels of the first stage; each further stage has twice as many
  std::array<int64_t, 4> blocks = {2, 2, 2,
                                   2};  ///< per stage; {2, 2, 2, 2} is ResNet-18, {3, 4, 6, 3} ResNet-34

  /// Throws Error on values that make no network.
  void validate() const;
};

/// "cifar" or "imagenet"; "batch", "group" or "none". Throws Error on another name.
ResNetOptions::Stem parse_stem(const std::string& name);
ResNetOptions::Norm parse_norm(const std::string& name);

/// For images [channels, H, W] of any size. A block is conv 3x3, norm, ReLU, conv 3x3, norm, plus its input,
/// ReLU; the first block of stages 2 to 4 has stride 2 and a 1x1 convolution with norm on the way past it.
/// Mean over positions and a linear layer follow. D = 11 689 512 for 3 channels, 1000 classes and the
/// ImageNet stem; 11 173 962 for 10 classes and the CIFAR stem; group norm has as many parameters but no
/// buffers. Names are torchvision's ("layer2.0.conv1.weight", "bn1.weight" for group norm too), buffers
/// without num_batches_tracked. Initialisation as in torchvision: convolutions Kaiming normal by fan_out,
/// norms 1 and 0, the linear layer PyTorch's default; without
/// norms the convolutions have neither scale nor bias, which trains where there are few blocks. Batch norm:
/// eps 1e-5, momentum 0.1.
class ResNet final : public LayeredModel {
 public:
  /// `input_shape` {channels, height, width}. Throws Error on another shape or on options that are not valid.
  ResNet(const std::vector<int64_t>& input_shape, int64_t classes, const ResNetOptions& options = {});

  std::string description() const override;
  /// Of group norm: groups as wholes, and one permutation within all groups of a layer.
  std::vector<HiddenUnits> hidden_units() const override;
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

 private:
  void add_convolution_and_norm(const std::string& conv, const std::string& norm, int64_t in, int64_t out,
                                int64_t kernel);
  at::Tensor normalized(ParameterReader& reader, const at::Tensor& x) const;

  int64_t classes_;
  ResNetOptions options_;
};

}  // namespace seigh
