// Loss functions, as sums over targets so that mini-batches of any size add up; the mean is the sum over
// target_count().
//
// Everywhere: outputs [N, C] with targets int64 [N], or for sequences outputs [N, T, C] with targets [N, T];
// classes 0..C-1. Mean squared error and binary cross-entropy also take floating targets of the shape of the
// outputs (those of binary cross-entropy in [0, 1]), a custom loss any of N samples. Throws Error when the
// shapes do not fit.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace seigh {

enum class LossKind { cross_entropy, mean_squared_error, binary_cross_entropy, custom };

/// A loss of somebody's own.
class CustomLoss {
 public:
  virtual ~CustomLoss() = default;
  /// For people: "huber.pt".
  virtual std::string name() const = 0;
  /// Mean over the samples given: a scalar of the outputs' dtype, differentiable twice in the outputs. May be
  /// called from several threads at once.
  virtual at::Tensor mean(const at::Tensor& outputs, const at::Tensor& targets) const = 0;
};

/// "cross_entropy", "mean_squared_error" or "binary_cross_entropy"; throws Error on another name.
LossKind parse_loss(const std::string& name);
std::string to_string(LossKind kind);

struct Loss {
  LossKind kind = LossKind::cross_entropy;
  /// s in [0, 1], of cross-entropy only: the target distribution is (1 - s) one-hot + s/C, as in PyTorch.
  double label_smoothing = 0;
  std::shared_ptr<const CustomLoss> custom = {};  ///< of kind custom only

  Loss() = default;
  Loss(std::shared_ptr<const CustomLoss> loss) : kind(LossKind::custom), custom(std::move(loss)) {}  // NOLINT
  Loss(LossKind k, double smoothing = 0) : kind(k), label_smoothing(smoothing) {}  // NOLINT: a kind is a loss
  /// Throws Error on a smoothing outside [0, 1] or of another loss, and on a custom loss that is not there.
  void validate() const;
};

/// How many targets the sum runs over: N, or N T for sequences; of floating targets the last dimension does
/// not count unless it is the only one.
int64_t target_count(const at::Tensor& targets);

/// Sum over targets of the loss; scalar, differentiable twice.
/// cross_entropy: -(1 - s) log p[target] - s/C sum_c log p[c] with p = softmax(outputs).
/// mean_squared_error: squared distance to the one-hot target, or to floating targets, over C.
/// binary_cross_entropy: log(1 + e^f) - y f of each output f and its target y (one-hot of classes), over C.
/// custom: its mean times target_count().
at::Tensor loss_sum(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets);

/// The same to rounding, but its derivatives keep their leading digits where the network fits its targets,
/// p[target] being 1 - tiny: cross_entropy without smoothing as log(1 + sum_{c != t} exp(f_c - f_t)), t the
/// target, whose derivatives hold no difference p - 1. What curvature is taken of.
at::Tensor accurate_loss_sum(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets);

/// dl/df, the gradient of loss_sum with respect to the outputs: the shape of outputs; row n is that of target
/// n's own loss.
at::Tensor output_gradient(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets);

/// H_L u, the Hessian of loss_sum with respect to the outputs times u; u has the shape of outputs, or leading
/// dimensions more: [b, N, C] for b vectors at once. The losses by name have a Hessian that depends on no
/// target: cross_entropy: p * u - p <p, u> in each row, whatever the smoothing. mean_squared_error: 2 u / C.
/// binary_cross_entropy: s (1 - s) u / C with s = 1 / (1 + e^-f).
/// custom: differentiated twice, one backward pass for each vector.
at::Tensor output_hessian_product(const Loss& loss, const at::Tensor& outputs, const at::Tensor& targets,
                                  const at::Tensor& u);

/// One target per row of outputs drawn from the network's own distribution, for Monte-Carlo estimates of the
/// Fisher matrix. cross_entropy: softmax(outputs), int64 [N] or [N, T]; mean_squared_error: the Gaussian of
/// variance C/2 about the outputs, whose negative log-likelihood it is; binary_cross_entropy: 0 or 1 for each
/// output, 1 with probability 1 / (1 + e^-f); both of shape and dtype of the outputs. Row r (counted through
/// the sequences: n T + t) depends on (seed, draw, row_begin + r) alone, so mini-batches draw what the whole
/// data set would. Computed in float64. Throws Error for a custom loss, which has no distribution.
at::Tensor sampled_targets(const Loss& loss, const at::Tensor& outputs, uint64_t seed, int64_t draw = 0,
                           int64_t row_begin = 0);

/// r with E[r r^T] in each row the Hessian of the loss there (but for label smoothing): output_gradient() at
/// sampled_targets(), of binary_cross_entropy, which is 1/C of a negative log-likelihood, times sqrt(C).
at::Tensor sampled_output_gradient(const Loss& loss, const at::Tensor& outputs, uint64_t seed,
                                   int64_t draw = 0, int64_t row_begin = 0);

}  // namespace seigh
