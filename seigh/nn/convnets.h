// Two plain convolutional networks of the DeepOBS benchmark suite (Schneider, Balles, Hennig, "DeepOBS: a
// deep learning optimizer benchmark suite", ICLR 2019): parameter names, layers and initialisations follow
// its PyTorch version.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "seigh/nn/layers.h"

namespace seigh {

struct ThreeC3dOptions {
  std::array<int64_t, 3> channels = {64, 96, 128};
  std::array<int64_t, 2> hidden = {512, 256};
};

/// 3c3d for images [channels, H, W], both sides at least 10:
///   conv 5x5 "valid", ReLU, pool; conv 3x3 "valid", ReLU, pool; conv 3x3 padding 1, ReLU, pool;
///   linear, ReLU, linear, ReLU, linear; pool being a 3x3 maximum of stride 2 with TensorFlow's "same"
///   padding.
/// D = 895 210 for 3x32x32 images and 10 classes. Names: conv1..conv3, dense1..dense3 (a convolution with
/// "same" padding is a sequence of padding and convolution in DeepOBS, whose names have an extra ".0" or
/// ".1"; here they have not). Initialisation: convolutions Xavier normal, linear layers Xavier uniform,
/// biases 0.
class ThreeC3d final : public LayeredModel {
 public:
  /// `input_shape` {channels, height, width}. Throws Error on another shape or on a width below 1.
  ThreeC3d(const std::vector<int64_t>& input_shape, int64_t classes, const ThreeC3dOptions& options = {});

  std::string description() const override;
  std::vector<HiddenUnits> hidden_units() const override;
  bool rescalable() const override { return true; }
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

 private:
  std::string description_;
};

struct AllCnnOptions {
  std::array<int64_t, 2> channels = {96, 192};  ///< of convolutions 1 to 3 and 4 to 8
};

/// All-CNN-C (Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for simplicity: the all convolutional
/// net", 2015) for images [channels, H, W], both sides at least 9:
///   three 3x3 convolutions (the third of stride 2), three more (the third of stride 2), all padded as
///   "same"; conv 3x3 "valid", conv 1x1, conv 1x1 to the classes; each followed by ReLU, the last one too;
///   mean over positions.
/// D = 1 387 108 for 3 channels and 100 classes, whatever the size of the image. Names: conv1..conv9.
/// Initialisation: Xavier normal, biases 0.1. Dropout (0.2 of the input, 0.5 before conv4 and conv7), which
/// DeepOBS uses in training, is left out: evaluation mode, which curvature is computed in, has none.
class AllCnn final : public LayeredModel {
 public:
  /// `input_shape` {channels, height, width}. Throws Error on another shape or on a width below 1.
  AllCnn(const std::vector<int64_t>& input_shape, int64_t classes, const AllCnnOptions& options = {});

  std::string description() const override;
  std::vector<HiddenUnits> hidden_units() const override;
  bool rescalable() const override { return true; }
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

 private:
  std::string description_;
};

/// Throws Error unless `shape` is that of one image {channels, height, width} with sides of at least `side`,
/// and `classes` is positive; `model` begins the message.
void require_image(const std::string& model, const std::vector<int64_t>& shape, int64_t side,
                   int64_t classes);
/// Throws Error unless every width is at least 1.
void require_widths(const std::string& model, at::IntArrayRef widths);

}  // namespace seigh
