#include "seigh/core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
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

TEST(Parallel, UsesItsThreads) {
  set_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  parallel_for(8, [&](int64_t) {
    std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids.size(), 2u);  // each thread gets its half whatever the timing
}

TEST(Parallel, RethrowsAnException) {
  EXPECT_SEIGH_ERROR(parallel_for(10, [](int64_t i) { require(i != 7, "seven"); }), "seven");
}

TEST(Parallel, RefusesNegativeThreads) {
  EXPECT_SEIGH_ERROR(set_threads(-1), "threads");
}

}  // namespace
}  // namespace seigh
