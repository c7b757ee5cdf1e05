// The overlap study with a device in its context: what is computed there comes out as on the CPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "seigh/core/context.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/random.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/dynamics.h"
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
  at::Tensor vectors(uint64_t seed) const {
    const at::Tensor g = random_gaussian(seed, Stream::test, kRows, 0, kCount, at::kDouble);
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

INSTANTIATE_TEST_SUITE_P(Dtypes, OverlapOnADevice, ::testing::Values(at::kFloat, at::kDouble));

}  // namespace
}  // namespace seigh
