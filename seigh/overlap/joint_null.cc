#include "seigh/overlap/joint_null.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/core/random.h"

namespace seigh {
namespace {

// How one group moves the parameters of one block.
struct Move {
  size_t group;
  const UnitBlock* block;
};

// Of every entry of the mask, the groups that move it.
std::vector<std::vector<Move>> moves_of(const std::vector<UnitGroup>& groups, const int64_t* mask, int64_t m,
                                        int64_t parameters) {
  std::vector<std::vector<Move>> moves(static_cast<size_t>(m));
  for (size_t g = 0; g < groups.size(); ++g) {
    const UnitGroup& group = groups[g];
    for (const UnitBlock& block : group.blocks) {
      require(group.count >= 1 && block.outer >= 1 && block.inner >= 1 && block.begin >= 0 &&
                  block.begin + block.outer * group.count * block.inner <= parameters,
              "a group of ", group.count, " units has ", block.outer, " x ", block.inner,
              " parameters each from ", block.begin, " on, of ", parameters);
      if (group.count == 1) continue;
      const int64_t end = block.begin + block.outer * group.count * block.inner;
      for (int64_t p = 0; p < m; ++p)
        if (mask[p] >= block.begin && mask[p] < end) moves[static_cast<size_t>(p)].push_back({g, &block});
    }
  }
  // Two permutations of one block commute where the units of one are wholly within those of the other.
  for (const std::vector<Move>& all : moves) {
    for (size_t a = 0; a < all.size(); ++a) {
      for (size_t b = 0; b < a; ++b) {
        const auto stride = [](const Move& move) { return move.block->inner; };
        const auto span = [&](const Move& move) { return move.block->inner * groups[move.group].count; };
        const Move &outer = stride(all[a]) >= stride(all[b]) ? all[a] : all[b],
                   &inner = &outer == &all[a] ? all[b] : all[a];
        require(all[a].block->begin == all[b].block->begin && stride(outer) % span(inner) == 0,
                "two groups move the parameters from ", all[a].block->begin, " on, and not apart");
      }
    }
  }
  return moves;
}

void require_mask(const at::Tensor& mask) {
  require(mask.dim() == 1 && mask.scalar_type() == at::kLong && mask.is_contiguous(),
          "a mask is an int64 vector, got ", mask.scalar_type(), " ", mask.sizes());
}

at::Tensor permuted(const std::vector<UnitGroup>& groups, const std::vector<std::vector<Move>>& moves,
                    const int64_t* mask, int64_t samples, uint64_t seed) {
  const int64_t m = static_cast<int64_t>(moves.size());
  at::Tensor result = at::empty({samples, m}, at::kLong);
  for (int64_t s = 0; s < samples; ++s) {
    std::vector<at::Tensor> places;
    for (size_t g = 0; g < groups.size(); ++g)
      places.push_back(random_permutation(seed, Stream::unit_permutation, groups[g].count,
                                          s * static_cast<int64_t>(groups.size()) + static_cast<int64_t>(g)));
    int64_t* const out = result.data_ptr<int64_t>() + s * m;
    for (int64_t p = 0; p < m; ++p) {
      out[p] = mask[p];
      for (const Move& move : moves[static_cast<size_t>(p)]) {
        const int64_t inner = move.block->inner;
        const int64_t unit = (mask[p] - move.block->begin) / inner % groups[move.group].count;
        out[p] += (places[move.group].const_data_ptr<int64_t>()[unit] - unit) * inner;
      }
    }
  }
  return result;
}

}  // namespace

at::Tensor permuted_masks(const std::vector<UnitGroup>& groups, const at::Tensor& mask, int64_t parameters,
                          int64_t samples, uint64_t seed) {
  require_mask(mask);
  require(samples >= 1, "at least one permutation is needed, not ", samples);
  const int64_t m = mask.numel();
  const int64_t* const index = mask.const_data_ptr<int64_t>();
  return permuted(groups, moves_of(groups, index, m, parameters), index, samples, seed);
}

JointNull joint_null(const at::Tensor& leverage, const std::vector<int64_t>& sizes, const at::Tensor& order,
                     const std::vector<UnitGroup>& groups, int64_t samples, uint64_t seed,
                     const Context& context) {
  const int64_t n = static_cast<int64_t>(sizes.size()), d = leverage.dim() == 2 ? leverage.size(1) : 0;
  require(leverage.dim() == 2 && leverage.size(0) == n && leverage.scalar_type() == at::kDouble &&
              leverage.is_contiguous(),
          "leverages of shape ", leverage.sizes(), " are not float64 of ", n, " spaces");
  require(samples >= 2, "a standard deviation needs at least 2 permutations, not ", samples);
  for (const int64_t size : sizes)
    require(1 <= size && size <= order.numel(), "there is no mask of ", size, " of ", order.numel(),
            " parameters");
  const Context::Scope scope(context);
  require_mask(order);
  const int64_t m = order.numel();
  const int64_t* const own = order.const_data_ptr<int64_t>();
  const std::vector<std::vector<Move>> moves = moves_of(groups, own, m, d);
  const at::Tensor moved = permuted(groups, moves, own, samples, seed);

  JointNull null;
  for (at::Tensor* values : {&null.mean, &null.deviation, &null.p, &null.free})
    *values = at::empty({n}, at::kDouble);
  parallel_for(n, [&](int64_t i) {
    context.check_cancelled();
    const double* const l = leverage.const_data_ptr<double>() + i * d;
    const auto overlap_of = [&](const int64_t* mask) {
      double sum = 0;
      for (int64_t p = 0; p < sizes[static_cast<size_t>(i)]; ++p) sum += l[mask[p]];
      return sum / static_cast<double>(sizes[static_cast<size_t>(i)]);
    };
    const double overlap = overlap_of(own), rounding = 1e-12 * overlap;
    double sum = 0, squares = 0, at_least = 1, at_most = 1;
    std::vector<double> values;
    for (int64_t s = 0; s < samples; ++s) {
      values.push_back(overlap_of(moved.const_data_ptr<int64_t>() + s * m));
      sum += values.back();
      at_least += values.back() >= overlap - rounding ? 1 : 0;
      at_most += values.back() <= overlap + rounding ? 1 : 0;
    }
    const double mean = sum / static_cast<double>(samples);
    for (const double value : values) squares += (value - mean) * (value - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(samples - 1));
    double free = 0;
    for (int64_t p = 0; p < sizes[static_cast<size_t>(i)]; ++p)
      free += moves[static_cast<size_t>(p)].empty() ? 0 : 1;
    null.mean.data_ptr<double>()[i] = mean;
    null.deviation.data_ptr<double>()[i] = deviation > 1e-12 * mean ? deviation : 0;
    null.p.data_ptr<double>()[i] =
        std::min(1.0, 2 * std::min(at_least, at_most) / static_cast<double>(samples + 1));
    null.free.data_ptr<double>()[i] = free / static_cast<double>(sizes[static_cast<size_t>(i)]);
  });
  return null;
}

}  // namespace seigh
