#include "seigh/nn/model.h"

#include <ATen/ops/cat.h>

#include <functional>
#include <numeric>

#include "seigh/core/error.h"

namespace seigh {

int64_t ParameterSpec::numel() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

int64_t Model::parameter_count() const {
  int64_t count = 0;
  for (const ParameterSpec& p : parameters_) count += p.numel();
  return count;
}

std::vector<at::Tensor> unflatten(const std::vector<ParameterSpec>& specs, const at::Tensor& flat) {
  std::vector<at::Tensor> pieces;
  int64_t begin = 0;
  for (const ParameterSpec& p : specs) {
    const int64_t n = p.numel();
    require(flat.dim() == 1 && begin + n <= flat.size(0), "parameter vector of shape ", flat.sizes(),
            " is too short for ", p.name);
    pieces.push_back(flat.slice(0, begin, begin + n).view(p.shape));
    begin += n;
  }
  require(begin == flat.size(0), "parameter vector has ", flat.size(0), " entries, the model ", begin);
  return pieces;
}

at::Tensor flatten(const std::vector<at::Tensor>& pieces) {
  std::vector<at::Tensor> flat;
  for (const at::Tensor& p : pieces) flat.push_back(p.reshape({-1}));
  return at::cat(flat);
}

std::vector<at::Tensor> moved(std::vector<at::Tensor> tensors, const c10::Device& device) {
  for (at::Tensor& tensor : tensors) tensor = tensor.to(device);
  return tensors;
}

}  // namespace seigh
