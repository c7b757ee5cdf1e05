#include "seigh/eigen/dense.h"

#include <gtest/gtest.h>

#include "seigh/core/memory.h"
#include "seigh/eigen/eigh.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

// Of any size; its products are not to be asked for.
struct Untouched final : LinearOperator {
  explicit Untouched(int64_t size) : LinearOperator(size, at::kDouble, "untouched") {}
  at::Tensor apply_impl(const at::Tensor&) override { fail("a product was made"); }
};

TEST(Dense, IsRefusedBeforeItsProducts) {
  Untouched large(kLargestDense + 1);
  EXPECT_SEIGH_ERROR(dense(large, 3, Selection::magnitude), "32767", "32766", "another method");
  SolverOptions options;
  options.k = 3;
  options.method = Method::dense;
  EXPECT_SEIGH_ERROR(options.validate(kLargestDense + 1), "32766");
  EXPECT_NO_THROW(options.validate(kLargestDense));
  options.method = Method::automatic;
  options.products = kLargestDense + 1;
  EXPECT_EQ(plan_eigh(kLargestDense, at::kDouble, options, int64_t{1} << 50).method, Method::dense);
  EXPECT_NE(plan_eigh(kLargestDense + 1, at::kDouble, options, int64_t{1} << 50).method, Method::dense);
  if (!Memory(0).obstacle().empty()) GTEST_SKIP() << "without the pool there is no ceiling";
  Untouched middling(10'000);  // 3.2 GB
  const Context context(ContextOptions{.memory = int64_t{3} << 30});
  EXPECT_SEIGH_ERROR(dense(middling, 3, Selection::magnitude, context), "10000", "memory", "--memory");
}

TEST(Dense, CountsWhatItTakes) {
  EXPECT_EQ(dense_bytes(1000, at::kFloat), 32'000'000);
  EXPECT_EQ(dense_bytes(1000, at::kComplexFloat), 64'000'000);
  EXPECT_GT(dense_bytes(int64_t{1} << 40, at::kDouble), int64_t{1} << 60);
}

}  // namespace
}  // namespace seigh
