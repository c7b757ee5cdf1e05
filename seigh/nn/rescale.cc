#include "seigh/nn/rescale.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <vector>

#include "seigh/core/error.h"

namespace seigh {
namespace {

constexpr double kTolerance = 1e-7;  // of the last sweep's changes
constexpr int64_t kMostSweeps = 100'000;

// Of a tensor after layer `units`: [out, units, what lies in a block].
at::Tensor by_unit(const at::Tensor& next, int64_t units) {
  return next.reshape({next.size(0), units, -1});
}

}  // namespace

void require_rescalable(const Model& model) {
  require(model.rescalable(), "curvature.rescaled = \"balanced\" is not possible for ", model.description(),
          ": units may be rescaled in a plain chain of linear and convolutional layers with ReLU in between, "
          "which mlp with relu, 3c3d and all-cnn-c are; put \"none\"");
}

at::Tensor balanced(const Model& model, const at::Tensor& parameters) {
  require_rescalable(model);
  struct Layer {
    size_t weight, bias, next;
  };
  std::vector<Layer> layers;
  for (const HiddenUnits& units : model.hidden_units())
    layers.push_back({units.blocks[0].tensor, units.blocks[1].tensor, units.blocks[2].tensor});
  std::vector<at::Tensor> pieces = unflatten(model.parameters(), parameters.to(at::kDouble).clone());

  // Squares of a layer's incoming parameters by the units before it (one column where those are no hidden
  // units), and of its biases; of the last layer's outgoing ones by unit. All that the norms are made of.
  const size_t n = layers.size();
  std::vector<at::Tensor> in(n), bias(n);
  for (size_t l = 0; l < n; ++l) {
    const at::Tensor& weight = pieces[layers[l].weight];
    const int64_t before = l > 0 ? pieces[layers[l - 1].bias].size(0) : 1;
    require(l == 0 || layers[l - 1].next == layers[l].weight, model.description(), ": layers form no chain");
    in[l] = by_unit(weight, before).square().sum(2);
    bias[l] = pieces[layers[l].bias].square();
  }
  const at::Tensor last =
      by_unit(pieces[layers[n - 1].next], bias[n - 1].size(0)).square().sum(at::IntArrayRef{0, 2});

  std::vector<at::Tensor> scale;  // c^2 of every unit
  for (size_t l = 0; l < n; ++l) scale.push_back(at::ones_like(bias[l]));
  double worst = 1;
  for (int64_t sweep = 0; worst > kTolerance; ++sweep) {
    require(sweep < kMostSweeps, model.description(), " is not balanced after ", kMostSweeps,
            " sweeps; put curvature.rescaled = \"none\"");
    worst = 0;
    for (size_t l = 0; l < n; ++l) {
      // With c' of the units before and c'' of those after: in^2 = c^2 (b^2 + sum w^2 / c'^2).
      const at::Tensor from = l > 0 ? scale[l - 1].reciprocal() : at::ones({1}, at::kDouble);
      const at::Tensor incoming = in[l].matmul(from) + bias[l];
      const at::Tensor outgoing = l + 1 < n ? in[l + 1].t().matmul(scale[l + 1]) : last;
      const at::Tensor alive = (incoming > 0).logical_and(outgoing > 0);
      const at::Tensor best = at::where(alive, (outgoing / incoming).sqrt(), scale[l]);
      worst = std::max(worst, (best / scale[l]).log().abs().max().item<double>());
      scale[l] = best;
    }
  }
  for (size_t l = 0; l < n; ++l) {
    const at::Tensor c = scale[l].sqrt();
    std::vector<int64_t> rows(static_cast<size_t>(pieces[layers[l].weight].dim()), 1);
    rows[0] = c.numel();
    pieces[layers[l].weight] = pieces[layers[l].weight] * c.view(rows);
    pieces[layers[l].bias] = pieces[layers[l].bias] * c;
    at::Tensor& next = pieces[layers[l].next];
    next = (by_unit(next, c.numel()) / c.view({1, -1, 1})).reshape(next.sizes());
  }
  return flatten(pieces).to(parameters.scalar_type());
}

}  // namespace seigh
