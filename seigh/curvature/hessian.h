// The Hessian or the generalised Gauss-Newton matrix of a mean loss over a data set, as an operator, for any
// model.
//
// For each mini-batch the gradient is computed once with its graph kept; every vector of a block is one
// backward pass through that graph:  H v = d/dtheta <grad L(theta), v>  (Pearlmutter 1994, "Fast exact
// multiplication by the Hessian"). Cost per vector: 6F flops, F being those of one forward pass over all
// samples; the graph adds 6F once per block and mini-batch (once in all when there is a single mini-batch).
// Memory: the activations of one mini-batch, three times.
//
// GGN (Schraudolph 2002):  G v = (1/N) J^T H_L J v.  J^T u is one backward pass and linear in u, so its
// derivative along v with respect to u is J v; H_L, the loss's Hessian in the outputs, is known in closed
// form. Cost per vector: 4F.
#pragma once

#include <memory>
#include <vector>

#include "seigh/curvature/kind.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/problem/dataset.h"
#include "seigh/problem/loss.h"
#include "seigh/problem/model.h"

namespace seigh {

struct HessianOptions {
  CurvatureKind kind = CurvatureKind::hessian;
  Loss loss = {};
  at::ScalarType dtype = at::kFloat;  ///< of the computation: float32 or float64
  int64_t batch_size = 0;             ///< samples per mini-batch; 0: all at once
};

/// H = d^2/dtheta^2 (1/N) sum_n loss_n, or its GGN part, at theta = parameters, in evaluation mode.
/// Mini-batches of unequal size are weighted by their samples. The model must outlive the operator.
class HessianOperator final : public LinearOperator {
 public:
  /// `parameters` is flat, [D]. Throws Error when they or the inputs hold NaN or infinity, or on an empty
  /// data set.
  HessianOperator(const Model& model, const at::Tensor& parameters, const std::vector<at::Tensor>& buffers,
                  const Dataset& data, const HessianOptions& options, std::string name = "Hessian");
  ~HessianOperator() override;

  /// Mean loss and its gradient, float [D], at the operator's parameters.
  double loss() const;
  at::Tensor gradient() const;

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;

 private:
  struct Graph;  // leaves and what is differentiated again, for one mini-batch
  Graph build_graph(int64_t begin, int64_t end) const;
  std::vector<at::Tensor> product(const Graph& graph, const std::vector<at::Tensor>& v) const;

  const Model& model_;
  HessianOptions options_;
  at::Tensor parameters_;
  std::vector<at::Tensor> buffers_;
  Dataset data_;
  std::unique_ptr<Graph> kept_;  // when one mini-batch holds all the data
};

}  // namespace seigh
