#include "seigh/overlap/dynamics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/overlap/chance.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/masks.h"
#include "tests/support/haar.h"

namespace seigh {
namespace {

using test::haar_basis;
constexpr double kEps = std::numeric_limits<double>::epsilon();

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Eigenspaces that keep what they are over.
struct Spaces {
  std::vector<std::unique_ptr<DenseEigenspace>> all;
  std::vector<const Eigenspace*> list;
  void add(const at::Tensor& basis) {
    all.push_back(std::make_unique<DenseEigenspace>(basis));
    list.push_back(all.back().get());
  }
};

// `n` spaces of R^d, of k vectors and one more each time.
Spaces some_spaces(int64_t n, int64_t d, int64_t k, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  Spaces spaces;
  for (int64_t i = 0; i < n; ++i) spaces.add(haar_basis(seed + i, d, std::min(d, k + i)).to(dtype));
  return spaces;
}

// From whole matrices, a pair at a time: ||P_s U_t||^2 / k with the projector P_s = U_s U_s^T.
at::Tensor dense_similarity(const Spaces& rows, const Spaces& columns, const std::vector<int64_t>& sizes) {
  at::Tensor result = at::zeros({static_cast<int64_t>(sizes.size()), static_cast<int64_t>(rows.list.size()),
                                 static_cast<int64_t>(columns.list.size())},
                                at::kDouble);
  const auto basis = [](const Eigenspace& space, int64_t k) {
    return space.row_range(0, space.dimension()).narrow(1, 0, k).to(at::kDouble);
  };
  for (size_t i = 0; i < sizes.size(); ++i) {
    for (size_t s = 0; s < rows.list.size(); ++s) {
      for (size_t t = 0; t < columns.list.size(); ++t) {
        const at::Tensor u = basis(*rows.list[s], sizes[i]), v = basis(*columns.list[t], sizes[i]);
        result[static_cast<int64_t>(i)][static_cast<int64_t>(s)][static_cast<int64_t>(t)] =
            at::matmul(u, at::matmul(u.t(), v)).square().sum() / static_cast<double>(sizes[i]);
      }
    }
  }
  return result;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a - b).abs().max().item<double>();
}

TEST(EigenspaceSimilarity, IsThatOfProjectorsForMemoryOfAnySize) {
  const int64_t d = 61;
  const Spaces a = some_spaces(7, d, 9, 300), b = some_spaces(4, d, 9, 320);
  const std::vector<int64_t> sizes = {4, 1, 9};  // in any order
  const at::Tensor square = dense_similarity(a, a, sizes), flat = dense_similarity(a, b, sizes);
  // Sums of at most d products below 1 in another order.
  const double tolerance = 20 * d * kEps;
  // From one row and one step at a time to everything at once.
  for (const int64_t bytes : {1, 3000, 8000, 20000, 60000, 1 << 20}) {
    EXPECT_LT(largest_difference(eigenspace_similarity(a.list, a.list, sizes, bytes), square), tolerance)
        << bytes;
    EXPECT_LT(largest_difference(eigenspace_similarity(a.list, b.list, sizes, bytes), flat), tolerance)
        << bytes;
    EXPECT_LT(largest_difference(eigenspace_similarity(b.list, a.list, sizes, bytes), flat.transpose(1, 2)),
              tolerance)
        << bytes;
  }
  // What nested_overlap() gives of the same products.
  const at::Tensor u = a.list[2]->row_range(0, d).narrow(1, 0, 9),
                   v = b.list[3]->row_range(0, d).narrow(1, 0, 9);
  const at::Tensor curve = nested_overlap(at::matmul(u.t(), v));
  for (int64_t i = 0; i < 3; ++i)
    EXPECT_NEAR(flat[i][2][3].item<double>(), curve[sizes[i] - 1].item<double>(), tolerance);
}

TEST(EigenspaceSimilarity, OfFloat32LosesWhatFloat32Holds) {
  const int64_t d = 9000;  // more than one sum of float32
  Spaces single = some_spaces(3, d, 5, 330, at::kFloat), mixed;
  mixed.add(haar_basis(330, d, 5).to(at::kFloat));
  mixed.add(haar_basis(331, d, 6));
  mixed.add(haar_basis(332, d, 7));
  const std::vector<int64_t> sizes = {5};
  for (const int64_t bytes : {1 << 15, 1 << 18, 1 << 24}) {
    for (const Spaces* spaces : {&single, &mixed}) {
      const at::Tensor exact = dense_similarity(*spaces, *spaces, sizes);
      // Entries of U^T U are off by some eps of float32, and there are k^2 / k of them.
      EXPECT_LT(largest_difference(eigenspace_similarity(spaces->list, spaces->list, sizes, bytes), exact),
                1e-5);
    }
  }
}

TEST(EigenspaceSimilarity, OfOneStepOneVectorAndThePlane) {
  const Spaces one = some_spaces(1, 12, 3, 340);
  const at::Tensor itself = eigenspace_similarity(one.list, one.list, {1, 2, 3});
  EXPECT_LT((itself - 1).abs().max().item<double>(), 50 * kEps);
  EXPECT_EQ(itself.sizes(), at::IntArrayRef({3, 1, 1}));
  // In the plane: cos^2 of the angle between two lines, and 1 of planes.
  Spaces lines;
  for (const double angle : {0.0, 0.5, 1.2}) {
    const double c = std::cos(angle), s = std::sin(angle);
    lines.add(at::tensor({c, -s, s, c}, at::kDouble).reshape({2, 2}));
  }
  for (const int64_t bytes : {1, 1000}) {
    const at::Tensor found = eigenspace_similarity(lines.list, lines.list, {1, 2}, bytes);
    EXPECT_NEAR(found[0][0][1].item<double>(), std::cos(0.5) * std::cos(0.5), 10 * kEps);
    EXPECT_NEAR(found[0][2][1].item<double>(), std::cos(0.7) * std::cos(0.7), 10 * kEps);
    EXPECT_LT((found[1] - 1).abs().max().item<double>(), 10 * kEps);
  }
  EXPECT_EQ(eigenspace_similarity({}, one.list, {1}).sizes(), at::IntArrayRef({1, 0, 1}));
}

TEST(EigenspaceSimilarity, SaysWhatDoesNotFit) {
  const Spaces a = some_spaces(2, 12, 3, 350), b = some_spaces(1, 13, 3, 351);
  EXPECT_NE(error_of([&] { eigenspace_similarity(a.list, a.list, {4}); }).find("3 vectors has no 4"),
            std::string::npos);
  EXPECT_NE(error_of([&] { eigenspace_similarity(a.list, b.list, {2}); }).find("R^12 and R^13"),
            std::string::npos);
  EXPECT_NE(error_of([&] { eigenspace_similarity(a.list, a.list, {}); }).find("sizes"), std::string::npos);
  EXPECT_NE(error_of([&] {
              eigenspace_similarity(a.list, a.list, {0, 1});
            }).find("sizes"),
            std::string::npos);
  Spaces bad;
  bad.add(at::full({12, 3}, std::numeric_limits<double>::quiet_NaN(), at::kDouble));
  EXPECT_NE(error_of([&] { eigenspace_similarity(a.list, bad.list, {2}); }).find("NaN"), std::string::npos);
}

double iou_of_sets(const at::Tensor& a, const at::Tensor& b, int64_t k) {
  const int64_t *x = a.data_ptr<int64_t>(), *y = b.data_ptr<int64_t>();
  const std::set<int64_t> first(x, x + k), second(y, y + k);
  std::set<int64_t> all = first;
  all.insert(second.begin(), second.end());
  return static_cast<double>(2 * k - static_cast<int64_t>(all.size())) / static_cast<double>(all.size());
}

TEST(MaskSimilarity, IsThatOfSets) {
  const int64_t d = 40;
  std::vector<at::Tensor> a, b;
  for (int64_t i = 0; i < 5; ++i) a.push_back(random_order(d, 20 + i, 360, i));
  for (int64_t i = 0; i < 3; ++i) b.push_back(random_order(d, 20, 361, i));
  // With ties: three magnitudes alone, so that only the index decides.
  a.push_back(magnitude_order(at::arange(d, at::kLong).remainder(3).to(at::kDouble), 20));
  a.push_back(magnitude_order(at::zeros({d}, at::kDouble), 20));
  const std::vector<int64_t> sizes = {7, 1, 20, 7};
  const at::Tensor square = mask_similarity(a, a, d, sizes), flat = mask_similarity(a, b, d, sizes);
  EXPECT_EQ(square.sizes(), at::IntArrayRef({4, 7, 7}));
  EXPECT_EQ(flat.sizes(), at::IntArrayRef({4, 7, 3}));
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t s = 0; s < 7; ++s) {
      for (int64_t t = 0; t < 7; ++t)
        EXPECT_DOUBLE_EQ(square[i][s][t].item<double>(), iou_of_sets(a[s], a[t], sizes[i])) << i << s << t;
      for (int64_t t = 0; t < 3; ++t)
        EXPECT_DOUBLE_EQ(flat[i][s][t].item<double>(), iou_of_sets(a[s], b[t], sizes[i])) << i << s << t;
    }
  }
  const std::vector<at::Tensor> whole = {random_order(2, 2, 362, 0), at::tensor({1, 0}, at::kLong)};
  EXPECT_EQ(mask_similarity(whole, whole, 2, {2}).min().item<double>(), 1.0);
}

TEST(MaskSimilarity, SaysWhatIsNoOrder) {
  const std::vector<at::Tensor> good = {at::tensor({0, 1, 2}, at::kLong)},
                                twice = {at::tensor({0, 0, 2}, at::kLong)},
                                beyond = {at::tensor({0, 1, 3}, at::kLong)};
  EXPECT_NE(error_of([&] { mask_similarity(good, good, 3, {4}); }).find("more than the 3"),
            std::string::npos);
  EXPECT_NE(error_of([&] { mask_similarity(good, good, 9, {4}); }).find("4 or more"), std::string::npos);
  EXPECT_NE(error_of([&] { mask_similarity(twice, good, 3, {3}); }).find("twice"), std::string::npos);
  EXPECT_NE(error_of([&] { mask_similarity(beyond, good, 3, {3}); }).find("not below 3"), std::string::npos);
  EXPECT_NE(error_of([&] { mask_similarity(good, beyond, 3, {3}); }).find("not below 3"), std::string::npos);
}

// All pairs of masks of k of D, by symmetry with one of them fixed.
TEST(ChanceIntersectionOverUnion, IsTheMeanOverAllMasks) {
  const int64_t d = 12;
  for (int64_t k = 1; k <= d; ++k) {
    const unsigned fixed = (1u << k) - 1;
    double sum = 0;
    int64_t masks = 0;
    for (unsigned mask = 0; mask < 1u << d; ++mask) {
      if (__builtin_popcount(mask) != k) continue;
      sum += __builtin_popcount(mask & fixed) / static_cast<double>(__builtin_popcount(mask | fixed));
      ++masks;
    }
    EXPECT_NEAR(chance_intersection_over_union(k, d), sum / static_cast<double>(masks), 100 * kEps) << k;
  }
  EXPECT_DOUBLE_EQ(chance_intersection_over_union(1, 1), 1.0);
  // Of many parameters the spread of the count is small, and what is left of convexity: of the order of 1 /
  // k.
  const double large = chance_intersection_over_union(1'406'000, 7'030'000);
  EXPECT_NEAR(large, .2 / 1.8, 1e-6);
  EXPECT_GE(large, .2 / 1.8 - 1e-12);
}

TEST(GradientInSpace, IsTheShareOfItsSquare) {
  const int64_t d = 50, k = 6;
  const at::Tensor u = haar_basis(370, d, k);
  const DenseEigenspace space(u);
  const at::Tensor g = random_gaussian(371, Stream::test, d, 0, 1, at::kDouble).reshape({d});
  for (const int64_t bytes : {1, 500, 1 << 20}) {
    const at::Tensor share = gradient_in_space(space, g, bytes);
    for (int64_t j = 1; j <= k; ++j) {
      // With the projection itself.
      const at::Tensor v = u.narrow(1, 0, j), inside = at::matmul(v, at::matmul(v.t(), g));
      EXPECT_NEAR(share[j - 1].item<double>(), (inside.square().sum() / g.square().sum()).item<double>(),
                  100 * kEps);
    }
  }
  // What lies in the space is all of it; float32 to its own rounding.
  const at::Tensor inside = at::matmul(u, at::arange(1, k + 1, at::kDouble));
  EXPECT_NEAR(gradient_in_space(space, inside)[k - 1].item<double>(), 1.0, 100 * kEps);
  EXPECT_NEAR(
      gradient_in_space(DenseEigenspace(u.to(at::kFloat)), inside.to(at::kFloat))[k - 1].item<double>(), 1.0,
      1e-5);
  EXPECT_TRUE(gradient_in_space(space, at::zeros({d}, at::kDouble)).isnan().all().item<bool>());
  EXPECT_NE(error_of([&] { gradient_in_space(space, g.narrow(0, 1, d - 1)); }).find("[50]"),
            std::string::npos);
  EXPECT_NE(error_of([&] { gradient_in_space(space, g / 0.0); }).find("NaN or infinity"), std::string::npos);
}

at::Tensor similarities(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

constexpr int64_t kNone = -1;
// The passage of a sequence that ends at T: step and the one before, -1 where there is none.
std::pair<int64_t, int64_t> passage(const std::vector<double>& values, double threshold, double chance = 0,
                                    double ceiling = 1) {
  std::vector<int64_t> steps;
  for (size_t i = 0; i < values.size(); ++i) steps.push_back(static_cast<int64_t>(10 * i));
  const Crystallisation found = crystallisation(
      steps, similarities(values), static_cast<int64_t>(values.size()) - 1, chance, ceiling, {threshold});
  EXPECT_EQ(found.reference, steps.back());
  EXPECT_EQ(found.similarity0, values.front());
  const Crystallisation::Passage& p = found.passages.at(0);
  EXPECT_EQ(p.threshold, threshold);
  return {p.step.value_or(kNone), p.before.value_or(kNone)};
}

TEST(Crystallisation, IsTheLastPassageBeforeT) {
  using Pair = std::pair<int64_t, int64_t>;
  EXPECT_EQ(passage({.1, .2, .6, .7, 1}, .5), Pair(20, 10));      // once
  EXPECT_EQ(passage({.6, .7, .8, .9, 1}, .5), Pair(0, kNone));    // always
  EXPECT_EQ(passage({.1, .2, .3, .4, 1}, .5), Pair(kNone, 30));   // never: T alone, which is no evidence
  EXPECT_EQ(passage({.6, .2, .6, .4, .8, 1}, .5), Pair(40, 30));  // several times
  EXPECT_EQ(passage({.6, .6, .6, .4, 1}, .5), Pair(kNone, 30));   // lost again
  EXPECT_EQ(passage({.1, .5, .6, 1}, .5), Pair(20, 10));          // at the threshold is not above it
  EXPECT_EQ(passage({1}, .5), Pair(kNone, kNone));                // T is the first record
  EXPECT_EQ(passage({.1, std::nan(""), .9, 1}, .5), Pair(20, 10));
  // Between chance .2 and a ceiling of .8 half the way is .5.
  EXPECT_EQ(passage({.3, .49, .51, .7, 1}, .5, .2, .8), Pair(20, 10));
  EXPECT_EQ(passage({.9, .9, 1}, .5, 1, 1), Pair(kNone, 10));  // all of R^D: nothing to be said
}

TEST(Crystallisation, LooksAtNothingBehindItsReference) {
  const std::vector<int64_t> steps = {0, 5, 10, 40, 100};
  const at::Tensor values = similarities({.1, .6, .9, 1, .2});
  const Crystallisation found = crystallisation(steps, values, 3, 0);
  EXPECT_EQ(found.reference, 40);
  EXPECT_EQ(found.similarity0, .1);
  ASSERT_EQ(found.passages.size(), 3u);
  EXPECT_EQ(found.passages[0].step, 5);
  EXPECT_EQ(found.passages[0].before, 0);
  EXPECT_FALSE(found.passages[2].step.has_value());
  EXPECT_EQ(found.passages[2].before, 10);  // .9 is not above .9
  EXPECT_NE(error_of([&] { crystallisation(steps, values, 5, 0); }).find("none of 5"), std::string::npos);
  EXPECT_NE(error_of([&] {
              crystallisation({0, 5, 5, 6, 7}, values, 4, 0);
            }).find("rise"),
            std::string::npos);
  EXPECT_NE(error_of([&] { crystallisation({0, 5}, values, 1, 0); }).find("[2]"), std::string::npos);
}

TEST(Crystallisation, HalfTheWayIsTheNearestRecord) {
  EXPECT_EQ(half_way({0, 10, 20, 30, 40}), 2);
  EXPECT_EQ(half_way({0, 10, 100}), 1);
  EXPECT_EQ(half_way({0, 40, 60, 100}), 1);  // the earlier of two
  EXPECT_EQ(half_way({7}), 0);
  EXPECT_EQ(half_way({0, 100}), 0);
}

}  // namespace
}  // namespace seigh
