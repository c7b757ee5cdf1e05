#include "seigh/run/pruning.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/overlap/masks.h"
#include "seigh/run/study.h"

namespace seigh {

std::vector<PruningRow> pruning_rows(const Recipe& recipe) {
  const Recipe::Prune& p = recipe.prune;
  std::vector<PruningRow> all;
  if (p.scores.empty()) return all;
  for (const int64_t step : p.steps) {
    all.push_back({.step = step, .score = "none"});
    for (const std::string& score : p.scores) {
      const bool random = is_random_score(score);
      const auto add = [&](bool control, int64_t draws) {
        for (int64_t draw = 0; draw < draws; ++draw)
          for (const double sparsity : p.sparsities)
            all.push_back(
                {.step = step, .score = score, .sparsity = sparsity, .control = control, .draw = draw});
      };
      add(false, random ? p.draws : 1);
      if (p.by_layer_controls && !random) add(true, p.draws);
    }
  }
  return all;
}

std::vector<PruningRow> missing_rows(const Recipe& recipe, const std::vector<PruningRow>& rows) {
  std::vector<PruningRow> missing = pruning_rows(recipe);
  std::erase_if(missing, [&](const PruningRow& wanted) {
    return std::any_of(rows.begin(), rows.end(), [&](const PruningRow& r) { return r.same_mask(wanted); });
  });
  return missing;
}

PruningFile pruning_there(const RunFolder& folder) {
  std::error_code none;
  return fs::exists(folder.pruning(), none) ? read_pruning_file(folder.pruning()) : PruningFile();
}

std::vector<PruningRow> pruning_results(const RunFolder& folder) {
  const std::vector<PruningRow> there = pruning_there(folder).rows;
  std::vector<PruningRow> found;
  for (const PruningRow& wanted : pruning_rows(folder.recipe())) {
    const auto row =
        std::find_if(there.begin(), there.end(), [&](const PruningRow& r) { return r.same_mask(wanted); });
    if (row != there.end()) found.push_back(*row);
  }
  return found;
}

std::string pruning_split(const Recipe& recipe) {
  const std::vector<std::string>& splits = recipe.curvature.splits;
  return std::count(splits.begin(), splits.end(), "train") > 0 ? "train" : splits.front();
}

std::vector<UnitLayout> prunable(const Recipe& recipe, const ParameterSubset& subset) {
  std::vector<UnitLayout> layouts = populations(recipe, subset).back().layouts;
  require(eligible_count(layouts) > 0,
          "prune.scores: there is nothing that may be pruned; see overlap.parameters");
  return layouts;
}

int64_t kept_of(int64_t prunable, double sparsity) {
  return std::llround((1 - sparsity) * static_cast<double>(prunable));
}

at::Tensor pruning_order(const PruningRow& row, int64_t count, ScoreInputs inputs,
                         const std::vector<UnitLayout>& layouts, uint64_t seed, const Context& context) {
  inputs.seed = seed;
  inputs.draw = row.control ? 0 : row.draw;
  const at::Tensor order =
      magnitude_order(scores(row.score, inputs, layouts, context), count, eligible_parameters(layouts));
  return row.control ? random_order_within(Grouping::layer, order, layouts, seed, row.draw) : order;
}

at::Tensor pruned_by(const at::Tensor& order, int64_t kept, const std::vector<UnitLayout>& layouts) {
  std::vector<char> marks = eligible_parameters(layouts);
  at::Tensor pruned =
      at::tensor(at::ArrayRef<int8_t>(reinterpret_cast<const int8_t*>(marks.data()), marks.size()), at::kChar)
          .to(at::kBool);
  pruned.index_fill_(0, order.slice(0, 0, kept), false);
  return pruned;
}

}  // namespace seigh
