// All networks by name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "seigh/nn/convnets.h"
#include "seigh/nn/mlp.h"
#include "seigh/nn/resnet.h"
#include "seigh/nn/transformer.h"

namespace seigh {

struct MlpOptions {
  std::vector<int64_t> hidden = {20, 20, 20, 20, 20};  ///< widths of the hidden layers
  Activation activation = Activation::tanh;
};

/// A network to be made; of the option structs only the one of `kind` is looked at.
struct ModelOptions {
  std::string kind = "mlp";  ///< one of model_kinds()
  MlpOptions mlp = {};
  ThreeC3dOptions three_c3d = {};
  AllCnnOptions all_cnn = {};
  ResNetOptions resnet = {};
  VitOptions vit = {};
  TransformerOptions transformer = {};
};

/// "mlp", "3c3d", "all-cnn-c", "resnet18", "vit", "transformer".
const std::vector<std::string>& model_kinds();

/// The network for samples of shape `input_shape` (without the batch: {channels, height, width} of images,
/// any shape for mlp, {tokens} for transformer) and `classes` outputs (per token). Throws Error on an unknown
/// kind, listing those known, on a shape the kind does not take, saying which it does, and on options that
/// make no network.
std::unique_ptr<Model> make_model(const ModelOptions& options, const std::vector<int64_t>& input_shape,
                                  int64_t classes);

}  // namespace seigh
