// Derivatives along many directions at once: forward mode, over reverse mode where it is of a gradient, with
// the directions as one more dimension of every tensor that depends on them. What does not, the network's own
// pass forward and backward, is computed once for all of them; a card that a single vector leaves idle is
// filled (Pearlmutter 1994, in the order that Dagréou, Ablin, Vaiter and Moreau 2024, "How to compute
// Hessian-vector products?", call forward over reverse). The layers are libtorch's, of torch.func.
//
// What cannot be batched, or has no forward derivative, throws c10::Error, as do Python's functions of a
// network that cannot. libtorch knows one level of forward mode in a process: callers wait for each other.
//
// Cost for b directions: 3F for the gradient itself, and b times 6F (of outputs: F, and b times 2F). Memory:
// what depends on the directions is held b times.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace seigh {

using TensorList = std::vector<at::Tensor>;

/// d/dt of the gradient of the scalar f at x + t d, for each of b directions d at once: the directions and
/// the result are [b, shape] for every tensor of x. Undefined where the gradient does not depend on x.
/// `differentiable`: as if a graph of the gradient were wanted too, half as much memory again; some
/// operations (group norm, SiLU) have a backward pass that forward mode sees through only then, and throw
/// c10::Error otherwise.
TensorList gradients_along(const std::function<at::Tensor(const TensorList&)>& f, const TensorList& x,
                           const TensorList& directions, bool differentiable);

/// d/dt of f at x + t d for each: [b, shape of f]; undefined where f does not depend on x.
at::Tensor values_along(const std::function<at::Tensor(const TensorList&)>& f, const TensorList& x,
                        const TensorList& directions);

/// f of each of the b slices of `batch` [b, ...], at once: each of its tensors as [b, ...], undefined ones as
/// they are.
TensorList for_each_slice(const std::function<TensorList(const at::Tensor&)>& f, const at::Tensor& batch);

}  // namespace seigh
