#include "seigh/run/study.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/io/npy.h"
#include "seigh/io/safetensors.h"

namespace seigh {
namespace {

// A number for each parameter, from a file; of parameters that it does not name, 0.
at::Tensor read_scores(const fs::path& path, const ParameterSubset& subset) {
  at::Tensor values;
  if (path.extension() == ".npy") {
    values = read_npy(path).to(at::kDouble).flatten();
    require(values.numel() == subset.count, path.string(), " holds ", values.numel(),
            " numbers, the matrix is over ", subset.count, " parameters");
  } else {
    const NamedTensors file = read_safetensors(path);
    const auto found = file.by_name();
    std::vector<at::Tensor> parts;
    size_t named = 0;
    for (const ParameterSpec& spec : subset.specs) {
      const auto tensor = found.find(spec.name);
      if (tensor == found.end()) {
        parts.push_back(at::zeros({spec.numel()}, at::kDouble));
        continue;
      }
      require(tensor->second->sizes() == at::IntArrayRef(spec.shape), path.string(), ": ", spec.name,
              " has shape ", tensor->second->sizes(), ", the parameter ", at::IntArrayRef(spec.shape));
      parts.push_back(tensor->second->to(at::kDouble).flatten());
      ++named;
    }
    require(named > 0, path.string(), " has none of the parameters' names, as ", subset.specs.front().name,
            " is one");
    values = at::cat(parts);
  }
  require(values.isfinite().all().item<bool>(), path.string(), " holds NaN or infinity");
  return values;
}

// Of every parameter, whether masks may hold it: bool [D].
at::Tensor eligible_mask(const std::vector<UnitLayout>& layouts) {
  const std::vector<char> marks = eligible_parameters(layouts);
  return at::tensor(std::vector<int64_t>(marks.begin(), marks.end()), at::kLong).gt(0);
}

}  // namespace

std::vector<Population> populations(const Recipe& recipe, const ParameterSubset& subset) {
  std::vector<NamedShape> tensors;
  for (const ParameterSpec& p : subset.specs) tensors.push_back({p.name, p.shape, p.parts, p.transposed});
  std::vector<Population> all{{"all", unit_layouts(tensors)}};
  if (!recipe.overlap.parameters.empty()) {
    const ParameterSubset chosen = select_parameters(subset.specs, recipe.overlap.parameters);
    const std::vector<size_t> tensor = tensors_of(all[0].layouts);
    for (size_t i = 0; i < tensor.size(); ++i)
      all[0].layouts[i].eligible =
          std::binary_search(chosen.tensors.begin(), chosen.tensors.end(), tensor[i]);
    all[0].name = "chosen";
    return all;
  }
  const auto is = [](const char* kind) {
    return [kind](const NamedShape& tensor) { return tensor_kind(tensor) == kind; };
  };
  if (std::none_of(tensors.begin(), tensors.end(), is("norm"))) return all;
  Population weights{"weights", all[0].layouts};
  for (UnitLayout& layout : weights.layouts) layout.eligible = layout.defined;
  if (eligible_count(weights.layouts) > 0) all.push_back(std::move(weights));
  return all;
}

std::set<std::string> needed_of_scores(const std::vector<std::string>& names) {
  std::set<std::string> needed;
  for (const std::string& score : names) needed.insert(score_needs(score));
  needed.erase("");
  return needed;
}

std::set<std::string> needed_of_model(const std::vector<std::string>& names) {
  std::set<std::string> needed = needed_of_scores(names);
  needed.erase("space");
  return needed;
}

std::vector<UnitGroup> unit_groups(const std::vector<HiddenUnits>& units, const ParameterSubset& subset) {
  std::map<size_t, int64_t> begins;  // of the subset's tensors
  int64_t begin = 0;
  for (size_t i = 0; i < subset.tensors.size(); ++i) {
    begins[subset.tensors[i]] = begin;
    begin += subset.specs[i].numel();
  }
  std::vector<UnitGroup> groups;
  for (const HiddenUnits& hidden : units) {
    UnitGroup group{hidden.count, {}};
    for (const HiddenUnits::Block& block : hidden.blocks) {
      const auto found = begins.find(block.tensor);
      if (found != begins.end()) group.blocks.push_back({found->second, block.outer, block.inner});
    }
    if (!group.blocks.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

OverlapStudy study_overlap(const Recipe& recipe, const ParameterSubset& subset,
                           const std::vector<UnitGroup>& units, ScoreInputs inputs, const EigenResult& result,
                           const OverlapOptions& options, const Context& context) {
  const ResultEigenspace computed(result.eigenvectors);
  const std::unique_ptr<const Eigenspace> copy = copy_on_device(computed, context);
  const Eigenspace& space = copy ? *copy : computed;
  const std::vector<Population> all = populations(recipe, subset);
  OverlapStudy study;
  study.tensors = subset.specs;
  std::vector<at::Tensor> scores_of;
  std::vector<const Population*> of;
  const auto add = [&](const std::string& score, const at::Tensor& values, const Population& population) {
    OverlapStudy::Mask mask;
    mask.score = score;
    mask.population = population.name;
    mask.curves = overlap_curves(space, values, population.layouts, options, context);
    // A sketch's bound says next to nothing.
    if (result.replicates.defined())
      mask.curves.spread_magnitude(space, result.replicates);
    else if (result.residuals.defined())
      mask.curves.bound_magnitude(result.certificates.subspace);
    study.masks.push_back(std::move(mask));
    scores_of.push_back(values);
    of.push_back(&population);
  };
  inputs.space = &computed;
  inputs.eigenvalues = result.eigenvalues;
  inputs.seed = options.seed;
  for (const std::string& score : recipe.overlap.scores) {
    const at::Tensor values = scores(score, inputs, all.front().layouts, context);
    add(score, values, all.front());
    if (study.masks.size() == 1)
      for (size_t p = 1; p < all.size(); ++p) add(score, values, all[p]);
  }
  for (const std::string& file : recipe.overlap.files)
    add(fs::path(file).filename().string(), read_scores(file, subset), all.front());

  const int64_t samples = std::max<int64_t>(200, options.random_masks);
  for (size_t i = 0; i < study.masks.size(); ++i) {
    OverlapStudy::Mask& mask = study.masks[i];
    if (i < study.masks.size() - recipe.overlap.files.size()) continue;
    // Zeros and ones: a mask that has a size of its own, of which the nested ones are a part by index alone.
    const at::Tensor among = scores_of[i].masked_select(eligible_mask(of[i]->layouts));
    if (!among.eq(0).logical_or(among.eq(1)).all().item<bool>()) continue;
    mask.ones = among.sum().item<int64_t>();
    if (mask.ones == 0 || mask.ones == among.numel()) continue;
    const at::Tensor sizes = mask.curves.nulls.two_way.sizes;
    std::vector<int64_t> spaces(sizes.const_data_ptr<int64_t>(),
                                sizes.const_data_ptr<int64_t>() + sizes.numel());
    // As many as there is memory for, the largest first.
    int64_t budget = context.memory().available() / 4;
    if (space.divided()) budget = context.ranks().agree(budget);
    const auto fit = std::clamp<int64_t>(budget / (16 * subset.count), 1, sizes.numel());
    spaces.erase(spaces.begin(), spaces.end() - fit);
    const at::Tensor held =
        (scores_of[i] * eligible_mask(of[i]->layouts).to(at::kDouble)).nonzero().flatten().contiguous();
    const at::Tensor leverage = leverages(space, spaces, options.piece_bytes, context);
    mask.fixed = fixed_mask_nulls(leverage, spaces, held, of[i]->layouts,
                                  {.samples = samples, .seed = options.seed}, context);
    if (!units.empty())
      mask.fixed.joint = joint_null(leverage, std::vector<int64_t>(spaces.size(), mask.ones), held, units,
                                    samples, options.seed, context);
  }

  std::vector<StudiedMask> studied;
  for (size_t i = 0; i < study.masks.size(); ++i)
    studied.push_back({.scores = scores_of[i],
                       .layouts = &of[i]->layouts,
                       .curves = &study.masks[i].curves,
                       .ones = study.masks[i].ones,
                       .units = &units,
                       .permutations = samples,
                       .seed = options.seed});
  Anatomy found = anatomy(space, studied, options.piece_bytes, context);
  study.space = std::move(found.space);
  for (size_t i = 0; i < study.masks.size(); ++i) {
    study.masks[i].curves.nulls.joint = found.masks[i].joint;
    study.masks[i].anatomy = std::move(found.masks[i]);
  }
  return study;
}

}  // namespace seigh
