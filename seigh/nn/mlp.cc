#include "seigh/nn/mlp.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>

#include <cmath>
#include <sstream>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/nn/hidden_units.h"

namespace seigh {

Activation parse_activation(const std::string& name) {
  for (const Activation a : {Activation::tanh, Activation::relu, Activation::gelu}) {
    if (to_string(a) == name) return a;
  }
  fail("unknown activation \"", name, "\"; choose tanh, relu or gelu");
}

std::string to_string(Activation activation) {
  switch (activation) {
    case Activation::tanh:
      return "tanh";
    case Activation::relu:
      return "relu";
    case Activation::gelu:
      return "gelu";
  }
  fail("activation out of range");
}

Mlp::Mlp(std::vector<int64_t> widths, Activation activation)
    : widths_(std::move(widths)), activation_(activation) {
  require(widths_.size() >= 2, "mlp: at least an input and an output width are needed");
  for (const int64_t width : widths_) require(width >= 1, "mlp: a width of ", width, " is not possible");
  for (size_t layer = 0; layer + 1 < widths_.size(); ++layer) {
    const std::string name = "layers." + std::to_string(layer);
    parameters_.push_back({name + ".weight", {widths_[layer + 1], widths_[layer]}});
    parameters_.push_back({name + ".bias", {widths_[layer + 1]}});
  }
}

std::string Mlp::description() const {
  std::ostringstream text;
  text << "mlp " << widths_[0];
  for (size_t i = 1; i < widths_.size(); ++i) text << '-' << widths_[i];
  text << ", " << to_string(activation_);
  return text.str();
}

at::Tensor Mlp::initial_parameters(uint64_t seed) const {
  std::vector<at::Tensor> pieces;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const double bound = 1 / std::sqrt(static_cast<double>(widths_[i / 2]));
    const at::Tensor u =
        random_uniform(seed, Stream::initialization, parameters_[i].numel(), static_cast<int64_t>(i));
    pieces.push_back((u * (2 * bound) - bound).to(at::kFloat));
  }
  return flatten(pieces);
}

std::vector<HiddenUnits> Mlp::hidden_units() const {
  return chain_of_units(parameters_);
}

at::Tensor Mlp::forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>&,
                        const at::Tensor& x, bool) const {
  at::Tensor h = x.flatten(1).to(parameters[0].scalar_type());
  require(h.size(1) == widths_[0], "mlp: the first width is ", widths_[0], " but a sample has ", h.size(1),
          " numbers");
  for (size_t i = 0; i < parameters.size(); i += 2) {
    h = at::linear(h, parameters[i], parameters[i + 1]);
    if (i + 2 == parameters.size()) break;
    switch (activation_) {
      case Activation::tanh:
        h = at::tanh(h);
        break;
      case Activation::relu:
        h = at::relu(h);
        break;
      case Activation::gelu:
        h = at::gelu(h);
        break;
    }
  }
  return h;
}

}  // namespace seigh
