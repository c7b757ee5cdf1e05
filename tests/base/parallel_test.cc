#include "seigh/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "tests/support/expect_error.h"

namespace seigh {
namespace {

TEST(Parallel, EachIndexOnce) {
  set_threads(2);
  std::vector<std::atomic<int>> seen(1000);
  parallel_for(1000, [&](int64_t i) { ++seen[i]; });
  for (const auto& count : seen) EXPECT_EQ(count, 1);
}

TEST(Parallel, RethrowsAnException) {
  EXPECT_SEIGH_ERROR(parallel_for(10, [](int64_t i) { require(i != 7, "seven"); }), "seven");
}

TEST(Parallel, RefusesNegativeThreads) { EXPECT_SEIGH_ERROR(set_threads(-1), "threads"); }

}  // namespace
}  // namespace seigh
