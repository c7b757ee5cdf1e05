// The narrow waist between networks and curvature: whatever can build the graph of the loss of some samples
// gets every matrix, every solver and every check. Networks of seigh and TorchScript modules come through
// ModelSource.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/curvature/curvature.h"
#include "seigh/nn/model.h"

namespace seigh {

/// A loss over N samples at some parameters. A mean over the targets of all samples: what it gives of a range
/// of samples are sums over their targets. It outlives its graphs, and changes nothing while they are built.
class GraphSource {
 public:
  virtual ~GraphSource() = default;

  /// All parameter tensors, in the order of the flat vector.
  virtual const std::vector<ParameterSpec>& parameters() const = 0;
  /// Entries of the flat vector that stay as they are although their tensor is a parameter (the row of an
  /// embedding that stands for padding): int64 [any]; their rows and columns are zero.
  virtual at::Tensor fixed() const { return {}; }
  /// The parameters themselves, for one graph: the operator turns gradients on for those it is over.
  virtual std::vector<at::Tensor> leaves() const = 0;
  /// Of parameters, vectors and products: float32 or float64.
  virtual at::ScalarType dtype() const = 0;

  virtual int64_t samples() const = 0;
  /// Where mini-batches begin, ascending from 0, when samples come in batches that cannot be cut; empty when
  /// any range of samples will do.
  virtual std::vector<int64_t> batches() const { return {}; }
  /// Targets of samples [begin, end): what the mean is over.
  virtual int64_t targets(int64_t begin, int64_t end) const = 0;
  /// Whether graphs may be built in several threads at once.
  virtual bool concurrent() const { return true; }
  /// Which matrices it can serve. Gauss-Newton and the Fisher matrices take outputs apart from the loss.
  virtual bool supports(CurvatureKind kind) const = 0;

  /// The same loss of the same samples, computed anew: in `dtype`, and in the order `order` (int64 [samples],
  /// a permutation; undefined: as they are). What products are checked against; null where there is none.
  virtual std::shared_ptr<const GraphSource> again(const at::Tensor& order, at::ScalarType dtype) const;
  /// The number of sample i in the user's data, for messages.
  virtual int64_t sample_number(int64_t i) const { return i; }
  /// What the user should know of it, a line each.
  virtual std::vector<std::string> notes() const { return {}; }

  /// Called before derivatives of these samples are taken in batches: what has to be known of them that is no
  /// part of their graph.
  virtual void prepare(int64_t /*begin*/, int64_t /*end*/) const {}
  /// The loss of samples [begin, end): a scalar, differentiable twice in `leaves`, which may be those of
  /// leaves(), others of their shapes (also of their memory), or what libtorch puts in their place for
  /// derivatives in batches (batched_derivatives.h).
  virtual at::Tensor loss(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const = 0;

  // Only where supports() says so: the network's outputs, and the loss as a function of them. Outputs have
  // the shape [n, ..., C], one row of C for each target.
  virtual at::Tensor outputs(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const;
  /// dl/df of every target's own loss: the shape of the outputs.
  virtual at::Tensor output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const;
  /// The same at targets drawn from the network's own distribution; a target's draw depends on (seed, draw,
  /// its number) alone.
  virtual at::Tensor sampled_output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end,
                                             uint64_t seed, int64_t draw) const;
  /// The Hessian of the loss in the outputs times u, of the shape of the outputs.
  virtual at::Tensor output_hessian_product(const at::Tensor& outputs, int64_t begin, int64_t end,
                                            const at::Tensor& u) const;

  /// Products of its own, in full precision, that are faster than automatic differentiation; none by default.
  virtual std::unique_ptr<CurvatureOperator> faster_operator(const CurvatureOptions& options,
                                                             const std::string& name,
                                                             const Context& context) const;
};

}  // namespace seigh
