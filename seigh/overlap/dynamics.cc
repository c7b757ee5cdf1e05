#include "seigh/overlap/dynamics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"
#include "seigh/core/full_precision.h"

namespace seigh {
namespace {

int64_t length(const auto& list) {
  return static_cast<int64_t>(list.size());
}

int64_t largest_of(const std::vector<int64_t>& sizes) {
  require(!sizes.empty() && std::ranges::min(sizes) >= 1, "maps are of sizes from 1 on");
  return std::ranges::max(sizes);
}

// X^T Y in float64 for panels [n, a], [n, b] of one dtype. Sums of float32 are short enough to lose little.
at::Tensor products_of(const at::Tensor& x, const at::Tensor& y) {
  constexpr int64_t kRows = 4096;
  if (x.scalar_type() == at::kDouble) return at::mm(x.t(), y);
  at::Tensor sum;
  for (int64_t begin = 0; begin < x.size(0); begin += kRows) {
    const int64_t n = std::min(kRows, x.size(0) - begin);
    const at::Tensor part = at::mm(x.narrow(0, begin, n).t(), y.narrow(0, begin, n)).to(at::kDouble);
    sum = sum.defined() ? sum.add_(part) : part;
  }
  return sum;
}

// How many steps are held against how many, and how many rows of their vectors at a time.
struct Blocks {
  int64_t steps, rows;
};

Blocks plan_blocks(int64_t steps, int64_t d, int64_t k, int64_t element, int64_t bytes) {
  // Both blocks' vectors, what one step's come as (float64, say) before they are in their block, and the
  // product of one step with a block.
  const int64_t whole =
      std::max<int64_t>(bytes - 3 * k * d * element, 0) / (2 * k * d * element + 12 * k * k);
  // Half for the products of all pairs, the rest for panels and what is made of them.
  constexpr int64_t kFewRows = 512;
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(bytes) / 2 / (8.0 * k * k)));
  const int64_t pairs = std::clamp<int64_t>(std::min(side, bytes / (8 * k * element * kFewRows)), 1, steps);
  if (whole >= pairs) return {std::min(whole, steps), d};
  return {pairs, std::clamp<int64_t>(bytes / (8 * pairs * k * element), 1, d)};
}

// The first k vectors of some spaces, rows [begin, begin + n): [n, spaces k], contiguous columns.
at::Tensor panel(const std::vector<const Eigenspace*>& spaces, int64_t first, int64_t count, int64_t k,
                 const at::TensorOptions& options, int64_t begin, int64_t n) {
  at::Tensor all = at::empty({count * k, n}, options);
  for (int64_t i = 0; i < count; ++i) {
    const Eigenspace& space = *spaces[first + i];
    const at::Tensor rows = space.row_range(begin, n);
    require(rows.dim() == 2 && rows.size(0) == n && rows.size(1) == space.count(),
            "rows of the eigenspace have shape ", rows.sizes(), ", not [", n, ", ", space.count(), "]");
    all.narrow(0, i * k, k).copy_(rows.narrow(1, 0, k).t());
  }
  return all.t();
}

at::ScalarType dtype_of(const std::vector<const Eigenspace*>& spaces, at::ScalarType so_far) {
  for (const Eigenspace* space : spaces) {
    const at::ScalarType type = space->row_range(0, 1).scalar_type();
    require(type == at::kFloat || type == at::kDouble,
            "rows of the eigenspace must be float32 or float64, got ", type);
    if (type == at::kDouble) so_far = type;
  }
  return so_far;
}

// eigenspace_similarity() of what has been checked, computed there.
at::Tensor similarity_on(c10::Device device, const std::vector<const Eigenspace*>& rows,
                         const std::vector<const Eigenspace*>& columns, const std::vector<int64_t>& sizes,
                         int64_t bytes, const Context& context) {
  const int64_t k = largest_of(sizes), n = length(rows), m = length(columns), d = rows.front()->dimension();
  at::Tensor result = at::zeros({length(sizes), n, m}, at::kDouble);
  const bool same = rows == columns;
  const auto options = at::TensorOptions(dtype_of(columns, dtype_of(rows, at::kFloat))).device(device);
  const Blocks blocks =
      plan_blocks(std::max(n, m), d, k, static_cast<int64_t>(options.dtype().itemsize()), bytes);
  const int64_t panels = (d + blocks.rows - 1) / blocks.rows;

  // ||U_s^T U_t||^2 / k of one s and several t, from their products [k, t k].
  const auto reduce = [&](const at::Tensor& products, int64_t s, int64_t t, int64_t count) {
    const at::Tensor squares = products.square_().view({k, count, k});
    for (int64_t i = 0; i < length(sizes); ++i) {
      const at::Tensor overlaps = squares.narrow(0, 0, sizes[i])
                                      .narrow(2, 0, sizes[i])
                                      .sum(at::IntArrayRef{0, 2})
                                      .div(static_cast<double>(sizes[i]));
      require(overlaps.isfinite().all().item<bool>(), "the eigenvectors hold NaN or infinity");
      result[i][s].narrow(0, t, count).copy_(overlaps);
      if (same) result[i].select(1, s).narrow(0, t, count).copy_(overlaps);
    }
  };

  int64_t total = 0;
  for (int64_t i = 0; i < n; i += blocks.steps)
    for (int64_t j = same ? i : 0; j < m; j += blocks.steps) total += std::min(blocks.steps, n - i) * panels;
  context.progress().begin("eigenspaces of all pairs of steps", total, "products");
  for (int64_t i = 0; i < n; i += blocks.steps) {
    const int64_t of_i = std::min(blocks.steps, n - i);
    at::Tensor x;  // kept while it is all of D
    for (int64_t j = same ? i : 0; j < m; j += blocks.steps) {
      const int64_t of_j = std::min(blocks.steps, m - j);
      const bool diagonal = same && i == j;
      std::vector<at::Tensor> sums(static_cast<size_t>(of_i));
      for (int64_t begin = 0; begin < d; begin += blocks.rows) {
        const int64_t height = std::min(blocks.rows, d - begin);
        if (panels > 1 || !x.defined()) x = panel(rows, i, of_i, k, options, begin, height);
        const at::Tensor y = diagonal ? x : panel(columns, j, of_j, k, options, begin, height);
        for (int64_t s = 0; s < of_i; ++s) {
          context.check_cancelled();
          const int64_t from = diagonal ? s : 0;  // of a block with itself each pair once
          const at::Tensor products =
              products_of(x.narrow(1, s * k, k), y.narrow(1, from * k, (of_j - from) * k));
          at::Tensor& sum = sums[s];
          sum = sum.defined() ? sum.add_(products) : products;
          if (begin + height == d) {
            reduce(sum, i + s, j + from, of_j - from);
            sum.reset();
          }
          context.progress().advance(1);
        }
      }
    }
  }
  context.progress().end();
  return result;
}

}  // namespace

int64_t size_of_share(double rho, int64_t dimension) {
  require(rho > 0 && rho <= 1 && dimension >= 1, "a share of ", dimension, " parameters is in (0, 1], not ",
          rho);
  return std::max<int64_t>(std::llround(rho * static_cast<double>(dimension)), 1);
}

at::Tensor mask_similarity(const std::vector<at::Tensor>& rows, const std::vector<at::Tensor>& columns,
                           int64_t dimension, const std::vector<int64_t>& sizes, const Context& context) {
  const Context::Scope scope(context);
  const int64_t largest = largest_of(sizes);
  require(largest <= dimension, "masks of ", largest, " parameters are more than the ", dimension);
  const auto check = [&](const std::vector<at::Tensor>& orders) {
    std::vector<at::Tensor> checked;
    for (const at::Tensor& order : orders) {
      require(order.dim() == 1 && order.scalar_type() == at::kLong && order.numel() >= largest,
              "an order of parameters is an int64 vector of ", largest, " or more, got ", order.scalar_type(),
              " ", order.sizes());
      checked.push_back(order.narrow(0, 0, largest).cpu().contiguous());
    }
    return checked;
  };
  const std::vector<at::Tensor> left = check(rows), right = check(columns);
  const bool same =
      rows.size() == columns.size() && std::equal(rows.begin(), rows.end(), columns.begin(),
                                                  [](const auto& a, const auto& b) { return a.is_same(b); });

  // Sizes in rising order, each with its place in the result.
  std::vector<std::pair<int64_t, int64_t>> rising;
  for (int64_t i = 0; i < length(sizes); ++i) rising.emplace_back(sizes[i], i);
  std::ranges::sort(rising);
  const int64_t n = length(left), m = length(right);
  at::Tensor result = at::zeros({length(sizes), n, m}, at::kDouble);
  auto value = result.accessor<double, 3>();

  constexpr int32_t absent = -1;
  std::vector<int32_t> place(static_cast<size_t>(dimension), absent);  // of each parameter in the order of s
  std::vector<int64_t> common(rising.size());
  context.progress().begin("masks of all pairs of steps", n, "steps");
  for (int64_t s = 0; s < n; ++s) {
    context.check_cancelled();
    const int64_t* order = left[s].data_ptr<int64_t>();
    for (int64_t p = 0; p < largest; ++p) {
      require(order[p] >= 0 && order[p] < dimension, "parameter ", order[p], " is not below ", dimension);
      require(place[order[p]] == absent, "parameter ", order[p], " is twice in an order");
      place[order[p]] = static_cast<int32_t>(p);
    }
    for (int64_t t = same ? s : 0; t < m; ++t) {
      // A parameter is in both masks of k when it is among the first k of both orders.
      std::ranges::fill(common, 0);
      const int64_t* other = right[t].data_ptr<int64_t>();
      int64_t begin = 0;
      for (size_t i = 0; i < rising.size(); ++i) {
        for (int64_t p = begin; p < rising[i].first; ++p) {
          require(other[p] >= 0 && other[p] < dimension, "parameter ", other[p], " is not below ", dimension);
          const int32_t q = place[other[p]];
          if (q < 0) continue;
          size_t j = i;
          while (q >= rising[j].first) ++j;
          ++common[j];
        }
        begin = rising[i].first;
      }
      int64_t both = 0;
      for (size_t i = 0; i < rising.size(); ++i) {
        both += common[i];
        const double iou = static_cast<double>(both) / static_cast<double>(2 * rising[i].first - both);
        value[rising[i].second][s][t] = iou;
        if (same) value[rising[i].second][t][s] = iou;
      }
    }
    for (int64_t p = 0; p < largest; ++p) place[order[p]] = absent;
    context.progress().advance(1);
  }
  context.progress().end();
  return result;
}

at::Tensor eigenspace_similarity(const std::vector<const Eigenspace*>& rows,
                                 const std::vector<const Eigenspace*>& columns,
                                 const std::vector<int64_t>& sizes, int64_t bytes, const Context& context) {
  const Context::Scope scope(context);
  const int64_t k = largest_of(sizes);
  if (rows.empty() || columns.empty())
    return at::zeros({length(sizes), length(rows), length(columns)}, at::kDouble);
  const int64_t d = rows.front()->dimension();
  for (const auto* list : {&rows, &columns}) {
    for (const Eigenspace* space : *list) {
      require(space->dimension() == d, "eigenspaces of R^", d, " and R^", space->dimension(),
              " cannot be compared");
      require(space->count() >= k, "an eigenspace of ", space->count(), " vectors has no ", k);
      require(!space->divided(), "eigenspaces that ranks share out cannot be compared with each other");
    }
  }
  if (!context.device().is_cpu()) {
    const FullPrecision full(context.device());
    DeviceMemory memory(context.device(), context.device_memory());
    const int64_t there = memory.obstacle().empty() ? memory.available() / 3 : bytes;
    constexpr int64_t kFewRows = 512;  // at a time are slower than all of them here
    try {
      if (there >= 2 * kFewRows * k * static_cast<int64_t>(sizeof(double)))
        return similarity_on(context.device(), rows, columns, sizes, there, context);
    } catch (const c10::OutOfMemoryError&) {
      memory.release();
    }
  }
  return similarity_on(at::kCPU, rows, columns, sizes, bytes, context);
}

at::Tensor gradient_in_space(const Eigenspace& space, const at::Tensor& gradient, int64_t bytes,
                             const Context& context) {
  const Context::Scope scope(context);
  require(gradient.dim() == 1 && gradient.numel() == space.dimension() &&
              (gradient.scalar_type() == at::kFloat || gradient.scalar_type() == at::kDouble),
          "a gradient is a float vector [", space.dimension(), "], got ", gradient.scalar_type(), " ",
          gradient.sizes());
  require(!space.divided(), "eigenspaces that ranks share out cannot be held against a gradient");
  const at::Tensor g = gradient.to(at::kCPU, at::kDouble);
  require(g.isfinite().all().item<bool>(), "the gradient holds NaN or infinity");
  const double norm = g.square().sum().item<double>();
  const int64_t k = space.count();
  if (norm == 0) return at::full({k}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  at::Tensor inside = at::zeros({k}, at::kDouble);  // U^T g
  for_rows(space, std::max<int64_t>(1, bytes / (16 * k)), "gradient in the top space", context,
           [&](const at::Tensor& rows, int64_t begin) {
             inside.addmv_(rows.to(at::kDouble).t(), g.narrow(0, begin, rows.size(0)));
           });
  return inside.square().cumsum(0).div(norm);
}

Crystallisation crystallisation(const std::vector<int64_t>& steps, const at::Tensor& similarity,
                                int64_t reference, double chance, double ceiling,
                                const std::vector<double>& thresholds) {
  const int64_t n = length(steps);
  require(similarity.dim() == 1 && similarity.numel() == n && similarity.scalar_type() == at::kDouble,
          "similarities with one step are float64 [", n, "], got ", similarity.scalar_type(), " ",
          similarity.sizes());
  require(reference >= 0 && reference < n, "step number ", reference, " is none of ", n);
  require(std::ranges::is_sorted(steps, std::ranges::less_equal()) &&
              std::ranges::adjacent_find(steps) == steps.end(),
          "recorded steps must rise");
  const at::Tensor values = similarity.cpu().contiguous();
  const double* value = values.data_ptr<double>();
  Crystallisation found{.reference = steps[reference], .similarity0 = value[0], .ceiling = ceiling};
  for (const double threshold : thresholds) {
    // The first of the last stretch above the threshold, backwards from T.
    int64_t first = reference;
    while (first > 0 && ceiling > chance && (value[first - 1] - chance) / (ceiling - chance) > threshold)
      --first;
    Crystallisation::Passage passage{.threshold = threshold};
    if (first < reference) passage.step = steps[first];
    if (first > 0) passage.before = steps[first - 1];
    found.passages.push_back(passage);
  }
  return found;
}

int64_t half_way(const std::vector<int64_t>& steps) {
  require(!steps.empty(), "there are no recorded steps");
  const int64_t last = steps.back();
  const auto distance = [&](int64_t step) { return std::abs(2 * step - last); };
  return std::ranges::min_element(steps, {}, distance) - steps.begin();
}

}  // namespace seigh
