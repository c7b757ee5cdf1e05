#include "seigh/overlap/nulls.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/overlap/leverage_panels.h"
#include "seigh/overlap/swaps.h"

namespace seigh {
namespace {

enum Kind { kUniform, kLayer, kOutput, kInput, kKinds };

// The groups that the mask meets; no other counts for anything. Group 0 is all that masks may hold.
struct Groups {
  Groups(const std::vector<UnitLayout>& layouts, const std::vector<Place>& mask)
      : size{eligible_count(layouts)},
        tensor(layouts.size(), UnitNumbers::kNone),
        rows(UnitNumbers::of_rows(layouts)),
        columns(UnitNumbers::of_columns(layouts)) {
    for (const Place& place : mask) {
      const UnitLayout& layout = layouts[place.tensor];
      const auto met = [&](int32_t group, int64_t numel) {
        if (group == count()) size.push_back(numel);
        return group;
      };
      int32_t& own = tensor[place.tensor];
      if (own == UnitNumbers::kNone) own = static_cast<int32_t>(count());
      const int32_t whole = met(own, layout.numel());
      int32_t row = whole, column = whole;
      if (layout.defined) {
        row = met(rows.take(place.tensor, place.row, count()), layout.columns * layout.taps);
        column = met(columns.take(place.tensor, place.column, count()), layout.rows * layout.taps);
      }
      member[kUniform].push_back(0);
      member[kLayer].push_back(whole);
      member[kOutput].push_back(layout.rows_are_outputs ? row : column);
      member[kInput].push_back(layout.rows_are_outputs ? column : row);
    }
  }
  int64_t count() const { return static_cast<int64_t>(size.size()); }

  std::vector<int64_t> size;                          // N_g
  std::vector<int32_t> tensor;                        // the group of a tensor
  UnitNumbers rows, columns;                          // the group of a row or column; none without units
  std::array<std::vector<int32_t>, kKinds> member{};  // the group of the mask's p-th entry
};

// What one chain has seen.
struct Chain {
  std::vector<std::vector<double>> overlaps;  // with each space, by sample
  std::vector<char> left;                     // for each entry of the mask
  int64_t proposed = 0, made = 0;
};

Chain run_chain(const MetCells& cells, const std::vector<Place>& mask,
                const std::vector<const double*>& leverages, int64_t samples, uint64_t seed, int64_t column,
                const Context& context) {
  const int64_t m = static_cast<int64_t>(mask.size());
  Swaps swaps(cells, mask, seed, column);
  Chain chain;
  const auto step = [&](int64_t n) {
    context.check_cancelled();
    chain.proposed += n;
    chain.made += swaps.step(n);
  };
  chain.overlaps.resize(leverages.size());
  // It begins at the mask itself, which it has to forget.
  step(std::max<int64_t>(20 * m, 1000));
  const double rate = static_cast<double>(chain.made) / static_cast<double>(chain.proposed);
  // Between samples every entry moves some four times, as far as it is able to.
  const int64_t apart =
      static_cast<int64_t>(static_cast<double>(m) * std::clamp(2.0 / std::max(rate, 1e-9), 2.0, 40.0));
  for (int64_t i = 0; i < samples; ++i) {
    if (chain.made > 0) step(apart);  // otherwise there is no other such mask, or none that matters
    for (size_t space = 0; space < leverages.size(); ++space) {
      double sum = 0;
      for (const Place& place : swaps.mask()) sum += leverages[space][cells.number(place)];
      chain.overlaps[space].push_back(sum / static_cast<double>(m));
    }
  }
  for (const Place& place : mask) chain.left.push_back(swaps.has_left(place) ? 1 : 0);
  return chain;
}

// 1 + 2 sum_t rho_t, cut where the sum of two successive terms is no longer positive (Geyer, Statist. Sci. 7,
// 1992). Autocorrelations are about the mean of all chains: chains that stay apart are correlated for ever.
double autocorrelation_time(const std::vector<Chain>& chains, size_t space, double mean) {
  const size_t n = chains.front().overlaps[space].size();
  const auto rho = [&](size_t lag) {
    double sum = 0;
    for (const Chain& chain : chains) {
      const std::vector<double>& overlaps = chain.overlaps[space];
      for (size_t i = lag; i < n; ++i) sum += (overlaps[i] - mean) * (overlaps[i - lag] - mean);
    }
    return sum / static_cast<double>(chains.size() * (n - lag));
  };
  const double variance = rho(0);
  double time = -1;
  for (size_t lag = 0; lag + 1 < std::min<size_t>(n, 1000); lag += 2) {
    const double two = (rho(lag) + rho(lag + 1)) / variance;
    if (!(two > 0)) break;
    time += 2 * two;
  }
  return std::clamp(time, 1.0, static_cast<double>(n * chains.size()));
}

// Equal up to the rounding of sums in another order.
double rounding(double overlap) {
  return 1e-12 * overlap;
}

void summarize(const std::vector<Chain>& chains, size_t space, double overlap, int64_t i, TwoWayNull& null) {
  double sum = 0, squares = 0, n = 0, at_least = 1, at_most = 1;
  int64_t proposed = 0, made = 0;
  for (const Chain& chain : chains) {
    for (const double value : chain.overlaps[space]) {
      sum += value;
      n += 1;
      at_least += value >= overlap - rounding(overlap) ? 1 : 0;
      at_most += value <= overlap + rounding(overlap) ? 1 : 0;
    }
    proposed += chain.proposed;
    made += chain.made;
  }
  const double mean = sum / n;
  for (const Chain& chain : chains) {
    for (const double value : chain.overlaps[space]) squares += (value - mean) * (value - mean);
  }
  double deviation = std::sqrt(squares / (n - 1));
  if (deviation <= rounding(mean)) deviation = 0;
  const size_t entries = chains.front().left.size();
  double moved = 0;
  for (size_t p = 0; p < entries; ++p) {
    moved +=
        std::any_of(chains.begin(), chains.end(), [&](const Chain& c) { return c.left[p] != 0; }) ? 1 : 0;
  }
  const double time = deviation > 0 ? autocorrelation_time(chains, space, mean) : 1;
  const std::pair<at::Tensor&, double> values[] = {
      {null.overlap, overlap},
      {null.mean, mean},
      {null.deviation, deviation},
      {null.free, moved / static_cast<double>(entries)},
      {null.samples, n},
      {null.acceptance, static_cast<double>(made) / static_cast<double>(proposed)},
      {null.autocorrelation, time},
      {null.effective, n / time},
      {null.p, std::min(1.0, 2 * std::min(at_least, at_most) / (n + 1))},
  };
  for (const auto& [tensor, value] : values) tensor.data_ptr<double>()[i] = value;
}

void make_room(TwoWayNull& null, int64_t sizes) {
  for (at::Tensor* values : {&null.overlap, &null.mean, &null.deviation, &null.free, &null.samples,
                             &null.acceptance, &null.autocorrelation, &null.effective, &null.p})
    *values = at::empty({sizes}, at::kDouble);
}

// l_i(k) of n rows of U, whose column j begins at u + j * stride, for begin < k <= end: out[k - begin - 1] of
// every row.
template <typename T>
void leverages(const T* u, int64_t stride, int64_t begin, int64_t end, int64_t first, int64_t last,
               double* leverage, double* out, int64_t n) {
  for (int64_t j = 0; j < end; ++j, u += stride) {
    for (int64_t r = first; r < last; ++r)
      leverage[r] += static_cast<double>(u[r]) * static_cast<double>(u[r]);
    if (j >= begin) std::copy(leverage + first, leverage + last, out + (j - begin) * n + first);
  }
}

// Sums of l and of l^2.
struct Moments {
  double sum, squares;
  void add(double value) {
    sum += value;
    squares += value * value;
  }
};

// The sums of l and of l^2 over groups, for n values of k, on a device. Groups lie there in another order:
// all that masks may hold, then of every tensor that the mask meets the tensor, its rows and its columns, as
// they follow each other in the tensor.
class MomentsThere {
 public:
  MomentsThere(const TensorPlaces& parameters, const Groups& groups, int64_t n, c10::Device device)
      : groups_(groups) {
    std::vector<int64_t> numbers;  // of rows and of columns, at the places of their groups
    const auto add = [&](int64_t group, int64_t number) {
      order_.push_back(group);
      numbers.push_back(number);
    };
    add(0, 0);
    for (size_t t = 0; t < parameters.tensors(); ++t) {
      Met& tensor = tensors_.emplace_back();
      if (groups.tensor[t] == UnitNumbers::kNone) continue;
      tensor.begin = static_cast<int64_t>(order_.size());
      add(groups.tensor[t], 0);
      const UnitLayout& layout = parameters.layout(t);
      if (!layout.defined) continue;
      const auto add_units = [&](const UnitNumbers& units, int64_t count, Units& met) {
        met.begin = static_cast<int64_t>(order_.size());
        for (int64_t unit = 0; unit < count; ++unit) {
          if (units.of(t, unit) == UnitNumbers::kNone) continue;
          met.numbers.push_back(unit);
          add(units.of(t, unit), unit);
        }
      };
      add_units(groups.rows, layout.rows, tensor.rows);
      add_units(groups.columns, layout.columns, tensor.columns);
    }
    numbers_ = at::tensor(numbers, at::kLong).to(device);
    sums_ =
        at::zeros({2, n, static_cast<int64_t>(order_.size())}, at::TensorOptions(at::kDouble).device(device));
  }

  /// leverage: [n, panel.count()], which it changes.
  void take(const Rectangle& panel, const at::Tensor& leverage) {
    const Met& tensor = tensors_[panel.first.tensor];
    for (int64_t power = 0; power < 2; ++power) {
      if (power == 1) leverage.square_();
      const at::Tensor sums = sums_[power],
                       cells = leverage.view({-1, panel.rows, panel.columns, panel.taps});
      const at::Tensor by_row = cells.sum(at::IntArrayRef{2, 3}), all = by_row.sum(1);
      sums.select(1, 0).add_(all);
      if (tensor.begin == 0) continue;
      sums.select(1, tensor.begin).add_(all);
      add(sums, tensor.rows, panel.first.row, by_row);
      if (!tensor.columns.numbers.empty())
        add(sums, tensor.columns, panel.first.column, cells.sum(at::IntArrayRef{1, 3}));
    }
  }

  /// On the host, [n, groups + 1, 2], in the order of groups.
  at::Tensor result() const {
    at::Tensor result = at::zeros({sums_.size(1), groups_.count() + 1, 2}, at::kDouble);
    return result.index_copy_(1, at::tensor(order_, at::kLong), sums_.cpu().permute({1, 2, 0}));
  }

 private:
  struct Units {  // those that the mask meets
    int64_t begin = 0;
    std::vector<int64_t> numbers;
  };
  struct Met {          // of a tensor
    int64_t begin = 0;  // 0: the mask does not meet it
    Units rows, columns;
  };

  // Of successive units from `first` on, [n, units], those that the mask meets.
  void add(const at::Tensor& sums, const Units& met, int64_t first, const at::Tensor& of) const {
    const auto from = std::ranges::lower_bound(met.numbers, first),
               to = std::ranges::lower_bound(met.numbers, first + of.size(1));
    const int64_t count = to - from, place = met.begin + (from - met.numbers.begin());
    if (count == 0) return;
    sums.narrow(1, place, count)
        .add_(count == of.size(1) ? of : of.index_select(1, numbers_.narrow(0, place, count).sub(first)));
  }

  const Groups& groups_;
  std::vector<int64_t> order_;
  std::vector<Met> tensors_;
  at::Tensor numbers_, sums_;
};

// What a pass over the rows of U finds for k in (begin, end].
class Pass {
 public:
  Pass(const TensorPlaces& parameters, const Groups& groups, const MetCells& cells,
       const std::vector<int64_t>& sizes, int64_t begin, int64_t end)
      : parameters_(parameters),
        groups_(groups),
        cells_(cells),
        begin_(begin),
        end_(end),
        moments_(at::zeros({end - begin, groups.count() + 1, 2}, at::kDouble)) {
    for (const int64_t size : sizes) {
      if (size > begin && size <= end) sizes_.push_back(size);
    }
    leverage_ = at::zeros({static_cast<int64_t>(sizes_.size()), cells.count()}, at::kDouble);
  }

  void run(const Eigenspace& space, int64_t piece_bytes, const Context& context) {
    const int64_t d = space.dimension(), k = space.count();
    if (try_on_device(space, piece_bytes, 32 * (end_ - begin_) * (groups_.count() + 1), context,
                      [&](int64_t rows) { run_there(space, rows, context); }))
      return;
    // Larger pieces are no faster.
    const int64_t piece = std::clamp<int64_t>(std::min(piece_bytes, int64_t{64} << 20) / (16 * k), 1, d);
    for_rows(space, piece, "null models", context,
             [&](const at::Tensor& rows, int64_t from) { take(rows, from, context.threads()); });
    if (space.divided()) {
      context.ranks().sum(moments_);
      context.ranks().sum(leverage_);
    }
  }

  const Moments& moments(int64_t k, int32_t group) const {
    return reinterpret_cast<const Moments*>(moments_.const_data_ptr<double>())[slot(k) + group];
  }
  /// The sizes among these k, and what cells hold at each of them.
  const std::vector<int64_t>& sizes() const { return sizes_; }
  const double* leverage(size_t size) const {
    return leverage_.const_data_ptr<double>() + static_cast<int64_t>(size) * cells_.count();
  }

 private:
  void run_there(const Eigenspace& space, int64_t rows, const Context& context) {
    MomentsThere moments(parameters_, groups_, end_ - begin_, context.device());
    std::vector<Rectangle> panels = rectangles(parameters_, rows);
    std::erase_if(panels,
                  [&](const Rectangle& panel) { return !parameters_.layout(panel.first.tensor).eligible; });
    std::vector<int64_t> chosen;
    for (const int64_t size : sizes_) chosen.push_back(size - begin_ - 1);
    const at::Tensor at = at::tensor(chosen, at::kLong).to(context.device());
    for_leverages(space, panels, end_, "null models", context,
                  [&](const Rectangle& panel, const at::Tensor&, const at::Tensor& leverage) {
                    const at::Tensor mine = leverage.narrow(0, begin_, end_ - begin_);
                    if (!sizes_.empty()) keep(panel, mine, at);
                    moments.take(panel, mine);
                  });
    moments_ = moments.result();
  }

  // What cells of a panel hold at the sizes, which are numbers `at` of its `leverage`.
  void keep(const Rectangle& panel, const at::Tensor& leverage, const at::Tensor& at) {
    const size_t tensor = panel.first.tensor;
    std::vector<int64_t> rows, columns;  // that the mask meets, within the panel
    for (int64_t r = 0; r < panel.rows; ++r)
      if (cells_.row(tensor, panel.first.row + r) != UnitNumbers::kNone) rows.push_back(r);
    for (int64_t c = 0; c < panel.columns; ++c)
      if (cells_.column(tensor, panel.first.column + c) != UnitNumbers::kNone) columns.push_back(c);
    if (rows.empty() || columns.empty()) return;
    const auto there = [&](const std::vector<int64_t>& index) {
      return at::tensor(index, at::kLong).to(leverage.device());
    };
    const at::Tensor met = leverage.index_select(0, at)
                               .view({-1, panel.rows, panel.columns, panel.taps})
                               .index_select(1, there(rows))
                               .index_select(2, there(columns))
                               .cpu()
                               .contiguous();
    const double* l = met.const_data_ptr<double>();
    for (size_t s = 0; s < sizes_.size(); ++s) {
      double* const kept = leverage_.data_ptr<double>() + static_cast<int64_t>(s) * cells_.count();
      for (const int64_t r : rows) {
        for (const int64_t c : columns) {
          const Place place{tensor, cells_.row(tensor, panel.first.row + r),
                            cells_.column(tensor, panel.first.column + c), panel.first.tap};
          std::copy_n(l, panel.taps, kept + cells_.number(place));
          l += panel.taps;
        }
      }
    }
  }

  int64_t slot(int64_t k) const { return (k - begin_ - 1) * (groups_.count() + 1); }

  void take(const at::Tensor& rows, int64_t from, int64_t slices) {
    const int64_t n = rows.size(0);
    at::Tensor running = at::zeros({n}, at::kDouble), of_k = at::empty({end_ - begin_, n}, at::kDouble);
    double* const leverage = of_k.data_ptr<double>();
    parallel_for(slices, [&](int64_t s) {
      const int64_t first = n * s / slices, last = n * (s + 1) / slices;
      if (rows.scalar_type() == at::kFloat) {
        leverages(rows.const_data_ptr<float>(), rows.stride(1), begin_, end_, first, last,
                  running.data_ptr<double>(), leverage, n);
      } else {
        leverages(rows.const_data_ptr<double>(), rows.stride(1), begin_, end_, first, last,
                  running.data_ptr<double>(), leverage, n);
      }
    });

    // Groups and cells of these rows; what is in none goes to the place behind the last group.
    const int32_t nowhere = static_cast<int32_t>(groups_.count());
    const auto or_nowhere = [&](int32_t group) { return group == UnitNumbers::kNone ? nowhere : group; };
    constexpr int32_t kOutside = -2;  // no mask may hold it
    struct Run {                      // within one row of one tensor, or a tensor that the mask does not meet
      int64_t end;
      int32_t tensor, row;
    };
    std::vector<Run> runs;
    std::vector<int32_t> column(static_cast<size_t>(n), nowhere);
    std::vector<int64_t> cell(static_cast<size_t>(n), -1);
    for (int64_t r = 0; r < n;) {
      Place place = parameters_.place(from + r);
      const size_t tensor = place.tensor;
      const UnitLayout& layout = parameters_.layout(tensor);
      const int32_t own = or_nowhere(groups_.tensor[tensor]);
      const int64_t end = std::min(parameters_.end(tensor) - from, n);
      if (own == nowhere) {
        runs.push_back({end, layout.eligible ? nowhere : kOutside, nowhere});
        r = end;
        continue;
      }
      for (; r < end; ++place.row, place.column = 0) {
        const int32_t row = layout.defined ? or_nowhere(groups_.rows.of(tensor, place.row)) : nowhere;
        for (; r < end && place.column < layout.columns; ++place.column, place.tap = 0) {
          const int32_t group =
              layout.defined ? or_nowhere(groups_.columns.of(tensor, place.column)) : nowhere;
          Place local = place;
          const bool met = cells_.localize(local);
          for (; r < end && place.tap < layout.taps; ++r, ++place.tap, ++local.tap) {
            column[r] = group;
            if (met) cell[r] = cells_.number(local);
          }
        }
        runs.push_back({r, own, row});
      }
    }

    // One after the other for each k, so that sums do not depend on threads or pieces.
    Moments* const moments = reinterpret_cast<Moments*>(moments_.data_ptr<double>());
    parallel_for(end_ - begin_, [&](int64_t j) {
      const double* l = leverage + j * n;
      Moments* const of = moments + slot(begin_ + 1 + j);
      Moments all = of[0];
      int64_t r = 0;
      for (const Run& run : runs) {
        if (run.tensor == kOutside) {
          r = run.end;
          continue;
        }
        if (run.tensor == nowhere) {
          for (; r < run.end; ++r) all.add(l[r]);
          continue;
        }
        Moments own = of[run.tensor], row = of[run.row];
        for (; r < run.end; ++r) {
          all.add(l[r]);
          own.add(l[r]);
          row.add(l[r]);
          of[column[r]].add(l[r]);
        }
        of[run.tensor] = own;
        if (run.row != nowhere) of[run.row] = row;
      }
      of[0] = all;
    });
    double* const kept = leverage_.data_ptr<double>();
    for (size_t s = 0; s < sizes_.size(); ++s) {
      const double* l = leverage + (sizes_[s] - begin_ - 1) * n;
      for (int64_t r = 0; r < n; ++r) {
        if (cell[r] >= 0) kept[static_cast<int64_t>(s) * cells_.count() + cell[r]] = l[r];
      }
    }
  }

  const TensorPlaces& parameters_;
  const Groups& groups_;
  const MetCells& cells_;
  int64_t begin_, end_;
  std::vector<int64_t> sizes_;
  at::Tensor moments_, leverage_;
};

// Sums over groups of what a null's mean and variance are made of.
struct NullMoments {
  double mean = 0, variance = 0, free = 0;
  void add(int64_t count, int64_t size, const Moments& m) {
    const double n = static_cast<double>(count), of = static_cast<double>(size);
    const double centre = m.sum / of, second = m.squares / of;
    mean += n * centre;
    if (n == of) return;
    free += n;
    double spread = second - centre * centre;
    // Below what the sums can resolve, leverages are all the same.
    if (spread <= 8 * std::numeric_limits<double>::epsilon() * second) spread = 0;
    variance += n * (of - n) / (of - 1) * spread;
  }
  /// At index i of `curve`, of masks of `size`.
  void store(NullCurve& curve, int64_t i, int64_t size) const {
    require(std::isfinite(mean), "the eigenvectors hold NaN or infinity");
    const double count = static_cast<double>(size);
    curve.mean.data_ptr<double>()[i] = mean / count;
    curve.deviation.data_ptr<double>()[i] = std::sqrt(variance) / count;
    curve.free.data_ptr<double>()[i] = free / count;
  }
};

// The closed forms, for one k after the other.
class ClosedForm {
 public:
  ClosedForm(const Groups& groups, Kind kind, NullCurve& curve)
      : groups_(groups), kind_(kind), counts_(groups.size.size()), curve_(curve) {
    const int64_t k = static_cast<int64_t>(groups.member[kind].size());
    for (at::Tensor* values : {&curve.mean, &curve.deviation, &curve.free})
      *values = at::empty({k}, at::kDouble);
  }
  void take(const Pass& pass, int64_t k) {
    const int32_t newcomer = groups_.member[kind_][static_cast<size_t>(k - 1)];
    if (counts_[newcomer]++ == 0) met_.push_back(newcomer);
    NullMoments sums;
    for (const int32_t group : met_) sums.add(counts_[group], groups_.size[group], pass.moments(k, group));
    sums.store(curve_, k - 1, k);
  }

 private:
  const Groups& groups_;
  Kind kind_;
  std::vector<int64_t> counts_;
  std::vector<int32_t> met_;
  NullCurve& curve_;
};

std::vector<Place> places_of(const at::Tensor& order, const TensorPlaces& parameters) {
  require(order.dim() == 1 && order.scalar_type() == at::kLong,
          "an order of parameters is an int64 vector, got ", order.scalar_type(), " ", order.sizes());
  const at::Tensor indices = order.cpu().contiguous();
  const int64_t* index = indices.const_data_ptr<int64_t>();
  std::vector<bool> seen(static_cast<size_t>(parameters.count()));
  std::vector<Place> places;
  for (int64_t p = 0; p < indices.numel(); ++p) {
    require(index[p] >= 0 && index[p] < parameters.count(), "there is no parameter ", index[p], " of ",
            parameters.count());
    require(!seen[index[p]], "the order names parameter ", index[p], " twice");
    seen[index[p]] = true;
    places.push_back(parameters.place(index[p]));
    require(parameters.layout(places.back().tensor).eligible, "the order names parameter ", index[p],
            ", which masks may not hold");
  }
  return places;
}

}  // namespace

void NullOptions::validate(int64_t count) const {
  constexpr int64_t kMost = 1'000'000;
  require(2 <= samples && samples <= kMost, "nulls: samples is ", samples,
          "; a standard deviation needs at least 2, and none more than ", kMost);
  require(1 <= chains && chains <= 1000, "nulls: chains must lie between 1 and 1000, not ", chains);
  require(piece_bytes > 0, "nulls: piece_bytes must be positive, not ", piece_bytes);
  require(memory >= 0, "nulls: memory must not be negative: ", memory);
  int64_t last = 0;
  for (const int64_t size : sizes) {
    require(last < size && size <= count, "nulls: sizes must rise within 1 to ", count, "; ", size,
            last == 0 ? " is first" : " follows ", last == 0 ? std::string() : std::to_string(last));
    last = size;
  }
}

std::vector<int64_t> null_sizes(int64_t count) {
  require(count >= 1, "there are no masks of up to ", count, " parameters");
  std::vector<int64_t> sizes;
  for (int i = 0; i < 10; ++i) {
    const int64_t size = i == 9 ? count : std::llround(std::pow(static_cast<double>(count), i / 9.0));
    if (sizes.empty() || size > sizes.back()) sizes.push_back(size);
  }
  return sizes;
}

OverlapFactors overlap_factors(const OverlapNulls& nulls, int64_t i, int64_t mask_size) {
  const auto value = [](const at::Tensor& t, int64_t at) { return t[at].item<double>(); };
  const TwoWayNull& two_way = nulls.two_way;
  OverlapFactors f;
  f.size = two_way.sizes[i].item<int64_t>();
  // Curves are over k = 1..K, or of a fixed mask at the same spaces.
  const int64_t point = nulls.layer.mean.numel() == two_way.sizes.numel() ? i : f.size - 1;
  const double layer = value(nulls.layer.mean, point), units = value(two_way.mean, i);
  const double deviation = value(two_way.deviation, i);
  f.overlap = value(two_way.overlap, i);
  f.chance = value(nulls.uniform.mean, point);
  f.layer = layer / f.chance;
  f.units = units / layer;
  f.parameter = f.overlap / units;
  f.z = deviation > 0 ? (f.overlap - units) / deviation : std::numeric_limits<double>::quiet_NaN();
  f.p = value(two_way.p, i);
  f.free = std::llround(value(two_way.free, i) * static_cast<double>(mask_size > 0 ? mask_size : f.size));
  return f;
}

OverlapNulls overlap_nulls(const Eigenspace& space, const at::Tensor& order,
                           const std::vector<UnitLayout>& layouts, const NullOptions& options,
                           const Context& context) {
  const int64_t d = space.dimension(), k = order.numel();
  require(1 <= k && k <= space.count(), "an order of ", k, " parameters does not fit ", space.count(),
          " eigenvectors");
  options.validate(k);
  const Context::Scope scope(context);
  const TensorPlaces parameters(layouts);
  require(parameters.count() == d, "the tensors hold ", parameters.count(),
          " parameters, but the eigenvectors have ", d, " entries");
  const std::vector<Place> mask = places_of(order, parameters);
  const std::vector<int64_t> sizes = options.sizes.empty() ? null_sizes(k) : options.sizes;
  const Groups groups(layouts, mask);
  const MetCells cells(layouts, {mask.begin(), mask.begin() + sizes.back()});
  std::vector<Place> local = mask;
  local.resize(static_cast<size_t>(sizes.back()));
  for (Place& place : local) cells.localize(place);

  OverlapNulls result;
  std::array<ClosedForm, kKinds> closed{
      ClosedForm(groups, kUniform, result.uniform), ClosedForm(groups, kLayer, result.layer),
      ClosedForm(groups, kOutput, result.output_unit), ClosedForm(groups, kInput, result.input_unit)};
  TwoWayNull& two_way = result.two_way;
  two_way.sizes = at::tensor(sizes, at::kLong);
  make_room(two_way, static_cast<int64_t>(sizes.size()));

  int64_t budget = options.memory > 0 ? options.memory : context.memory().available() / 4;
  if (space.divided()) budget = context.ranks().agree(budget);
  const auto bytes = [&](int64_t size) {
    const bool chosen = std::binary_search(sizes.begin(), sizes.end(), size);
    return 16 * (groups.count() + 1) + (chosen ? 8 * cells.count() : 0);
  };
  int64_t done = 0;  // sizes of the two-way null
  for (int64_t begin = 0, end; begin < k; begin = end) {
    int64_t needed = bytes(begin + 1);
    for (end = begin + 1; end < k && needed + bytes(end + 1) <= budget; ++end) needed += bytes(end + 1);
    Pass pass(parameters, groups, cells, sizes, begin, end);
    pass.run(space, options.piece_bytes, context);
    for (int64_t size = begin + 1; size <= end; ++size) {
      for (ClosedForm& form : closed) form.take(pass, size);
    }
    const int64_t n = static_cast<int64_t>(pass.sizes().size()), chains = options.chains;
    const int64_t each = (options.samples + chains - 1) / chains;
    std::vector<std::vector<Chain>> seen(static_cast<size_t>(n),
                                         std::vector<Chain>(static_cast<size_t>(chains)));
    parallel_for(n * chains, [&](int64_t task) {
      const int64_t i = n - 1 - task / chains, chain = task % chains;  // the longest first
      const int64_t size = pass.sizes()[i];
      seen[i][chain] = run_chain(cells, {local.begin(), local.begin() + size}, {pass.leverage(i)}, each,
                                 options.seed, size * chains + chain, context);
    });
    for (int64_t i = 0; i < n; ++i, ++done) {
      const int64_t size = pass.sizes()[i];
      double sum = 0;
      for (int64_t p = 0; p < size; ++p) sum += pass.leverage(i)[cells.number(local[p])];
      summarize(seen[i], 0, sum / static_cast<double>(size), done, two_way);
    }
  }
  return result;
}

OverlapNulls fixed_mask_nulls(const at::Tensor& leverage, const std::vector<int64_t>& spaces,
                              const at::Tensor& mask, const std::vector<UnitLayout>& layouts,
                              const NullOptions& options, const Context& context) {
  const Context::Scope scope(context);
  const TensorPlaces parameters(layouts);
  const int64_t d = parameters.count(), m = mask.numel(), n = static_cast<int64_t>(spaces.size());
  require(leverage.dim() == 2 && leverage.size(0) == n && leverage.size(1) == d && n >= 1 &&
              leverage.scalar_type() == at::kDouble && leverage.is_contiguous(),
          "leverages of shape ", leverage.sizes(), " are not float64 of ", n, " spaces and ", d,
          " parameters");
  require(m >= 1, "an empty mask has no null");
  options.validate(std::numeric_limits<int64_t>::max());
  const std::vector<Place> places = places_of(mask, parameters);
  const Groups groups(layouts, places);
  const int64_t* const index = mask.const_data_ptr<int64_t>();

  OverlapNulls result;
  const std::pair<Kind, NullCurve*> kinds[] = {{kUniform, &result.uniform},
                                               {kLayer, &result.layer},
                                               {kOutput, &result.output_unit},
                                               {kInput, &result.input_unit}};
  TwoWayNull& two_way = result.two_way;
  two_way.sizes = at::tensor(spaces, at::kLong);
  make_room(two_way, n);
  for (const auto& [kind, curve] : kinds)
    for (at::Tensor* values : {&curve->mean, &curve->deviation, &curve->free})
      *values = at::empty({n}, at::kDouble);
  const MetCells cells(layouts, places);
  std::vector<Place> local = places;
  for (Place& place : local) cells.localize(place);
  at::Tensor of_cells = at::zeros({n, cells.count()}, at::kDouble);

  for (int64_t s = 0; s < n; ++s) {
    const double* const l = leverage.const_data_ptr<double>() + s * d;
    std::vector<Moments> moments(groups.size.size());
    double* const in_cells = of_cells.data_ptr<double>() + s * cells.count();
    for (int64_t i = 0; i < d; ++i) {
      Place place = parameters.place(i);
      const UnitLayout& layout = layouts[place.tensor];
      if (!layout.eligible) continue;
      moments[0].add(l[i]);
      if (groups.tensor[place.tensor] == UnitNumbers::kNone) continue;
      moments[static_cast<size_t>(groups.tensor[place.tensor])].add(l[i]);
      for (const int32_t unit :
           {layout.defined ? groups.rows.of(place.tensor, place.row) : UnitNumbers::kNone,
            layout.defined ? groups.columns.of(place.tensor, place.column) : UnitNumbers::kNone})
        if (unit != UnitNumbers::kNone) moments[static_cast<size_t>(unit)].add(l[i]);
      if (cells.localize(place)) in_cells[cells.number(place)] = l[i];
    }
    for (const auto& [kind, curve] : kinds) {
      std::vector<int64_t> counts(groups.size.size());
      for (const int32_t group : groups.member[kind]) ++counts[static_cast<size_t>(group)];
      NullMoments sums;
      for (size_t g = 0; g < counts.size(); ++g)
        if (counts[g] > 0) sums.add(counts[g], groups.size[g], moments[g]);
      sums.store(*curve, s, m);
    }
  }
  const int64_t chains = options.chains, each = (options.samples + chains - 1) / chains;
  std::vector<const double*> rows;
  for (int64_t s = 0; s < n; ++s) rows.push_back(of_cells.const_data_ptr<double>() + s * cells.count());
  std::vector<Chain> seen(static_cast<size_t>(chains));
  parallel_for(chains, [&](int64_t chain) {
    seen[chain] = run_chain(cells, local, rows, each, options.seed, m * chains + chain, context);
  });
  for (int64_t s = 0; s < n; ++s) {
    const double* const l = leverage.const_data_ptr<double>() + s * d;
    double sum = 0;
    for (int64_t p = 0; p < m; ++p) sum += l[index[p]];
    summarize(seen, static_cast<size_t>(s), sum / static_cast<double>(m), s, two_way);
  }
  return result;
}

}  // namespace seigh
