// The overlap study with a device in its context: what is computed there comes out as on the CPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/deterministic.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/random.h"
#include "seigh/overlap/anatomy.h"
#include "seigh/overlap/best_overlap.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/dynamics.h"
#include "seigh/overlap/masks.h"
#include "seigh/overlap/nulls.h"
#include "tests/support/expect_error.h"
#include "tests/support/pretended_device.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

using test::PretendedDevice;

constexpr int64_t kRows = 2000, kCount = 24;

class OverlapOnADevice : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  ~OverlapOnADevice() override {
    PretendedDevice::set_limit(int64_t{1} << 40);
    EXPECT_EQ(PretendedDevice::held(), before_);
    EXPECT_FALSE(PretendedDevice::rounded_to_tf32());
  }
  // Orthonormal columns.
  at::Tensor vectors(uint64_t seed, int64_t rows = kRows, int64_t count = kCount) const {
    const at::Tensor g = random_gaussian(seed, Stream::test, rows, 0, count, at::kDouble);
    return std::get<0>(at::linalg_qr(g)).to(GetParam()).t().contiguous().t();
  }
  // The most that work takes there.
  template <typename Work>
  int64_t peak_of(const Work& work) const {
    DeviceMemory memory(PretendedDevice::device());
    memory.reset_peak();
    work();
    return memory.peak() - before_;
  }
  int64_t space_bytes() const { return kRows * kCount * static_cast<int64_t>(c10::elementSize(GetParam())); }
  void expect_same(const at::Tensor& there, const at::Tensor& here) const {
    ASSERT_TRUE(there.is_cpu());
    ASSERT_EQ(there.sizes(), here.sizes());
    EXPECT_TRUE(at::equal(there.isnan(), here.isnan()));
    EXPECT_LT((there - here).nan_to_num().abs().max().item<double>(),
              GetParam() == at::kFloat ? 1e-5 : 1e-12);
  }

  const Context there_ = Context(ContextOptions{.device = PretendedDevice::device()});
  const int64_t before_ = (PretendedDevice::rounded_to_tf32(),
                           PretendedDevice::held() == 0 ? 0 : PretendedDevice::held_at_rest());
};

TEST_P(OverlapOnADevice, CurvesAndBandsAreThoseOfTheCpu) {
  const DenseEigenspace space(vectors(1));
  const at::Tensor scores = random_gaussian(7, Stream::test, kRows, 0, 1, at::kDouble).select(1, 0);
  const std::vector<UnitLayout> layouts = {
      {.rows = 40, .columns = 30}, {.columns = 50, .defined = false}, {.rows = 75, .columns = 10}};
  const OverlapOptions options{.random_masks = 40};
  const OverlapCurves here = overlap_curves(space, scores, layouts, options);
  const auto expect_all = [&](const OverlapCurves& there) {
    expect_same(there.magnitude, here.magnitude);
    expect_same(there.best, here.best);
    expect_same(there.nulls.layer.mean, here.nulls.layer.mean);
    expect_same(there.bands.layer.low, here.bands.layer.low);
    expect_same(there.bands.input_unit.high, here.bands.input_unit.high);
    expect_same(there.bands.output_unit.low, here.bands.output_unit.low);
    EXPECT_EQ(there.bands.layer.p, here.bands.layer.p);
  };
  EXPECT_GE(peak_of([&] { expect_all(overlap_curves(space, scores, layouts, options, there_)); }),
            space_bytes());
  PretendedDevice::set_limit(PretendedDevice::held() + space_bytes());
  EXPECT_EQ(peak_of([&] { expect_all(overlap_curves(space, scores, layouts, options, there_)); }), 0)
      << "no room";
}

TEST_P(OverlapOnADevice, SimilaritiesAreThoseOfTheCpu) {
  std::vector<std::unique_ptr<DenseEigenspace>> spaces;
  std::vector<const Eigenspace*> all, some;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    spaces.push_back(std::make_unique<DenseEigenspace>(vectors(seed)));
    all.push_back(spaces.back().get());
    if (seed % 2 == 0) some.push_back(all.back());
  }
  for (const auto& [rows, columns] : {std::pair(all, all), std::pair(all, some)}) {
    const std::vector<int64_t> sizes = {20, 3};
    const at::Tensor here = eigenspace_similarity(rows, columns, sizes);
    const auto there = [&] {
      expect_same(eigenspace_similarity(rows, columns, sizes, int64_t{256} << 20, there_), here);
    };
    EXPECT_GE(peak_of(there), space_bytes());
    // In panels, or where not even those fit, on the CPU.
    for (const int64_t more : {int64_t{800'000}, int64_t{200'000}, int64_t{50'000}, int64_t{5'000}}) {
      PretendedDevice::set_limit(PretendedDevice::held() + more);
      const int64_t taken = peak_of(there);
      EXPECT_LE(taken, more);
      EXPECT_EQ(taken > 0, more == 800'000) << more;
    }
    PretendedDevice::set_limit(int64_t{1} << 40);
  }
  const at::Tensor wrong = vectors(9);
  wrong[3][2] = std::nan("");
  const DenseEigenspace bad(wrong);
  EXPECT_SEIGH_ERROR(eigenspace_similarity({&bad}, some, {20}, int64_t{256} << 20, there_),
                     "NaN or infinity");
}

// An eigenspace on the host that knows what it was asked for.
class Watched final : public Eigenspace {
 public:
  explicit Watched(at::Tensor vectors) : space_(std::move(vectors)) {}
  int64_t dimension() const override { return space_.dimension(); }
  int64_t count() const override { return space_.count(); }
  at::Tensor rows(const at::Tensor& index) const override { return space_.rows(index); }
  at::Tensor row_range(int64_t begin, int64_t n) const override {
    asked += n;
    most = std::max(most, n);
    if (after == 0) PretendedDevice::set_limit(PretendedDevice::held());
    --after;
    return space_.row_range(begin, n);
  }

  mutable int64_t asked = 0, most = 0;
  mutable int64_t after = -1;  // so many ranges the device has no more memory; never: negative

 private:
  DenseEigenspace space_;
};

// Convolution, matrix, bias, embedding, a matrix that masks may not hold, a tensor without units, an empty
// one.
const std::vector<UnitLayout> kLayouts = {
    {.rows = 8, .columns = 6, .taps = 9},
    {.rows = 20, .columns = 30},
    {.taps = 20, .defined = false},
    {.rows = 12, .columns = 5, .rows_are_outputs = false},
    {.rows = 10, .columns = 10, .eligible = false},
    {.taps = 0, .defined = false},
    {.taps = 300, .defined = false},
};
constexpr int64_t kParameters = 432 + 600 + 20 + 60 + 100 + 300;

int64_t piece_of(int64_t rows, int64_t count = kCount) {
  return 8 * count * rows;
}

// Sums of as many numbers as there are parameters, in two orders.
void expect_near(const at::Tensor& there, const at::Tensor& here, double scale, const std::string& what) {
  ASSERT_TRUE(there.is_cpu());
  ASSERT_EQ(there.sizes(), here.sizes()) << what;
  EXPECT_LE((there - here).abs().max().item<double>(), 1e-12 * scale) << what;
}

void expect_same_nulls(const OverlapNulls& there, const OverlapNulls& here) {
  const auto largest = [](const at::Tensor& t) { return t.abs().max().item<double>(); };
  for (const auto& [a, b] :
       {std::pair(&there.uniform, &here.uniform), std::pair(&there.layer, &here.layer),
        std::pair(&there.output_unit, &here.output_unit), std::pair(&there.input_unit, &here.input_unit)}) {
    expect_near(a->mean / b->mean, at::ones_like(b->mean), 1, "mean");
    // A difference of means of squares.
    expect_near(a->deviation.square(), b->deviation.square(), largest(b->mean.square()), "variance");
    EXPECT_TRUE(at::equal(a->free, b->free));
  }
  const TwoWayNull &a = there.two_way, &b = here.two_way;
  EXPECT_TRUE(at::equal(a.sizes, b.sizes));
  EXPECT_TRUE(at::equal(a.free, b.free));
  EXPECT_TRUE(at::equal(a.acceptance, b.acceptance));
  EXPECT_TRUE(at::equal(a.p, b.p));
  expect_near(a.overlap / b.overlap, at::ones_like(b.overlap), 1, "overlap");
  expect_near(a.mean / b.mean, at::ones_like(b.mean), 1, "mean of the two-way null");
  expect_near(a.deviation.square(), b.deviation.square(), largest(b.mean.square()), "its variance");
}

TEST_P(OverlapOnADevice, NullsAreThoseOfTheCpuWhateverThePanels) {
  const at::Tensor u = vectors(2, kParameters),
                   scores = random_gaussian(8, Stream::test, kParameters, 0, 1, at::kDouble).select(1, 0);
  const at::Tensor order = magnitude_order(scores, kCount, eligible_parameters(kLayouts));
  const NullOptions options{.samples = 20};
  const OverlapNulls here = overlap_nulls(DenseEigenspace(u), order, kLayouts, options);
  // Parts of a cell, cells, parts of a row, rows, tensors.
  for (const int64_t rows : {4, 9, 25, 30, 54, 100, 1000, 100'000}) {
    NullOptions pieces = options;
    pieces.piece_bytes = piece_of(rows);
    const Watched space(u);
    const int64_t peak =
        peak_of([&] { expect_same_nulls(overlap_nulls(space, order, kLayouts, pieces, there_), here); });
    EXPECT_EQ(space.asked, kParameters - 100) << "once what masks may hold";
    EXPECT_EQ(space.most, std::min<int64_t>(rows, rows < 600 ? rows : 600)) << "the matrix is the largest";
    EXPECT_GE(peak, 2 * piece_of(space.most)) << rows;
    // Sums of at most 3 K groups besides.
    EXPECT_LE(peak, 6 * piece_of(space.most) + 32 * kCount * 3 * kCount) << rows;
  }
  // The spaces one after the other.
  NullOptions little = options;
  little.memory = 1;
  const Watched space(u);
  expect_same_nulls(overlap_nulls(space, order, kLayouts, little, there_), here);
  EXPECT_EQ(space.asked, kCount * (kParameters - 100));
  // Where U is.
  expect_same_nulls(
      overlap_nulls(DenseEigenspace(u.to(PretendedDevice::device())), order, kLayouts, options, there_),
      here);
}

TEST_P(OverlapOnADevice, BestMasksAreThoseOfTheCpuWhateverThePanels) {
  const at::Tensor u = vectors(3, kParameters);
  std::vector<char> some = eligible_parameters(kLayouts), few(kParameters, 0);
  std::fill(few.begin() + 500, few.begin() + 510, 1);
  for (const std::vector<char>& eligible : {std::vector<char>(), some, few}) {
    const at::Tensor here = best_overlap(DenseEigenspace(u), piece_of(1000), Context(), eligible);
    for (const int64_t rows : {17, 24, 100, 100'000}) {
      const Watched space(u);
      const int64_t peak = peak_of([&] {
        const at::Tensor there = best_overlap(space, piece_of(rows), there_, eligible);
        expect_near(there / here, at::ones_like(here), 1, std::to_string(rows));
      });
      EXPECT_EQ(space.asked, kParameters);
      EXPECT_EQ(space.most, std::min(rows, kParameters));
      EXPECT_GE(peak, 2 * piece_of(space.most)) << rows;
      EXPECT_LE(peak, 6 * piece_of(space.most) + 64 * kCount * kCount + kParameters) << rows;
    }
  }
}

TEST_P(OverlapOnADevice, TheSmallestSpacesAndMasks) {
  for (const auto& [d, k, layouts] : std::vector<std::tuple<int64_t, int64_t, std::vector<UnitLayout>>>{
           {2, 1, {{2, 1, 1}}},
           {2, 2, {{1, 2, 1}}},
           {12, 12, {{2, 3, 1}, {.taps = 6, .defined = false}}},
           {54, 5, {{3, 2, 9}}}}) {
    const DenseEigenspace space(vectors(4, d, k));
    for (const int64_t m : {int64_t{1}, k}) {
      const at::Tensor order = at::arange(d - 1, d - 1 - m, -1, at::kLong);
      for (const int64_t rows : {1, 5, 1000}) {
        const NullOptions options{.samples = 2, .chains = 1, .piece_bytes = piece_of(rows, k)};
        const OverlapNulls here = overlap_nulls(space, order, layouts, options);
        EXPECT_GT(
            peak_of([&] { expect_same_nulls(overlap_nulls(space, order, layouts, options, there_), here); }),
            0);
        const at::Tensor best = best_overlap(space, options.piece_bytes);
        expect_near(best_overlap(space, options.piece_bytes, there_), best, 1, "best");
      }
    }
  }
}

TEST_P(OverlapOnADevice, WhatIsNoEigenspaceIsRefusedInTheSameWords) {
  const at::Tensor order = at::arange(kCount, at::kLong);
  const auto error_of = [](const std::function<void()>& work) -> std::string {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  // Of the convolution, and of what masks may not hold.
  for (const int64_t row : {int64_t{3}, int64_t{1150}}) {
    const at::Tensor wrong = vectors(5, kParameters);
    wrong[row][2] = std::nan("");
    const DenseEigenspace space(wrong);
    const auto best = [&](const Context& context) {
      return error_of([&] { best_overlap(space, piece_of(100), context, eligible_parameters(kLayouts)); });
    };
    const auto nulls = [&](const Context& context) {
      return error_of([&] {
        overlap_nulls(space, order, kLayouts, {.samples = 4, .piece_bytes = piece_of(100)}, context);
      });
    };
    EXPECT_EQ(best(there_), best(Context()));
    EXPECT_NE(best(there_).find("eigenvector 2 has norm nan"), std::string::npos);
    EXPECT_EQ(nulls(there_), nulls(Context()));
    EXPECT_EQ(nulls(there_).empty(), row == 1150);
  }
}

TEST_P(OverlapOnADevice, WithoutMemoryTheHostGoesOn) {
  const at::Tensor u = vectors(6, kParameters), order = at::arange(kCount, at::kLong);
  const DenseEigenspace whole(u);
  const NullOptions options{.samples = 4, .piece_bytes = piece_of(100)};
  const OverlapNulls nulls = overlap_nulls(whole, order, kLayouts, options);
  const at::Tensor best = best_overlap(whole), all = leverages(whole, {1, kCount});
  const std::pair<const char*, std::function<void(const Eigenspace&)>> works[] = {
      {"nulls",
       [&](const Eigenspace& space) {
         const OverlapNulls there = overlap_nulls(space, order, kLayouts, options, there_);
         EXPECT_TRUE(at::equal(there.output_unit.deviation, nulls.output_unit.deviation));
         EXPECT_TRUE(at::equal(there.two_way.mean, nulls.two_way.mean));
       }},
      {"best",
       [&](const Eigenspace& space) {
         EXPECT_TRUE(at::equal(best_overlap(space, options.piece_bytes, there_), best));
       }},
      {"leverages",
       [&](const Eigenspace& space) {
         EXPECT_TRUE(at::equal(leverages(space, {1, kCount}, options.piece_bytes, there_), all));
       }},
  };
  for (const auto& [name, work] : works) {
    // After three panels, and from the first on.
    const Watched space(u);
    space.after = 3;
    EXPECT_GT(peak_of([&] { work(space); }), piece_of(54)) << name;
    EXPECT_GT(space.asked, kParameters) << name << ": it was begun anew";
    PretendedDevice::set_limit(PretendedDevice::held() + piece_of(100));
    EXPECT_EQ(peak_of([&] { work(whole); }), 0) << name;
    PretendedDevice::set_limit(int64_t{1} << 40);
  }
}

TEST_P(OverlapOnADevice, AnatomyIsThatOfTheCpu) {
  const at::Tensor u = vectors(7, kParameters),
                   scores = random_gaussian(9, Stream::test, kParameters, 0, 1, at::kDouble).select(1, 0);
  const DenseEigenspace space(u);
  const OverlapCurves curves = overlap_curves(space, scores, kLayouts, {.random_masks = 4});
  const std::vector<StudiedMask> masks{{.scores = scores, .layouts = &kLayouts, .curves = &curves}};
  const Anatomy here = anatomy(space, masks);
  for (const int64_t rows : {7, 100, 100'000}) {
    const Watched watched(u);
    const int64_t peak = peak_of([&] {
      const Anatomy there = anatomy(watched, masks, piece_of(rows), there_);
      expect_near(there.space.energy, here.space.energy, 1, "energy");
      expect_near(there.space.participation, here.space.participation, 1, "participation");
      expect_near(there.masks[0].by_size, here.masks[0].by_size, 1, "by size");
      expect_near(there.masks[0].within, here.masks[0].within, 1, "within");
      expect_near(there.masks[0].by_size_layer, here.masks[0].by_size_layer, 1, "by layer");
    });
    EXPECT_GE(peak, 2 * piece_of(watched.most));
    EXPECT_LE(peak, 6 * piece_of(watched.most) + piece_of(2 * static_cast<int64_t>(kLayouts.size() + 1)));
    EXPECT_EQ(watched.asked, kParameters);
    const std::vector<int64_t> sizes{1, 5, kCount - 1};
    expect_near(leverages(watched, sizes, piece_of(rows), there_), leverages(space, sizes), 1, "leverages");
  }
}

TEST_P(OverlapOnADevice, EigenvectorsAreCopiedOnceAndRepeatable) {
  const Watched space(vectors(1));
  const at::Tensor scores = random_gaussian(7, Stream::test, kRows, 0, 1, at::kDouble).select(1, 0);
  const std::vector<UnitLayout> layouts = {{.rows = 40, .columns = 50}};
  const OverlapOptions options{.random_masks = 4};
  const OverlapCurves here = overlap_curves(space, scores, layouts, options);
  space.asked = 0;
  const OverlapCurves there = overlap_curves(space, scores, layouts, options, there_.with_determinism(true));
  EXPECT_EQ(space.asked, kRows + 1);  // and one for its dtype
  expect_same(there.best, here.best);
  expect_same_nulls(there.nulls, here.nulls);
  EXPECT_EQ(copy_on_device(DenseEigenspace(vectors(1).to(PretendedDevice::device())), there_), nullptr);
}

TEST_P(OverlapOnADevice, RunningSumsThereAreThoseHere) {
  const at::Tensor x = random_gaussian(1, Stream::test, 21, 0, 23, at::kDouble);
  for (int64_t n = 1; n <= 21; ++n) {
    for (const int64_t dim : {0, -1}) {
      const at::Tensor here = x.narrow(dim, 0, n), there = here.to(PretendedDevice::device());
      add_up(there, dim);
      expect_near(there.cpu(), here.cumsum(dim), 30, std::to_string(n));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, OverlapOnADevice, ::testing::Values(at::kFloat, at::kDouble));

}  // namespace
}  // namespace seigh
