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
  /// Rows of the first dimension are in this many equal blocks that are layers of their own: queries, keys
  /// and values by head, groups of a convolution.
  int64_t parts = 1;
  bool transposed = false;  ///< a matrix or a convolution [in, out, ...]
  int64_t numel() const;
};

/// Hidden units that may change places with each other without changing the function, and their parameters:
/// tensor `tensor`, in C order, is [outer, count, inner], and unit u has the entries at (., u, .).
struct HiddenUnits {
  struct Block {
    size_t tensor;
    int64_t outer, inner;
  };
  int64_t count;
  std::vector<Block> blocks;
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
  /// The groups of units that may change places, each on its own: hidden layers, residual streams, heads of
  /// attention; none where they are not known.
  virtual std::vector<HiddenUnits> hidden_units() const { return {}; }
  /// Whether c > 0 times what makes a hidden unit and 1 / c times what reads it leave the function as it is;
  /// the blocks of hidden_units() are then the weight and the bias that make a layer and the weight that
  /// reads it, of one layer after the other.
  virtual bool rescalable() const { return false; }
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
/// The same on another device, such as the buffers that belong to parameters there.
std::vector<at::Tensor> moved(std::vector<at::Tensor> tensors, const c10::Device& device);

}  // namespace seigh
