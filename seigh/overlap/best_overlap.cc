#include "seigh/overlap/best_overlap.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/overlap/leverage_panels.h"

namespace seigh {
namespace {

// Keeps the `count` largest of the numbers pushed, all >= 0; amortised O(1) a number, at most 2 count of them
// held.
class Largest {
 public:
  explicit Largest(size_t count) : count_(count) {}
  /// No number at or below it can change sum().
  double threshold() const { return threshold_; }
  void push(double value) {
    if (value <= threshold_) return;
    values_.push_back(value);
    if (values_.size() == 2 * count_) shrink();
  }
  void merge(const Largest& other) {
    for (const double value : other.values_) push(value);
  }
  /// The `count` largest, and zeros where fewer have been pushed; they count for nothing.
  const std::vector<double>& padded() {
    if (values_.size() > count_) shrink();
    values_.resize(count_);
    return values_;
  }
  void take(const double* values) {
    for (size_t i = 0; i < count_; ++i) push(values[i]);
  }
  /// Sum of the `count` largest, smallest first, so that it does not depend on the order they came in.
  double sum() {
    if (values_.size() > count_) shrink();
    std::sort(values_.begin(), values_.end());
    double total = 0.0;
    for (const double value : values_) total += value;
    return total;
  }

 private:
  void shrink() {
    std::nth_element(values_.begin(), values_.begin() + (count_ - 1), values_.end(), std::greater<>());
    values_.resize(count_);
    threshold_ = values_.back();
  }
  size_t count_;
  double threshold_ = 0.0;
  std::vector<double> values_;
};

// What one thread has seen: for every k the k largest leverages, and the squared norm of column k - 1.
struct Tally {
  explicit Tally(int64_t k) : norms(static_cast<size_t>(k)) {
    for (int64_t j = 0; j < k; ++j) largest.emplace_back(static_cast<size_t>(j + 1));
  }
  std::vector<Largest> largest;
  std::vector<double> norms;
  std::vector<double> leverage;
};

// Takes in n rows of U whose column j begins at u + j * stride; of those not eligible the norms alone.
template <typename T>
void take_rows(Tally& tally, const T* u, int64_t stride, int64_t n, const char* eligible) {
  tally.leverage.assign(static_cast<size_t>(n), 0.0);
  for (int64_t r = 0; eligible != nullptr && r < n; ++r) {
    if (eligible[r] == 0) tally.leverage[r] = -std::numeric_limits<double>::infinity();
  }
  double* leverage = tally.leverage.data();
  for (size_t j = 0; j < tally.largest.size(); ++j, u += stride) {
    double norm = 0.0;
    for (int64_t r = 0; r < n; ++r) {
      const double square = static_cast<double>(u[r]) * static_cast<double>(u[r]);
      leverage[r] += square;
      norm += square;
    }
    tally.norms[j] += norm;
    Largest& largest = tally.largest[j];
    for (int64_t r = 0; r < n; ++r) {
      if (leverage[r] > largest.threshold()) largest.push(leverage[r]);
    }
  }
}

// Of all rows, on the host; in slices, one for each thread.
Tally tally_here(const Eigenspace& space, int64_t piece_bytes, const Context& context,
                 const std::vector<char>& eligible) {
  const int64_t d = space.dimension(), k = space.count();
  // Larger pieces are no faster.
  const int64_t piece = std::clamp<int64_t>(std::min(piece_bytes, int64_t{256} << 20) / (8 * k), 1, d);
  const int64_t slices = context.threads();
  std::vector<Tally> tallies(static_cast<size_t>(slices), Tally(k));
  for_rows(space, piece, "leverage scores", context, [&](const at::Tensor& rows, int64_t begin) {
    const int64_t n = rows.size(0);
    parallel_for(slices, [&](int64_t s) {
      const int64_t first = n * s / slices, last = n * (s + 1) / slices;
      const char* const mine = eligible.empty() ? nullptr : eligible.data() + begin + first;
      if (rows.scalar_type() == at::kFloat) {
        take_rows(tallies[s], rows.data_ptr<float>() + first, rows.stride(1), last - first, mine);
      } else {
        take_rows(tallies[s], rows.data_ptr<double>() + first, rows.stride(1), last - first, mine);
      }
    });
  });
  for (int64_t j = 0; j < k; ++j) {
    for (int64_t s = 1; s < slices; ++s) {
      tallies[0].norms[j] += tallies[s].norms[j];
      tallies[0].largest[j].merge(tallies[s].largest[j]);
    }
  }
  return std::move(tallies[0]);
}

// Likewise on the context's device, where the K largest are kept for every k; nothing where it is
// not done there.
std::optional<Tally> tally_there(const Eigenspace& space, int64_t piece_bytes, const Context& context,
                                 const std::vector<char>& eligible) {
  const int64_t d = space.dimension(), k = space.count();
  at::Tensor largest, norms;
  const bool done = try_on_device(space, piece_bytes, 64 * k * k + 2 * d, context, [&](int64_t rows) {
    const at::TensorOptions there = at::TensorOptions(at::kDouble).device(context.device());
    largest = at::zeros({k, k}, there);  // zeros count for nothing
    norms = at::zeros({k}, there);
    at::Tensor barred;
    if (!eligible.empty())
      barred = at::from_blob(const_cast<char*>(eligible.data()), {d}, at::kChar).to(context.device()).eq(0);
    const std::vector<UnitLayout> whole{{1, 1, d, true, /*defined=*/false}};
    for_leverages(space, rectangles(TensorPlaces(whole), rows), k, "leverage scores", context,
                  [&](const Rectangle& panel, const at::Tensor& squares, const at::Tensor& leverage) {
                    const int64_t n = panel.count();
                    norms.add_(squares.sum(1));
                    const auto first = eligible.begin() + (eligible.empty() ? 0 : panel.begin);
                    const int64_t held = eligible.empty() ? n : std::count(first, first + n, 1);
                    if (held == 0) return;
                    if (held < n) leverage.masked_fill_(barred.narrow(0, panel.begin, n), 0);
                    const auto top = [](const at::Tensor& values, int64_t count) {
                      return std::get<0>(values.topk(count, 1, /*largest=*/true, /*sorted=*/false));
                    };
                    largest = top(at::cat({largest, top(leverage, std::min(k, n))}, 1), k);
                  });
    largest = largest.cpu();
    norms = norms.cpu();
  });
  if (!done) return std::nullopt;
  Tally tally(k);
  std::copy_n(norms.const_data_ptr<double>(), k, tally.norms.begin());
  const at::Tensor values = largest.contiguous();
  for (int64_t j = 0; j < k; ++j) {
    const double* const of = values.const_data_ptr<double>() + j * k;
    for (int64_t i = 0; i < k; ++i) tally.largest[j].push(of[i]);
  }
  return tally;
}

}  // namespace

// Gives every rank what all have seen: a round of k^2 / 2 numbers for each of them.
void join_ranks(Tally& tally, Ranks& ranks) {
  at::Tensor norms =
      at::from_blob(tally.norms.data(), {static_cast<int64_t>(tally.norms.size())}, at::kDouble);
  ranks.sum(norms);
  std::vector<double> mine;
  for (Largest& largest : tally.largest) {
    const std::vector<double>& values = largest.padded();
    mine.insert(mine.end(), values.begin(), values.end());
  }
  std::vector<double> theirs(mine.size());
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const bool own = rank == ranks.rank();
    std::vector<double>& values = own ? mine : theirs;
    ranks.broadcast(values.data(), static_cast<int64_t>(values.size() * sizeof(double)), rank);
    if (own) continue;
    const double* from = theirs.data();
    for (size_t j = 0; j < tally.largest.size(); from += ++j) tally.largest[j].take(from);
  }
}

at::Tensor best_overlap(const Eigenspace& space, int64_t piece_bytes, const Context& context,
                        const std::vector<char>& eligible) {
  const Context::Scope scope(context);
  const int64_t d = space.dimension(), k = space.count();
  require(k >= 1 && k <= d, "an eigenspace of ", k, " vectors in ", d, " dimensions has no overlap curve");
  require(eligible.empty() || static_cast<int64_t>(eligible.size()) == d, "best overlap: ", eligible.size(),
          " marks for ", d, " parameters");
  require(piece_bytes > 0, "piece_bytes must be positive, not ", piece_bytes);
  std::optional<Tally> there = tally_there(space, piece_bytes, context, eligible);
  Tally tally = there ? std::move(*there) : tally_here(space, piece_bytes, context, eligible);
  if (space.divided()) join_ranks(tally, context.ranks());

  at::Tensor result = at::empty({k}, at::kDouble);
  double* ov = result.data_ptr<double>();
  for (int64_t j = 0; j < k; ++j) {
    const double norm = tally.norms[j];
    require(std::abs(norm - 1.0) <= 0.02, "eigenvector ", j, " has norm ", std::sqrt(norm),
            ", not 1: overlaps need orthonormal vectors");
    ov[j] = tally.largest[j].sum() / static_cast<double>(j + 1);
  }
  return result;
}

}  // namespace seigh
