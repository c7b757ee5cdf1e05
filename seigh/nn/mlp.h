// Fully connected networks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "seigh/nn/model.h"

namespace seigh {

enum class Activation { tanh, relu, gelu };

/// "tanh", "relu" or "gelu"; throws Error on another name.
Activation parse_activation(const std::string& name);
std::string to_string(Activation activation);

/// widths[0] inputs (an image is flattened), hidden layers with `activation`, widths.back() linear outputs.
/// Initialisation: weights and biases uniform in +-1/sqrt(fan_in). Parameter names "layers.<i>.weight" [out,
/// in] and "layers.<i>.bias" [out].
class Mlp final : public Model {
 public:
  /// Throws Error on fewer than two widths or a width below 1.
  Mlp(std::vector<int64_t> widths, Activation activation);

  std::string description() const override;
  at::Tensor initial_parameters(uint64_t seed) const override;
  std::vector<HiddenUnits> hidden_units() const override;
  bool rescalable() const override { return activation_ == Activation::relu; }
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

  const std::vector<int64_t>& widths() const { return widths_; }
  Activation activation() const { return activation_; }

 private:
  std::vector<int64_t> widths_;
  Activation activation_;
};

}  // namespace seigh
