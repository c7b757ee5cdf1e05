#include "seigh/overlap/anatomy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/overlap/leverage_panels.h"
#include "seigh/overlap/masks.h"
#include "seigh/overlap/swaps.h"

namespace seigh {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// The squared entries of n rows of U, column by column.
template <typename T>
void take_rows(const T* u, int64_t stride, int64_t n, int64_t from, const TensorPlaces& places,
               const std::vector<int64_t>& sizes, int64_t slices, at::Tensor& leverage, SpaceAnatomy* space) {
  const int64_t k = sizes.back();
  double* const out = leverage.data_ptr<double>();
  const int64_t d = leverage.size(1);
  parallel_for(slices, [&](int64_t s) {
    const int64_t first = n * s / slices, last = n * (s + 1) / slices;
    std::vector<double> sums(static_cast<size_t>(last - first));
    size_t next = 0;
    for (int64_t j = 0; j < k; ++j) {
      const T* column = u + j * stride + first;
      for (int64_t r = 0; r < last - first; ++r)
        sums[r] += static_cast<double>(column[r]) * static_cast<double>(column[r]);
      if (j + 1 == sizes[next])
        std::copy(sums.begin(), sums.end(), out + static_cast<int64_t>(next++) * d + from + first);
    }
  });
  if (space == nullptr) return;
  // Each column's sums one after the other, so that they do not depend on threads or pieces.
  const int64_t columns = space->energy.size(1);
  double* const energy = space->energy.data_ptr<double>();
  double* const participation = space->participation.data_ptr<double>();
  parallel_for(columns, [&](int64_t j) {
    const T* column = u + j * stride;
    for (int64_t r = 0; r < n;) {
      const size_t tensor = places.place(from + r).tensor;
      const int64_t end = std::min(places.end(tensor) - from, n);
      double squares = energy[static_cast<int64_t>(tensor) * columns + j], fourth = participation[j];
      for (; r < end; ++r) {
        const double square = static_cast<double>(column[r]) * static_cast<double>(column[r]);
        squares += square;
        fourth += square * square;
      }
      energy[static_cast<int64_t>(tensor) * columns + j] = squares;
      participation[j] = fourth;
    }
  });
}

// All rows, on the context's device; false where it is not done there.
bool take_all_there(const Eigenspace& space, const TensorPlaces& places, const std::vector<int64_t>& sizes,
                    int64_t piece_bytes, const Context& context, at::Tensor& leverage, SpaceAnatomy* own) {
  const int64_t width = space.count(), columns = own == nullptr ? sizes.back() : width;
  const auto tensors = static_cast<int64_t>(places.tensors());
  return try_on_device(space, piece_bytes, 16 * width * (tensors + 1), context, [&](int64_t rows) {
    const at::TensorOptions there = at::TensorOptions(at::kDouble).device(context.device());
    const at::Tensor energy = at::zeros({tensors, width}, there), participation = at::zeros({width}, there),
                     index = at::tensor(sizes, at::kLong).sub(1).to(context.device());
    for_leverages(space, rectangles(places, rows), columns, "where curvature lies", context,
                  [&](const Rectangle& panel, const at::Tensor& squares, const at::Tensor& sums) {
                    leverage.narrow(1, panel.begin, panel.count()).copy_(sums.index_select(0, index));
                    if (own == nullptr) return;
                    energy[static_cast<int64_t>(panel.first.tensor)].add_(squares.sum(1));
                    participation.add_(squares.square_().sum(1));
                  });
    if (own == nullptr) return;
    own->energy = energy.cpu();
    own->participation = participation.cpu();
  });
}

// l_i(k) for the sizes k, rising: float64 [sizes, D]; and, where asked for, the space's own numbers.
at::Tensor leverages_at(const Eigenspace& space, const TensorPlaces& places,
                        const std::vector<int64_t>& sizes, SpaceAnatomy* own, int64_t piece_bytes,
                        const Context& context) {
  const int64_t d = space.dimension(), width = space.count();
  at::Tensor leverage = at::zeros({static_cast<int64_t>(sizes.size()), d}, at::kDouble);
  if (own != nullptr) {
    own->energy = at::zeros({static_cast<int64_t>(places.tensors()), width}, at::kDouble);
    own->participation = at::zeros({width}, at::kDouble);
  }
  if (take_all_there(space, places, sizes, piece_bytes, context, leverage, own)) return leverage;
  const int64_t piece = std::clamp<int64_t>(std::min(piece_bytes, int64_t{64} << 20) / (8 * width), 1, d);
  for_rows(space, piece, "where curvature lies", context, [&](const at::Tensor& rows, int64_t begin) {
    if (rows.scalar_type() == at::kFloat) {
      take_rows(rows.const_data_ptr<float>(), rows.stride(1), rows.size(0), begin, places, sizes,
                context.threads(), leverage, own);
    } else {
      take_rows(rows.const_data_ptr<double>(), rows.stride(1), rows.size(0), begin, places, sizes,
                context.threads(), leverage, own);
    }
  });
  if (space.divided()) {
    context.ranks().sum(leverage);
    if (own != nullptr) {
      context.ranks().sum(own->energy);
      context.ranks().sum(own->participation);
    }
  }
  return leverage;
}

// Parameters that belong together: runs of `length` successive ones, `stride` apart.
struct Group {
  int64_t begin, stride, runs, length;
  int64_t size() const { return runs * length; }
  int64_t at(int64_t i) const { return begin + i / length * stride + i % length; }
};

// The group of a parameter.
std::pair<int64_t, Group> group_of(Grouping grouping, const Place& place, const TensorPlaces& places) {
  const UnitLayout& layout = places.layout(place.tensor);
  const int64_t numel = layout.numel(), begin = places.end(place.tensor) - numel;
  if (grouping == Grouping::layer || !layout.defined) return {0, {begin, numel, 1, numel}};
  const int64_t width = layout.columns * layout.taps;
  if ((grouping == Grouping::output_unit) == layout.rows_are_outputs)
    return {place.row, {begin + place.row * width, width, 1, width}};
  return {place.column, {begin + place.column * layout.taps, width, layout.rows, layout.taps}};
}

// Sum of the largest leverages that masks with the counts of the first k of `mask` could hold.
double best_within(Grouping grouping, const std::vector<Place>& mask, int64_t k, const TensorPlaces& places,
                   const double* leverage) {
  std::map<std::pair<size_t, int64_t>, std::pair<Group, int64_t>> counts;
  for (int64_t p = 0; p < k; ++p) {
    const auto [unit, group] = group_of(grouping, mask[p], places);
    ++counts.try_emplace({mask[p].tensor, unit}, group, 0).first->second.second;
  }
  double sum = 0;
  std::vector<double> values;
  for (const auto& [key, entry] : counts) {
    const auto& [group, count] = entry;
    values.resize(static_cast<size_t>(group.size()));
    for (int64_t i = 0; i < group.size(); ++i) values[i] = leverage[group.at(i)];
    std::nth_element(values.begin(), values.begin() + (count - 1), values.end(), std::greater<>());
    std::sort(values.begin(), values.begin() + count);
    sum += std::accumulate(values.begin(), values.begin() + count, 0.0);
  }
  return sum;
}

// Ranks from 0, those of equal values their mean, less the mean of all.
void centred_ranks(const std::vector<double>& values, std::vector<double>& ranks) {
  const size_t n = values.size();
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  ranks.resize(n);
  for (size_t i = 0; i < n;) {
    size_t end = i + 1;
    while (end < n && values[order[end]] == values[order[i]]) ++end;
    const double rank = (static_cast<double>(i + end - 1) - static_cast<double>(n - 1)) / 2;
    for (; i < end; ++i) ranks[order[i]] = rank;
  }
}

// Sums over groups of products of centred numbers.
struct Pooled {
  double product = 0, first = 0, second = 0, variance = 0;
  void take(const std::vector<double>& a, const std::vector<double>& b) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      ab += a[i] * b[i];
      aa += a[i] * a[i];
      bb += b[i] * b[i];
    }
    product += ab;
    first += aa;
    second += bb;
    if (a.size() > 1) variance += aa * bb / static_cast<double>(a.size() - 1);
  }
  RankCorrelation result() const {
    const double scale = std::sqrt(first * second);
    if (!(scale > 0)) return {kNone, kNone};
    return {product / scale, std::sqrt(variance) / scale};
  }
};

RankCorrelation rank_correlation(Grouping grouping, const std::vector<double>& score, const double* leverage,
                                 const TensorPlaces& places) {
  Pooled pooled;
  std::vector<double> a, b, ranks_a, ranks_b;
  const auto take = [&](const Group& group) {
    a.resize(static_cast<size_t>(group.size()));
    b.resize(a.size());
    for (int64_t i = 0; i < group.size(); ++i) {
      a[i] = score[group.at(i)];
      b[i] = leverage[group.at(i)];
    }
    centred_ranks(a, ranks_a);
    centred_ranks(b, ranks_b);
    pooled.take(ranks_a, ranks_b);
  };
  for (size_t t = 0; t < places.tensors(); ++t) {
    const UnitLayout& layout = places.layout(t);
    if (!layout.eligible || layout.numel() == 0) continue;
    const bool rows = (grouping == Grouping::output_unit) == layout.rows_are_outputs;
    const int64_t units = grouping == Grouping::layer || !layout.defined ? 1
                          : rows                                         ? layout.rows
                                                                         : layout.columns;
    for (int64_t unit = 0; unit < units; ++unit)
      take(group_of(grouping, {t, rows ? unit : 0, rows ? 0 : unit, 0}, places).second);
  }
  return pooled.result();
}

// Takes row and column means away: v - row - column + all.
void centre_both(std::vector<double>& v, const UnitLayout& layout) {
  const int64_t rows = layout.rows, columns = layout.columns, taps = layout.taps;
  std::vector<double> row(static_cast<size_t>(rows)), column(static_cast<size_t>(columns));
  double all = 0;
  for (int64_t i = 0, r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t t = 0; t < taps; ++t, ++i) {
        row[r] += v[i];
        column[c] += v[i];
        all += v[i];
      }
    }
  }
  for (double& x : row) x /= static_cast<double>(columns * taps);
  for (double& x : column) x /= static_cast<double>(rows * taps);
  all /= static_cast<double>(layout.numel());
  for (int64_t i = 0; i < layout.numel(); ++i)
    v[i] += all - row[i / (columns * taps)] - column[i / taps % columns];
}

RankCorrelation two_way_correlation(const std::vector<double>& score, const double* leverage,
                                    const TensorPlaces& places) {
  Pooled pooled;
  double freedom = 0;
  std::vector<double> a, b, ranks_a, ranks_b;
  for (size_t t = 0; t < places.tensors(); ++t) {
    const UnitLayout& layout = places.layout(t);
    if (!layout.eligible || layout.numel() == 0) continue;
    const int64_t begin = places.end(t) - layout.numel();
    a.assign(score.begin() + begin, score.begin() + places.end(t));
    b.assign(leverage + begin, leverage + places.end(t));
    centred_ranks(a, ranks_a);
    centred_ranks(b, ranks_b);
    if (layout.defined) {
      centre_both(ranks_a, layout);
      centre_both(ranks_b, layout);
    }
    pooled.take(ranks_a, ranks_b);
    const int64_t lost = layout.defined ? layout.rows + layout.columns - 1 : 1;
    freedom += static_cast<double>(layout.numel() - lost);
  }
  RankCorrelation result = pooled.result();
  if (freedom <= 0) return {kNone, kNone};
  result.deviation = std::isnan(result.value) ? kNone : 1 / std::sqrt(freedom);
  return result;
}

std::vector<int64_t> mask_sizes(int64_t eligible, int64_t more) {
  std::vector<int64_t> sizes;
  for (const double share : {.005, .01, .02, .05, .1, .2, .3, .5}) {
    const int64_t size = std::max<int64_t>(1, std::llround(share * static_cast<double>(eligible)));
    sizes.push_back(size);
  }
  if (more > 0) sizes.push_back(more);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

// Of one mask, what can be known at the sizes number `from` on that `leverage` [sizes, D] is of.
class MaskStudy {
 public:
  MaskStudy(const StudiedMask& mask, const TensorPlaces& places, const SpaceAnatomy& space)
      : given_(mask), curves_(*mask.curves), places_(places), space_(space) {
    result.sizes = curves_.nulls.two_way.sizes;
    const int64_t n = result.sizes.numel(), tensors = static_cast<int64_t>(places.tensors());
    const at::Tensor values = mask.scores.to(at::kCPU, at::kDouble).contiguous().abs();
    score_.assign(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
    sizes_of_masks_ = mask_sizes(curves_.eligible, mask.ones);
    const at::Tensor order = magnitude_order(values, std::max(sizes_of_masks_.back(), curves_.mask.numel()),
                                             eligible_parameters(*mask.layouts));
    order_.assign(order.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>() + order.numel());
    for (int64_t p = 0; p < curves_.mask.numel(); ++p) mask_.push_back(places.place(order_[p]));
    result.counts = at::zeros({tensors, n}, at::kLong);
    result.within = at::zeros({tensors, n}, at::kDouble);
    for (at::Tensor* ceiling :
         {&result.ceiling_layer, &result.ceiling_output_unit, &result.ceiling_input_unit})
      *ceiling = at::full({n}, kNone, at::kDouble);
    result.mask_sizes = at::tensor(sizes_of_masks_, at::kLong);
    result.by_size = at::zeros({result.mask_sizes.numel(), n}, at::kDouble);
    result.by_size_layer = at::zeros_like(result.by_size);
  }

  /// What is at index `at` of the sizes, given l(k) of all parameters.
  void take(int64_t at, const double* leverage) {
    const int64_t n = result.sizes.numel(), k = result.sizes[at].item<int64_t>();
    int64_t* const counts = result.counts.data_ptr<int64_t>();
    double* const within = result.within.data_ptr<double>();
    for (int64_t p = 0; p < k; ++p) {
      const int64_t tensor = static_cast<int64_t>(mask_[p].tensor);
      ++counts[tensor * n + at];
      within[tensor * n + at] += leverage[order_[p]];
    }
    const OverlapNulls& nulls = curves_.nulls;
    const double overlap = curves_.magnitude[k - 1].item<double>();
    const auto ceiling = [&](Grouping grouping, const NullCurve& null, at::Tensor& into) {
      const double best = best_within(grouping, mask_, k, places_, leverage) / static_cast<double>(k);
      const double mean = null.mean[k - 1].item<double>();
      if (best - mean > 1e-9 * best) into.data_ptr<double>()[at] = (overlap - mean) / (best - mean);
    };
    ceiling(Grouping::layer, nulls.layer, result.ceiling_layer);
    ceiling(Grouping::output_unit, nulls.output_unit, result.ceiling_output_unit);
    ceiling(Grouping::input_unit, nulls.input_unit, result.ceiling_input_unit);

    // Tensors' shares of the space of k, and of ever larger masks.
    const at::Tensor share = space_.energy.slice(1, 0, k).sum(1).contiguous();
    double sum = 0, expected = 0;
    size_t p = 0;
    for (size_t m = 0; m < sizes_of_masks_.size(); ++m) {
      for (; p < static_cast<size_t>(sizes_of_masks_[m]); ++p) {
        const size_t tensor = places_.place(order_[p]).tensor;
        sum += leverage[order_[p]];
        expected +=
            share.const_data_ptr<double>()[tensor] / static_cast<double>(places_.layout(tensor).numel());
      }
      const double size = static_cast<double>(sizes_of_masks_[m]);
      result.by_size.data_ptr<double>()[static_cast<int64_t>(m) * n + at] = sum / size;
      result.by_size_layer.data_ptr<double>()[static_cast<int64_t>(m) * n + at] = expected / size;
    }
  }

  /// Likewise at several, where units have changed places; leverage: [indices, D].
  void permute(const std::vector<int64_t>& indices, const at::Tensor& leverage, const Context& context) {
    if (given_.units == nullptr || given_.units->empty()) return;
    JointNull& joint = result.joint;
    if (!joint.defined())
      for (at::Tensor* values : {&joint.mean, &joint.deviation, &joint.p, &joint.free})
        *values = at::full({result.sizes.numel()}, kNone, at::kDouble);
    const at::Tensor at = at::tensor(indices, at::kLong),
                     sizes = result.sizes.index_select(0, at).contiguous();
    const int64_t* const k = sizes.const_data_ptr<int64_t>();
    const JointNull found = joint_null(leverage, {k, k + sizes.numel()}, curves_.mask, *given_.units,
                                       given_.permutations, given_.seed, context);
    joint.mean.index_copy_(0, at, found.mean);
    joint.deviation.index_copy_(0, at, found.deviation);
    joint.p.index_copy_(0, at, found.p);
    joint.free.index_copy_(0, at, found.free);
  }

  /// From the leverages in the whole space.
  void correlate(const double* leverage) {
    result.layer = rank_correlation(Grouping::layer, score_, leverage, places_);
    result.output_unit = rank_correlation(Grouping::output_unit, score_, leverage, places_);
    result.input_unit = rank_correlation(Grouping::input_unit, score_, leverage, places_);
    result.two_way = two_way_correlation(score_, leverage, places_);
  }

  MaskAnatomy result;

 private:
  StudiedMask given_;
  const OverlapCurves& curves_;
  const TensorPlaces& places_;
  const SpaceAnatomy& space_;
  std::vector<double> score_;
  std::vector<int64_t> order_, sizes_of_masks_;
  std::vector<Place> mask_;
};

}  // namespace

at::Tensor leverages(const Eigenspace& space, const std::vector<int64_t>& sizes, int64_t piece_bytes,
                     const Context& context) {
  const Context::Scope scope(context);
  const UnitLayout all{1, 1, space.dimension(), true, /*defined=*/false};
  const std::vector<UnitLayout> layouts{all};
  require(!sizes.empty() && sizes.front() >= 1 && sizes.back() <= space.count() &&
              std::is_sorted(sizes.begin(), sizes.end()),
          "leverages are of 1 to ", space.count(), " vectors, rising");
  return leverages_at(space, TensorPlaces(layouts), sizes, nullptr, piece_bytes, context);
}

Anatomy anatomy(const Eigenspace& space, const std::vector<StudiedMask>& masks, int64_t piece_bytes,
                const Context& context) {
  const Context::Scope scope(context);
  const int64_t d = space.dimension();
  require(!masks.empty(), "there is no mask to study");
  std::vector<TensorPlaces> places;
  for (const StudiedMask& mask : masks) {
    places.emplace_back(*mask.layouts);
    require(places.back().count() == d && mask.scores.numel() == d, "a mask of ", mask.scores.numel(),
            " scores and ", places.back().count(), " parameters does not fit eigenvectors with ", d,
            " entries");
    require(mask.curves->nulls.defined(), "a mask is studied after its nulls");
  }
  // All sizes of all masks, and the whole space.
  std::vector<int64_t> sizes{space.count()};
  for (const StudiedMask& mask : masks) {
    const at::Tensor& own = mask.curves->nulls.two_way.sizes;
    sizes.insert(sizes.end(), own.const_data_ptr<int64_t>(), own.const_data_ptr<int64_t>() + own.numel());
  }
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());

  Anatomy result;
  int64_t budget = context.memory().available() / 4;
  if (space.divided()) budget = context.ranks().agree(budget);
  const size_t together =
      static_cast<size_t>(std::clamp<int64_t>(budget / (8 * d), 1, static_cast<int64_t>(sizes.size())));
  std::vector<MaskStudy> studies;
  for (size_t begin = 0; begin < sizes.size(); begin += together) {
    const std::vector<int64_t> some(
        sizes.begin() + static_cast<int64_t>(begin),
        sizes.begin() + static_cast<int64_t>(std::min(begin + together, sizes.size())));
    const at::Tensor leverage =
        leverages_at(space, places.front(), some, begin == 0 ? &result.space : nullptr, piece_bytes, context);
    if (begin == 0) {
      for (size_t i = 0; i < masks.size(); ++i) studies.emplace_back(masks[i], places[i], result.space);
    }
    const auto at_size = [&](size_t s) {
      return leverage.const_data_ptr<double>() + static_cast<int64_t>(s) * d;
    };
    for (MaskStudy& study : studies) {
      context.check_cancelled();
      const int64_t* own = study.result.sizes.const_data_ptr<int64_t>();
      std::vector<int64_t> indices, rows;  // of this mask's sizes that `some` holds, and of `leverage`
      for (int64_t at = 0; at < study.result.sizes.numel(); ++at) {
        const auto found = std::find(some.begin(), some.end(), own[at]);
        if (found == some.end()) continue;
        const int64_t s = found - some.begin();
        study.take(at, at_size(static_cast<size_t>(s)));
        indices.push_back(at);
        rows.push_back(s);
      }
      if (!rows.empty()) {
        // Nearly always they lie side by side, and need no copy.
        const int64_t count = static_cast<int64_t>(rows.size());
        study.permute(indices,
                      rows.back() - rows.front() + 1 == count
                          ? leverage.narrow(0, rows.front(), count)
                          : leverage.index_select(0, at::tensor(rows, at::kLong)),
                      context);
      }
      if (some.back() == space.count()) study.correlate(at_size(some.size() - 1));
    }
  }
  result.space.energy = by_tensor(result.space.energy, *masks.front().layouts);
  for (size_t i = 0; i < masks.size(); ++i) {
    MaskAnatomy& own = result.masks.emplace_back(std::move(studies[i].result));
    own.counts = by_tensor(own.counts, *masks[i].layouts);
    own.within = by_tensor(own.within, *masks[i].layouts);
  }
  return result;
}

}  // namespace seigh
