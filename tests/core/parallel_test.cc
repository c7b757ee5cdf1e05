#include "seigh/core/parallel.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "seigh/core/context.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

TEST(Parallel, EachIndexOnce) {
  at::set_num_threads(2);
  std::vector<std::atomic<int>> seen(1000);
  parallel_for(1000, [&](int64_t i) { ++seen[i]; });
  for (const auto& count : seen) EXPECT_EQ(count, 1);
}

TEST(Parallel, UsesItsThreads) {
  at::set_num_threads(2);
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

TEST(Context, RefusesNegativeThreads) {
  EXPECT_SEIGH_ERROR(Context({.threads = -1}), "threads");
}

TEST(Context, ChangesNothingOutsideOfItsScope) {
  at::set_num_threads(2);
  const Context context({.threads = 1});
  EXPECT_EQ(at::get_num_threads(), 2);
  {
    const c10::InferenceMode inference;
    const Context::Scope scope(context);
    EXPECT_EQ(at::get_num_threads(), 1);
    EXPECT_TRUE(at::GradMode::is_enabled());
    EXPECT_FALSE(c10::InferenceMode::is_enabled());
    int elsewhere = 0;
    std::thread([&] { elsewhere = at::get_num_threads(); }).join();
    EXPECT_EQ(elsewhere, 2);
  }
  EXPECT_EQ(at::get_num_threads(), 2);
}

TEST(Context, WorkersHaveAThreadEach) {
  const Context context({.threads = 2});
  const at::NoGradGuard no_grad;
  std::vector<std::thread::id> ids(3);
  std::vector<int> threads(3), gradients(3);
  context.run_workers(3, [&](int i) {
    ids[static_cast<size_t>(i)] = std::this_thread::get_id();
    threads[static_cast<size_t>(i)] = at::get_num_threads();
    gradients[static_cast<size_t>(i)] = at::GradMode::is_enabled();
  });
  EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(threads[static_cast<size_t>(i)], 1);
    EXPECT_TRUE(gradients[static_cast<size_t>(i)]);
  }
  EXPECT_SEIGH_ERROR(context.run_workers(2, [](int i) { require(i != 1, "one"); }), "one");
}

TEST(Context, CancelsFromItsQuestion) {
  std::atomic<bool> stop = false;
  const Context context({.cancelled = [&] { return stop.load(); }});
  EXPECT_NO_THROW(context.check_cancelled());
  stop = true;
  EXPECT_THROW(context.check_cancelled(), Cancelled);
}

}  // namespace
}  // namespace seigh
