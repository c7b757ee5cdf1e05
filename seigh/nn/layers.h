// Layers shared by the networks of this folder: their parameters, initialisations and functions.
//
// A network registers its parameter tensors in its constructor, in the order of PyTorch's state dictionary,
// each with the distribution it is drawn from. Its forward pass takes the tensors back in the same order from
// a ParameterReader, so a layer is one line in the constructor and one in forward(). All functions can be
// differentiated at least twice.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/nn/model.h"

namespace seigh {

/// How the entries of a tensor are drawn before training, independently of each other.
struct Initialization {
  enum class Kind { constant, normal, uniform };
  Kind kind = Kind::constant;
  double scale =
      0;  ///< the value, the standard deviation of a normal of mean 0, or b of the uniform on [-b, b)

  static Initialization constant(double value) { return {Kind::constant, value}; }
  static Initialization normal(double std) { return {Kind::normal, std}; }
  static Initialization uniform(double bound) { return {Kind::uniform, bound}; }
  /// Glorot & Bengio 2010: variance 2 / (fan_in + fan_out).
  static Initialization xavier_normal(int64_t fan_in, int64_t fan_out);
  static Initialization xavier_uniform(int64_t fan_in, int64_t fan_out);
  /// He et al. 2015 with fan_out and ReLU: variance 2 / fan_out.
  static Initialization kaiming_normal_fan_out(int64_t fan_out);
  /// PyTorch's default of weights and biases of linear layers: uniform in +-1/sqrt(fan_in).
  static Initialization torch_default(int64_t fan_in);
};

/// A model whose parameters are registered one by one.
class LayeredModel : public Model {
 public:
  /// Tensor i is drawn from column i of the random stream `initialization`, so its values depend on (seed, i)
  /// alone.
  at::Tensor initial_parameters(uint64_t seed) const override;
  std::vector<at::Tensor> initial_buffers() const override;

 protected:
  void add(std::string name, std::vector<int64_t> shape, Initialization initialization);
  /// `name`.weight [out, in, kernel, kernel] and, with `bias`, `name`.bias [out].
  void add_conv(const std::string& name, int64_t in, int64_t out, int64_t kernel, Initialization weight);
  void add_conv(const std::string& name, int64_t in, int64_t out, int64_t kernel, Initialization weight,
                Initialization bias);
  /// `name`.weight [out, in] and `name`.bias [out], rows in `parts` (ParameterSpec).
  void add_linear(const std::string& name, int64_t in, int64_t out, Initialization weight,
                  Initialization bias, int64_t parts = 1);
  /// `name`.weight [channels] = 1 and `name`.bias [channels] = 0.
  void add_norm(const std::string& name, int64_t channels);
  /// The running statistics of batch norm: buffers `name`.running_mean = 0 and `name`.running_var = 1,
  /// [channels]. (PyTorch's third, num_batches_tracked, serves a kind of momentum not used here.)
  void add_running_statistics(const std::string& name, int64_t channels);

 private:
  std::vector<Initialization> initializations_, buffer_initializations_;
};

/// Gives a forward pass the tensors of a model in the order they were registered.
class ParameterReader {
 public:
  ParameterReader(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                  bool training)
      : parameters_(parameters), buffers_(buffers), training_(training) {}
  const at::Tensor& parameter() { return parameters_.at(parameter_++); }
  const at::Tensor& buffer() { return buffers_.at(buffer_++); }
  bool training() const { return training_; }

 private:
  const std::vector<at::Tensor>& parameters_;
  const std::vector<at::Tensor>& buffers_;
  bool training_;
  size_t parameter_ = 0, buffer_ = 0;
};

/// x [N, in, H, W] with `padding` zeros on each side; add_conv() with and without bias.
at::Tensor conv(ParameterReader& reader, const at::Tensor& x, int64_t stride, int64_t padding);
at::Tensor conv_without_bias(ParameterReader& reader, const at::Tensor& x, int64_t stride, int64_t padding);
/// TensorFlow's "same" for a 3x3 convolution of stride 2 (with bias): ceil(H / 2) rows; the one row of
/// padding that an even height needs is at the bottom, an odd height has one on either side; columns
/// likewise.
at::Tensor conv_3x3_stride_2_same(ParameterReader& reader, const at::Tensor& x);
/// 3x3 maximum of stride 2, padded by that same rule with minus infinity.
at::Tensor max_pool_3x3_stride_2_same(const at::Tensor& x);
/// x [..., in] to [..., out]; add_linear().
at::Tensor linear(ParameterReader& reader, const at::Tensor& x);

/// Batch norm over all but dimension 1 (Ioffe & Szegedy 2015; add_norm() and add_running_statistics()), eps
/// 1e-5. Training mode normalises by the statistics of x and moves the buffers by a tenth towards them
/// (variance with n - 1); evaluation mode normalises by the buffers.
at::Tensor batch_norm(ParameterReader& reader, const at::Tensor& x);
/// Group norm of x [N, channels, ...] (Wu & He 2018; add_norm()), eps 1e-5.
at::Tensor group_norm(ParameterReader& reader, const at::Tensor& x, int64_t groups);
/// Layer norm over the last dimension (Ba et al. 2016; add_norm()).
at::Tensor layer_norm(ParameterReader& reader, const at::Tensor& x, double eps);

/// Multi-head self-attention of x [N, T, width]: one linear layer to queries, keys and values (3 width
/// outputs, in this order, each split into `heads` of width/heads), softmax(q k^T / sqrt(width/heads)) v, one
/// linear layer to width. With `causal`, token t sees tokens 0..t only. By matrix products and softmax: fused
/// attention has no second derivative.
at::Tensor self_attention(ParameterReader& reader, const at::Tensor& x, int64_t heads, bool causal);
/// linear, GELU (exact, by erf), linear.
at::Tensor feed_forward(ParameterReader& reader, const at::Tensor& x);

}  // namespace seigh
