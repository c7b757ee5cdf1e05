// Transformers with layer norm before each sublayer ("pre-norm"): a decoder over characters and a classifier
// of images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/nn/layers.h"

namespace seigh {

struct TransformerOptions {
  int64_t context = 0;  ///< longest sequence; 0: the length of the samples
  int64_t width = 128;
  int64_t depth = 4;      ///< blocks
  int64_t heads = 4;      ///< must divide `width`
  int64_t mlp_ratio = 4;  ///< width of the feed-forward layers over `width`
  bool tied = true;       ///< the output layer is the token embedding
  int64_t experts = 0;    ///< feed-forward networks per block to choose from; 0: one, without a gate
  int64_t chosen = 2;     ///< of them, per token: 1 or 2, at most `experts`

  /// Throws Error on values that make no network.
  void validate() const;
};

/// Decoder-only transformer (GPT-2: Radford et al., "Language models are unsupervised multitask learners",
/// 2019): token plus learned position embedding; `depth` times { x += attention(norm(x)), causal; x +=
/// feed_forward(norm(x)) }, norm, output layer without bias; exact GELU, layer norm eps 1e-5, no dropout.
///
/// Mixture of experts: a gate of `experts` logits (linear without bias) picks the `chosen` largest for each
/// token. With two, their softmax weighs the two outputs (Shazeer et al. 2017; Mixtral); with one, its
/// probability among all experts does (Switch transformer, Fedus et al. 2021), for a softmax over one would
/// leave the gate without a gradient. Every expert is computed for every token and those not chosen get
/// weight 0: dearer than routing, but deterministic and smooth except where two logits tie. There is no loss
/// for balancing the experts.
///
/// With vocabulary V, context T, width W, depth L, hidden H = mlp_ratio W and E experts
///   D = (V + T + 2) W + L (4 W^2 + 8 W + F) [+ V W if not tied],  F = 2 W H + H + W  or  E W + E (2 W H + H
///   + W);
/// 809 856 for V = 65, T = 64 and the defaults. Names are those of nanoGPT, the experts' "mlp.gate.weight"
/// and "mlp.experts.<e>.c_fc.weight". Initialisation: weights and embeddings normal of standard deviation
/// 0.02, of the layers that end a sublayer ("c_proj") 0.02 / sqrt(2 depth); biases 0; norms 1 and 0.
class Transformer final : public LayeredModel {
 public:
  /// `input_shape` {T}; `classes` is the size of the vocabulary. Throws Error on another shape, on a T beyond
  /// the context or on options that are not valid.
  Transformer(const std::vector<int64_t>& input_shape, int64_t classes,
              const TransformerOptions& options = {});

  std::string description() const override;
  std::vector<HiddenUnits> hidden_units() const override;
  /// x [N, T], int64 or whole numbers in a floating type, each in 0..classes-1, T up to the context; outputs
  /// [N, T, classes].
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

 private:
  at::Tensor mixture(ParameterReader& reader, const at::Tensor& x) const;

  int64_t classes_;
  TransformerOptions options_;
};

struct VitOptions {
  int64_t patch = 4;  ///< side of a patch; must divide both sides of the image
  int64_t width = 128;
  int64_t depth = 6;
  int64_t heads = 4;  ///< must divide `width`
  int64_t mlp_ratio = 2;

  /// Throws Error on values that make no network.
  void validate() const;
};

/// Vision transformer (Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021) for images [channels,
/// H, W]: a linear map of each patch, a class token in front, learned positions; blocks as in Transformer but
/// not causal; norm; a linear layer on the class token. Exact GELU, layer norm eps 1e-6, no dropout.
///
/// With S patches, width W, depth L, hidden H = mlp_ratio W and C classes
///   D = channels patch^2 W + (S + 5) W + L (4 W^2 + 9 W + 2 W H + H) + (W + 1) C;
/// 811 146 for 3x32x32 images, 10 classes and the defaults. Names are those of timm. Initialisation: linear
/// weights, class token and positions normal of standard deviation 0.02, the patch map 1/sqrt(fan_in), biases
/// 0, norms 1 and 0.
class Vit final : public LayeredModel {
 public:
  /// `input_shape` {channels, height, width}. Throws Error on another shape or on options that are not valid.
  Vit(const std::vector<int64_t>& input_shape, int64_t classes, const VitOptions& options = {});

  std::string description() const override;
  std::vector<HiddenUnits> hidden_units() const override;
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

 private:
  int64_t classes_;
  VitOptions options_;
};

}  // namespace seigh
