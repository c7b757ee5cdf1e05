#include "seigh/curvature/hessian.h"

#include <ATen/Functions.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "seigh/base/error.h"

namespace seigh {

struct HessianOperator::Graph {
  at::Tensor loss;                    // sum over the mini-batch, divided by N
  std::vector<at::Tensor> leaves;     // parameters, requiring gradients
  std::vector<at::Tensor> gradients;  // of loss; GGN: J^T u, linear in u; part of the graph
  at::Tensor outputs, targets, u;     // GGN only
};

HessianOperator::HessianOperator(const Model& model, const at::Tensor& parameters,
                                 const std::vector<at::Tensor>& buffers, const Dataset& data,
                                 const HessianOptions& options, std::string name)
    : LinearOperator(model.parameter_count(), options.dtype, std::move(name)),
      model_(model),
      options_(options),
      parameters_(parameters.detach().to(options.dtype)) {
  require(data.size() > 0, this->name(), ": the data set is empty");
  data_ = {data.x.is_floating_point() ? data.x.to(options.dtype) : data.x, data.y, data.classes};
  require(options.batch_size >= 0, this->name(), ": batch_size must not be negative: ", options.batch_size);
  require(parameters_.isfinite().all().item<bool>(), this->name(), ": the parameters hold NaN or infinity");
  require(data_.x.isfinite().all().item<bool>(), this->name(), ": the inputs hold NaN or infinity");
  for (const at::Tensor& buffer : buffers) buffers_.push_back(buffer.to(options.dtype));
  if (options_.batch_size == 0) options_.batch_size = data.size();
}

HessianOperator::~HessianOperator() = default;

HessianOperator::Graph HessianOperator::build_graph(int64_t begin, int64_t end) const {
  Graph graph;
  for (const at::Tensor& piece : unflatten(model_.parameters(), parameters_)) {
    graph.leaves.push_back(piece.clone().requires_grad_(true));
  }
  const at::Tensor outputs = model_.forward(graph.leaves, buffers_, data_.x.slice(0, begin, end));
  graph.targets = data_.y.slice(0, begin, end);
  graph.loss = loss_sum(options_.loss, outputs, graph.targets) / target_count(data_.y);
  if (options_.kind == CurvatureKind::hessian) {
    graph.gradients =
        torch::autograd::grad({graph.loss}, graph.leaves, {}, /*retain_graph=*/true, /*create_graph=*/true);
  } else {
    graph.outputs = outputs;
    graph.u = at::zeros_like(outputs).requires_grad_(true);
    graph.gradients = torch::autograd::grad({outputs}, graph.leaves, {graph.u}, /*retain_graph=*/true,
                                            /*create_graph=*/true);
  }
  return graph;
}

double HessianOperator::loss() const {
  double sum = 0;
  for (int64_t begin = 0; begin < data_.size(); begin += options_.batch_size) {
    sum += build_graph(begin, std::min(begin + options_.batch_size, data_.size())).loss.item<double>();
  }
  return sum;
}

at::Tensor HessianOperator::gradient() const {
  at::Tensor sum = at::zeros({size()}, dtype());
  for (int64_t begin = 0; begin < data_.size(); begin += options_.batch_size) {
    const Graph graph = build_graph(begin, std::min(begin + options_.batch_size, data_.size()));
    sum += flatten(torch::autograd::grad({graph.loss}, graph.leaves, {}, /*retain_graph=*/true)).detach();
  }
  return sum;
}

std::vector<at::Tensor> HessianOperator::product(const Graph& graph, const std::vector<at::Tensor>& v) const {
  if (options_.kind == CurvatureKind::hessian) {
    return torch::autograd::grad(graph.gradients, graph.leaves, v, /*retain_graph=*/true);
  }
  const at::Tensor jv = torch::autograd::grad(graph.gradients, {graph.u}, v, /*retain_graph=*/true)[0];
  const at::Tensor weighted =
      output_hessian_product(options_.loss, graph.outputs.detach(), graph.targets, jv) /
      target_count(data_.y);
  return torch::autograd::grad({graph.outputs}, graph.leaves, {weighted}, /*retain_graph=*/true);
}

at::Tensor HessianOperator::apply_impl(const at::Tensor& block) {
  at::Tensor result = empty_block(size(), block.size(1), dtype()).zero_();
  for (int64_t begin = 0; begin < data_.size(); begin += options_.batch_size) {
    const bool whole = options_.batch_size >= data_.size();
    if (!kept_ || !whole) {
      kept_ =
          std::make_unique<Graph>(build_graph(begin, std::min(begin + options_.batch_size, data_.size())));
    }
    for (int64_t j = 0; j < block.size(1); ++j) {
      const std::vector<at::Tensor> v = unflatten(model_.parameters(), block.select(1, j).contiguous());
      result.select(1, j).add_(flatten(product(*kept_, v)));
    }
    if (!whole) kept_.reset();
  }
  return result;
}

}  // namespace seigh
