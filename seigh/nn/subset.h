// Some of a model's parameter tensors, chosen by name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/nn/model.h"

namespace seigh {

struct ParameterSubset {
  std::vector<size_t> tensors;       ///< indices into Model::parameters(), ascending
  std::vector<ParameterSpec> specs;  ///< those parameters
  int64_t count = 0;                 ///< their entries, the length of a flat vector of the subset

  /// The subset's entries of a flat vector [D] of all parameters: flat [count].
  at::Tensor gather(const std::vector<ParameterSpec>& all, const at::Tensor& flat) const;
  /// The other way: [D] of `all`, with the entries of flat [count], 0 elsewhere.
  at::Tensor spread(const std::vector<ParameterSpec>& all, const at::Tensor& flat) const;
};

/// The parameters whose name a pattern matches, in registration order; all without patterns. A pattern is the
/// name of a tensor, of a layer (what its tensors' names begin with, up to a dot), or either with the
/// wildcards * ? [] of a shell, where * also spans dots: "conv1.weight", "layer3", "*.bias". A tensor under
/// several names is found by each. Throws Error,
/// listing the names, when a pattern matches nothing.
ParameterSubset select_parameters(const std::vector<ParameterSpec>& all,
                                  const std::vector<std::string>& patterns);

}  // namespace seigh
