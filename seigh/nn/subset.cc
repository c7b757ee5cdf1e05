#include "seigh/nn/subset.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <fnmatch.h>

#include <algorithm>

#include "seigh/core/error.h"

namespace seigh {
namespace {

bool matches_name(const std::string& pattern, const std::string& name) {
  if (fnmatch(pattern.c_str(), name.c_str(), 0) == 0) return true;
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    if (fnmatch(pattern.c_str(), name.substr(0, dot).c_str(), 0) == 0) return true;
  }
  return false;
}

bool matches(const std::string& pattern, const ParameterSpec& spec) {
  return matches_name(pattern, spec.name) ||
         std::any_of(spec.aliases.begin(), spec.aliases.end(),
                     [&](const std::string& alias) { return matches_name(pattern, alias); });
}

}  // namespace

ParameterSubset select_parameters(const std::vector<ParameterSpec>& all,
                                  const std::vector<std::string>& patterns) {
  std::vector<bool> used(patterns.size(), false);
  ParameterSubset subset;
  std::string names;
  for (size_t i = 0; i < all.size(); ++i) {
    bool chosen = patterns.empty();
    for (size_t p = 0; p < patterns.size(); ++p) {
      if (!matches(patterns[p], all[i])) continue;
      chosen = true;
      used[p] = true;
    }
    names += (names.empty() ? "" : ", ") + all[i].name;
    if (!chosen) continue;
    subset.tensors.push_back(i);
    subset.specs.push_back(all[i]);
    subset.count += all[i].numel();
  }
  for (size_t p = 0; p < patterns.size(); ++p) {
    require(used[p], "no parameter matches \"", patterns[p], "\"; there are ", names);
  }
  return subset;
}

at::Tensor ParameterSubset::gather(const std::vector<ParameterSpec>& all, const at::Tensor& flat) const {
  if (tensors.size() == all.size()) return flat;
  const std::vector<at::Tensor> pieces = unflatten(all, flat);
  std::vector<at::Tensor> chosen;
  for (const size_t i : tensors) chosen.push_back(pieces[i].reshape({-1}));
  return at::cat(chosen);
}

at::Tensor ParameterSubset::spread(const std::vector<ParameterSpec>& all, const at::Tensor& flat) const {
  if (tensors.size() == all.size()) return flat;
  const std::vector<at::Tensor> pieces = unflatten(specs, flat);
  std::vector<at::Tensor> whole;
  for (const ParameterSpec& spec : all) whole.push_back(at::zeros({spec.numel()}, flat.options()));
  for (size_t i = 0; i < tensors.size(); ++i) whole[tensors[i]] = pieces[i].reshape({-1});
  return at::cat(whole);
}

}  // namespace seigh
