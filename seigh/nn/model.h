// A network as a function of one flat parameter vector.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace seigh {

/// One parameter tensor of a model.
struct ParameterSpec {
  std::string name;  ///< as in state dictionaries: "layers.0.weight"
  std::vector<int64_t> shape;
  std::vector<std::string> aliases = {};  ///< further names of the same tensor (tied weights)
  int64_t numel() const;
};

/// A layer of hidden units between two layers of weights, as indices into Model::parameters(): row u of
/// `weight` [units, ...] and entry u of `bias` [units] make unit u, and block u of `next` [out, units n,
/// ...], n columns wide, is all that reads it. In between are only functions f with f(c h) = c f(h) for c >
/// 0.
struct Coupling {
  size_t weight, bias, next;
};

/// A differentiable map from inputs to outputs, without state of its own: parameters and buffers are
/// arguments.
class Model {
 public:
  virtual ~Model() = default;

  /// One line for people: "mlp 256-20-10, tanh".
  virtual std::string description() const = 0;
  /// Parameter tensors in registration order; a flat vector is their concatenation, each in C order.
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  /// D, the length of the flat vector.
  int64_t parameter_count() const;
  /// Flat initial parameters, float32 [D] (float64 of a network from elsewhere that holds such), a function
  /// of the seed alone.
  virtual at::Tensor initial_parameters(uint64_t seed) const = 0;
  /// Tensors that are no parameters but change in training (running statistics of batch norm), in
  /// registration order.
  const std::vector<ParameterSpec>& buffers() const { return buffers_; }
  /// Their values before training, float32 or float64; none for most models.
  virtual std::vector<at::Tensor> initial_buffers() const { return {}; }
  /// Its hidden layers, where c > 0 times what makes a unit and 1 / c times what reads it leave the function
  /// as it is; none where there are others too.
  virtual std::vector<Coupling> couplings() const { return {}; }
  /// What the user should know of it, a line each.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Outputs [N, classes] for x [N, ...] ([N, T, classes] for sequences x [N, T]), differentiable at least
  /// twice in every tensor of `parameters` (the shapes of parameters()). Floating inputs, parameters and
  /// buffers share one dtype. `training` selects training mode (batch statistics; `buffers` are updated in
  /// place); curvature uses evaluation mode.
  virtual at::Tensor forward(const std::vector<at::Tensor>& parameters,
                             const std::vector<at::Tensor>& buffers, const at::Tensor& x,
                             bool training = false) const = 0;

 protected:
  std::vector<ParameterSpec> parameters_, buffers_;
};

/// The pieces of a flat vector [D] as views in the shapes of `specs`. Throws Error on another length.
std::vector<at::Tensor> unflatten(const std::vector<ParameterSpec>& specs, const at::Tensor& flat);
/// The inverse: one contiguous vector [D].
at::Tensor flatten(const std::vector<at::Tensor>& pieces);

}  // namespace seigh
