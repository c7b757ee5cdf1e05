#include "seigh/run/plan.h"

#include <algorithm>
#include <iterator>

#include "seigh/recipe/options.h"

namespace seigh {
namespace {

Method choose_method(const Recipe& r, const RunFolder* folder, int64_t parameters, const Context& context) {
  const auto is_made = [&](const Decomposition& d) {
    return folder != nullptr && is_there(folder->eigen(d.step, d.split, to_string(d.method)), context);
  };
  if (const auto method = method_there(r, is_made)) return *method;
  return plan_eigh(parameters, eigh_dtype(r), solver_options(r),
                   context.ranks().agree(context.memory().available()), context.ranks(),
                   basis_memory(context.device(), context))
      .method;
}

}  // namespace

std::optional<Method> method_there(const Recipe& r,
                                   const std::function<bool(const Decomposition&)>& is_made) {
  if (r.eigh.method != Method::automatic) return r.eigh.method;
  for (const Method method : methods()) {
    if (method == Method::automatic) continue;
    for (const int64_t step : r.curvature.steps) {
      for (const std::string& split : r.curvature.splits) {
        const bool exact = std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step);
        if ((method != Method::dense || !exact) && is_made({step, split, method})) return method;
      }
    }
  }
  return std::nullopt;
}

std::vector<Stretch> training_stretches(const std::vector<int64_t>& missing,
                                        const std::vector<int64_t>& there) {
  std::vector<Stretch> all;
  for (auto first = missing.begin(); first != missing.end();) {
    const auto next = std::upper_bound(there.begin(), there.end(), *first);
    const auto last = next == there.end() ? missing.end() : std::lower_bound(first, missing.end(), *next);
    Stretch stretch;
    if (next != there.begin()) stretch.from = *std::prev(next);
    stretch.checkpoints.assign(first, last);
    all.push_back(std::move(stretch));
    first = last;
  }
  return all;
}

std::vector<Decomposition> decompositions(const Recipe& r, Method method) {
  std::vector<Decomposition> all;
  for (const int64_t step : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      all.push_back({step, split, method});
      if (method != Method::dense && std::binary_search(r.dense.steps.begin(), r.dense.steps.end(), step))
        all.push_back({step, split, Method::dense, /*exact_beside=*/true});
    }
  }
  return all;
}

bool is_there(const fs::path& path, const Context& context) {
  std::error_code none;
  return context.ranks().agree(fs::exists(path, none));
}

EighPlan RunPlan::solver(const SolverOptions& options, at::ScalarType dtype, const Context& context) const {
  // The solver's memory comes first, but the products need some to be fast.
  Ranks& ranks = context.ranks();
  return plan_eigh(parameters, dtype, options, ranks.agree(context.memory().available()) / 5 * 3, ranks,
                   basis_memory(context.device(), context));
}

RunPlan plan_run(const Recipe& r, const RunFolder* folder, int64_t parameters, const Context& context) {
  constexpr int64_t kMany = 1000;  // samples of a rank
  RunPlan plan;
  plan.parameters = parameters;
  plan.method = choose_method(r, folder, parameters, context);
  plan.decompositions = decompositions(r, plan.method);
  const Ranks& ranks = context.ranks();
  // A loss of the user's own may divide by what all samples have together.
  plan.divides_samples = !ranks.alone() && r.model.python.empty() && plan.method != Method::seigh &&
                         !r.train.loss.ends_with(".pt") && r.curvature.matrix != "mc_fisher" &&
                         r.curvature.samples >= kMany * ranks.size();
  return plan;
}

}  // namespace seigh
