#include "seigh/run/dynamics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/overlap/chance.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/masks.h"
#include "seigh/results/finished.h"

namespace seigh {
namespace {

const std::vector<double> kShares = {.005, .01, .05, .2};

int64_t length(const auto& list) {
  return static_cast<int64_t>(list.size());
}

// Vectors of a file in the precision in which they are stored: float32 multiplies twice as fast.
class StoredEigenspace final : public Eigenspace {
 public:
  explicit StoredEigenspace(const Eigenvectors& vectors) : vectors_(vectors) {}
  int64_t dimension() const override { return vectors_.dimension(); }
  int64_t count() const override { return vectors_.count(); }
  at::Tensor rows(const at::Tensor& index) const override {
    return vectors_.rows(index).to(vectors_.dtype());
  }
  at::Tensor row_range(int64_t begin, int64_t n) const override {
    return vectors_.row_range(begin, n).to(vectors_.dtype());
  }

 private:
  const Eigenvectors& vectors_;
};

// Eigenspaces of one split, their vectors on disk.
struct Spaces {
  std::string split;
  std::vector<int64_t> steps;
  std::vector<std::unique_ptr<EigenFile>> files;
  std::vector<std::unique_ptr<StoredEigenspace>> spaces;
  std::vector<const Eigenspace*> list;
};

struct Opened {
  std::vector<Spaces> splits;  // of one step or more
  int64_t common = 0;          // pairs that all of them have
  std::string notes;
};

Opened open(const DynamicsOf& run, const DynamicsSources& sources, const Context& context) {
  Opened opened;
  int64_t most = 0, without = 0;
  for (const DynamicsSources::Space& source : sources.spaces) {
    auto file = std::make_unique<EigenFile>(
        finished_eigen(source.file, run.subset.count, Vectors::by_panels, context));
    if (!file->has_vectors) {
      ++without;
      continue;
    }
    const int64_t rank = file->result.rank;
    if (rank == 0) {
      opened.notes += "step " + std::to_string(source.step) + ", " + source.split + ": no pairs, left out\n";
      continue;
    }
    if (opened.splits.empty() || opened.splits.back().split != source.split)
      opened.splits.emplace_back().split = source.split;
    Spaces& spaces = opened.splits.back();
    spaces.steps.push_back(source.step);
    spaces.spaces.push_back(std::make_unique<StoredEigenspace>(file->result.eigenvectors));
    spaces.list.push_back(spaces.spaces.back().get());
    spaces.files.push_back(std::move(file));
    opened.common = opened.common == 0 ? rank : std::min(opened.common, rank);
    most = std::max(most, rank);
  }
  if (without > 0)
    opened.notes += std::to_string(without) + " decompositions have no eigenvectors on disk (eigh.vectors)\n";
  if (opened.common < most)
    opened.notes += "not all decompositions have " + std::to_string(most) +
                    " pairs: eigenspaces are compared up to the " + std::to_string(opened.common) +
                    " that all have\n";
  return opened;
}

// The sizes of maps, with the shares they stand for.
struct Sizes {
  std::vector<int64_t> k;
  std::vector<double> rho;
};

Sizes mask_sizes(int64_t parameters) {
  Sizes sizes;
  for (const double rho : kShares) {
    const int64_t k = size_of_share(rho, parameters);
    if (!sizes.k.empty() && sizes.k.back() == k) continue;  // of few parameters
    sizes.k.push_back(k);
    sizes.rho.push_back(rho);
  }
  return sizes;
}

Sizes space_sizes(int64_t parameters, int64_t common) {
  Sizes sizes = mask_sizes(parameters);
  while (!sizes.k.empty() && sizes.k.back() > common) {
    sizes.k.pop_back();
    sizes.rho.pop_back();
  }
  if (sizes.k.empty() || 2 * common >= 3 * sizes.k.back()) {
    sizes.k.push_back(common);
    sizes.rho.push_back(static_cast<double>(common) / static_cast<double>(parameters));
  }
  return sizes;
}

// Of one family of spaces or masks, which reach 1 at the reference; or of two of the same steps, of different
// samples say, which reach there what the samples allow.
void add_crystallisation(DynamicsMaps& maps) {
  std::vector<int64_t> both;
  std::ranges::set_intersection(maps.steps, maps.columns(), std::back_inserter(both));
  if (both.size() < 2) return;
  const int64_t last = length(both) - 1, half = half_way(both);
  std::vector<int64_t> references = {both[static_cast<size_t>(last)]};
  if (half > 0 && half < last) references.push_back(both[static_cast<size_t>(half)]);
  for (const int64_t step : references) {
    const int64_t row = std::ranges::find(maps.steps, step) - maps.steps.begin(),
                  column = std::ranges::find(maps.columns(), step) - maps.columns().begin();
    auto& found = maps.crystallisation.emplace_back();
    for (int64_t i = 0; i < length(maps.k); ++i)
      found.push_back(crystallisation(maps.steps, maps.values[i].select(1, column).contiguous(), row,
                                      maps.chance[i],
                                      maps.symmetric() ? 1 : maps.values[i][row][column].item<double>()));
  }
}

DynamicsMaps space_maps(const Spaces& rows, const Spaces& columns, const Sizes& sizes, int64_t parameters,
                        const Context& context) {
  DynamicsMaps maps;
  maps.steps = rows.steps;
  maps.k = sizes.k;
  maps.rho = sizes.rho;
  for (const int64_t k : sizes.k) maps.chance.push_back(chance_overlap(k, parameters));
  maps.values =
      eigenspace_similarity(rows.list, columns.list, sizes.k, context.memory().available() / 3, context);
  return maps;
}

DynamicsMaps mask_maps(const DynamicsOf& run, const std::vector<int64_t>& steps, std::string& notes,
                       const Context& context) {
  Sizes sizes = mask_sizes(run.subset.count);
  // Orders of all steps are in memory.
  const int64_t room = context.memory().available() / 3 / (8 * length(steps));
  while (sizes.k.size() > 1 && sizes.k.back() > room) {
    notes += "masks of " + std::to_string(sizes.k.back()) + " parameters at " + std::to_string(steps.size()) +
             " steps take more memory than there is\n";
    sizes.k.pop_back();
    sizes.rho.pop_back();
  }
  DynamicsMaps maps;
  maps.name = "mask";
  maps.steps = steps;
  maps.k = sizes.k;
  maps.rho = sizes.rho;
  for (const int64_t k : sizes.k) maps.chance.push_back(chance_intersection_over_union(k, run.subset.count));
  std::vector<at::Tensor> orders;
  for (const int64_t step : steps) {
    context.check_cancelled();
    const Checkpoint checkpoint = rescaled_checkpoint(run.folder, run.model, step);
    orders.push_back(
        magnitude_order(run.subset.gather(run.model.parameters(), checkpoint.parameters), sizes.k.back()));
  }
  maps.values = mask_similarity(orders, orders, run.subset.count, sizes.k, context);
  return maps;
}

void add_gradients(const DynamicsOf& run, const Opened& opened, Dynamics& dynamics, const Context& context) {
  for (const Spaces& spaces : opened.splits) {
    DynamicsGradient gradient{.split = spaces.split, .steps = {}, .share = {}};
    std::vector<at::Tensor> shares;
    for (int64_t i = 0; i < length(spaces.steps); ++i) {
      const std::optional<at::Tensor> g =
          stored_gradient(run.folder, spaces.steps[i], spaces.split, run.subset.count);
      if (!g) continue;
      gradient.steps.push_back(spaces.steps[i]);
      shares.push_back(gradient_in_space(*spaces.list[i], *g, context.memory().available() / 8, context)
                           .narrow(0, 0, opened.common));
    }
    if (shares.empty()) continue;
    gradient.share = at::stack(shares);
    dynamics.gradients.push_back(std::move(gradient));
  }
}

// Throws Error unless both runs are of one network.
void require_same_network(const DynamicsOf& run, const DynamicsOf& other) {
  const std::string name = run.folder.path().string(), others = other.folder.path().string();
  const auto& mine = run.subset.specs;
  const auto& theirs = other.subset.specs;
  require(
      std::ranges::equal(mine, theirs,
                         [](const auto& a, const auto& b) { return a.name == b.name && a.shape == b.shape; }),
      others, " is over other parameters than ", name, " (", theirs.size(), " tensors, ", other.subset.count,
      " entries; ", mine.size(), " tensors, ", run.subset.count, " entries); take a run of the same network");
  const std::vector<int64_t> a = dynamics_sources(run.folder, run.method).checkpoints,
                             b = dynamics_sources(other.folder, other.method).checkpoints;
  std::vector<int64_t> both;
  std::ranges::set_intersection(a, b, std::back_inserter(both));
  require(!both.empty(), name, " and ", others,
          " have no checkpoint of the same step, so nothing shows that they are of one network");
  for (const int64_t step : both) {
    const Checkpoint x = rescaled_checkpoint(run.folder, run.model, step),
                     y = rescaled_checkpoint(other.folder, other.model, step);
    const bool same =
        x.parameters.scalar_type() == y.parameters.scalar_type() && at::equal(x.parameters, y.parameters) &&
        std::ranges::equal(x.buffers, y.buffers,
                           [](const at::Tensor& p, const at::Tensor& q) { return at::equal(p, q); });
    require(same, "the checkpoints of step ", step, " in ", name, " and ", others,
            " differ: they are of two trainings, or one alone is rescaled (curvature.rescaled); decompose "
            "the same checkpoints, which model.weights can name");
  }
}

}  // namespace

DynamicsCost dynamics_cost(const DynamicsOf& run, const DynamicsSources& sources) {
  DynamicsCost cost{.steps = length(sources.checkpoints)};
  const double masks = static_cast<double>(cost.steps), d = static_cast<double>(run.subset.count);
  // An entry of a mask takes as long as some twenty flops.
  cost.flops = masks * masks / 2 * kShares.back() * d * 20;
  const double spaces = static_cast<double>(sources.spaces.size()),
               k = static_cast<double>(std::min(run.folder.recipe().eigh.k, run.subset.count));
  cost.flops += spaces * (spaces + 1) / 2 * k * k * d * 2;
  return cost;
}

Dynamics dynamics_of(const DynamicsOf& run, const Context& context) {
  const Context::Scope scope(context);
  const DynamicsSources sources = dynamics_sources(run.folder, run.method);
  Dynamics dynamics{.parameters = run.subset.count,
                    .matrix = run.folder.recipe().curvature.matrix,
                    .method = to_string(run.method),
                    .other = {},
                    .other_matrix = {}};
  dynamics.made_from = sources.digest();
  const Opened opened = open(run, sources, context);
  dynamics.notes = opened.notes;
  if (sources.checkpoints.size() >= 2)
    dynamics.maps.push_back(mask_maps(run, sources.checkpoints, dynamics.notes, context));
  if (opened.common > 0) {
    const Sizes sizes = space_sizes(run.subset.count, opened.common);
    for (const Spaces& spaces : opened.splits) {
      if (spaces.steps.size() < 2) continue;
      DynamicsMaps maps = space_maps(spaces, spaces, sizes, run.subset.count, context);
      maps.name = spaces.split;
      dynamics.maps.push_back(std::move(maps));
    }
    for (size_t i = 0; i < opened.splits.size(); ++i) {
      for (size_t j = i + 1; j < opened.splits.size(); ++j) {
        const Spaces &a = opened.splits[i], &b = opened.splits[j];
        if (a.steps.size() < 2 && b.steps.size() < 2) continue;
        DynamicsMaps maps = space_maps(a, b, sizes, run.subset.count, context);
        maps.name = a.split + "_" + b.split;
        maps.other_steps = b.steps;
        dynamics.maps.push_back(std::move(maps));
      }
    }
    add_gradients(run, opened, dynamics, context);
  }
  require(!dynamics.maps.empty(), run.folder.path().string(),
          " has results of fewer than two steps; record more with train.checkpoints and curvature.steps");
  for (DynamicsMaps& maps : dynamics.maps)
    if (maps.symmetric()) add_crystallisation(maps);
  return dynamics;
}

Dynamics dynamics_between(const DynamicsOf& run, const DynamicsOf& other, const Context& context) {
  const Context::Scope scope(context);
  require_same_network(run, other);
  const DynamicsSources mine = dynamics_sources(run.folder, run.method),
                        theirs = dynamics_sources(other.folder, other.method);
  Dynamics dynamics{.parameters = run.subset.count,
                    .matrix = run.folder.recipe().curvature.matrix,
                    .method = to_string(run.method),
                    .other = fs::absolute(other.folder.path()).lexically_normal().filename().string(),
                    .other_matrix = other.folder.recipe().curvature.matrix};
  dynamics.made_from = mine.digest() + " " + theirs.digest();
  const Opened a = open(run, mine, context), b = open(other, theirs, context);
  dynamics.notes = a.notes + (b.notes.empty() ? "" : dynamics.other + ": " + b.notes);
  for (const Spaces& rows : a.splits) {
    for (const Spaces& columns : b.splits) {
      if (rows.split != columns.split) continue;
      DynamicsMaps maps =
          space_maps(rows, columns, space_sizes(run.subset.count, std::min(a.common, b.common)),
                     run.subset.count, context);
      maps.name = rows.split + "_" + dynamics.matrix + "_" + dynamics.other_matrix;
      maps.other_steps = columns.steps;
      if (dynamics.matrix == dynamics.other_matrix) add_crystallisation(maps);
      dynamics.maps.push_back(std::move(maps));
    }
  }
  require(!dynamics.maps.empty(), run.folder.path().string(), " and ", other.folder.path().string(),
          " have no split of which both hold eigenvectors");
  return dynamics;
}

}  // namespace seigh
