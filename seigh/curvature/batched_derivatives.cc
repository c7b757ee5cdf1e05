#include "seigh/curvature/batched_derivatives.h"

#include <ATen/core/grad_mode.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <ATen/functorch/TensorWrapper.h>
#include <ATen/ops/_make_dual.h>
#include <ATen/ops/_unpack_dual.h>
#include <c10/core/AutogradState.h>
#include <torch/autograd.h>
#include <torch/csrc/autograd/forward_grad.h>

#include <mutex>
#include <optional>
#include <tuple>

#include "seigh/curvature/forward_formulas.h"

namespace seigh {
namespace {

namespace layers = at::functorch;

// A layer of torch.func, from its making to its end.
class Layer {
 public:
  static Layer batch(int64_t size) {
    return Layer(layers::initAndPushDynamicLayer(layers::TransformType::Vmap, c10::SymInt(size),
                                                 layers::RandomnessType::Error));
  }
  static Layer forward() {
    return Layer(layers::initAndPushDynamicLayer(layers::TransformType::Jvp, std::nullopt, std::nullopt,
                                                 std::nullopt,
                                                 c10::AutogradState::get_tls_state().get_fw_grad_mode()));
  }
  static Layer reverse() {
    return Layer(layers::initAndPushDynamicLayer(layers::TransformType::Grad, std::nullopt, std::nullopt,
                                                 at::GradMode::is_enabled()));
  }
  ~Layer() { layers::popDynamicLayerAndDeleteMetadata(); }
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  at::Tensor batched(const at::Tensor& slices) const { return layers::makeBatched(slices, 0, level_); }
  // [b, ...] of what has gone through a layer of batches.
  at::Tensor slices(const at::Tensor& tensor, int64_t size) const {
    if (!tensor.defined()) return tensor;
    if (const auto* batched = layers::maybeGetBatchedImpl(tensor);
        batched != nullptr && batched->level() == level_)
      return batched->value().movedim(batched->bdim(), 0);
    std::vector<int64_t> shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size);
    return tensor.expand(shape);
  }
  at::Tensor wrapped(const at::Tensor& tensor) const { return layers::makeTensorWrapper(tensor, level_); }
  at::Tensor unwrapped(const at::Tensor& tensor) const {
    if (!tensor.defined()) return tensor;
    const auto* wrapper = layers::maybeGetTensorWrapper(tensor);
    return wrapper != nullptr && wrapper->level() == level_ ? wrapper->value() : tensor;
  }

 private:
  explicit Layer(int64_t level) : level_(level) {}
  int64_t level_;
};

// libtorch's one level of forward mode.
class ForwardLevel {
 public:
  ForwardLevel() : alone_(mutex()), level_(torch::autograd::ForwardADLevel::get_next_idx()) {}
  ~ForwardLevel() { torch::autograd::ForwardADLevel::release_idx(level_); }
  ForwardLevel(const ForwardLevel&) = delete;
  ForwardLevel& operator=(const ForwardLevel&) = delete;

  at::Tensor dual(const at::Tensor& x, const at::Tensor& direction) const {
    return at::_make_dual(x, direction, static_cast<int64_t>(level_));
  }
  at::Tensor tangent(const at::Tensor& y) const {
    return y.defined() ? std::get<1>(at::_unpack_dual(y, static_cast<int64_t>(level_))) : y;
  }

 private:
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  std::lock_guard<std::mutex> alone_;
  uint64_t level_;
};

// The tangents of f's tensors along the directions.
TensorList along(const std::function<TensorList(const TensorList&)>& f, const TensorList& x,
                 const TensorList& directions) {
  register_forward_formulas();
  const int64_t b = directions.front().size(0);
  const Layer batch = Layer::batch(b);
  TensorList batched, result;
  for (const at::Tensor& d : directions) batched.push_back(batch.batched(d));
  {
    const Layer forward = Layer::forward();
    const ForwardLevel level;
    TensorList duals;
    for (size_t i = 0; i < x.size(); ++i) duals.push_back(level.dual(x[i], batched[i]));
    for (const at::Tensor& y : f(duals)) result.push_back(forward.unwrapped(level.tangent(y)));
  }
  for (at::Tensor& tangent : result) tangent = batch.slices(tangent, b);
  return result;
}

}  // namespace

TensorList gradients_along(const std::function<at::Tensor(const TensorList&)>& f, const TensorList& x,
                           const TensorList& directions, bool differentiable) {
  const at::AutoGradMode with_gradients(true);
  const auto gradient = [&](const TensorList& at) {
    const Layer reverse = Layer::reverse();
    TensorList leaves;
    for (const at::Tensor& tensor : at) leaves.push_back(reverse.wrapped(tensor).requires_grad_(true));
    TensorList all = torch::autograd::grad({f(leaves)}, leaves, {}, /*retain_graph=*/differentiable,
                                           /*create_graph=*/differentiable, /*allow_unused=*/true);
    for (at::Tensor& g : all) g = reverse.unwrapped(g);
    return all;
  };
  return along(gradient, x, directions);
}

at::Tensor values_along(const std::function<at::Tensor(const TensorList&)>& f, const TensorList& x,
                        const TensorList& directions) {
  const at::NoGradGuard no_gradients;
  return along([&](const TensorList& at) { return TensorList{f(at)}; }, x, directions).front();
}

TensorList for_each_slice(const std::function<TensorList(const at::Tensor&)>& f, const at::Tensor& batch) {
  const Layer layer = Layer::batch(batch.size(0));
  TensorList all = f(layer.batched(batch));
  for (at::Tensor& one : all) one = layer.slices(one, batch.size(0));
  return all;
}

}  // namespace seigh
