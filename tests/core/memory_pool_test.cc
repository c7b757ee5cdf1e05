#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <thread>

#include "seigh/core/context.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

TEST(Bytes, AreReadAndWritten) {
  EXPECT_EQ(parse_bytes("8G"), int64_t{8} << 30);
  EXPECT_EQ(parse_bytes("1.5 GiB"), int64_t{3} << 29);
  EXPECT_EQ(parse_bytes("8GB"), 8'000'000'000);
  EXPECT_EQ(parse_bytes("512m"), int64_t{512} << 20);
  EXPECT_EQ(parse_bytes("2000"), 2000);
  for (const char* text : {"", "G", "8X", "-1G", "nan", "8GG", "1e30"})
    EXPECT_SEIGH_ERROR(parse_bytes(text), "no amount");
  EXPECT_EQ(format_bytes(int64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(format_bytes(12), "12 bytes");
}

#if !defined(__SANITIZE_ADDRESS__)  // under which there is no pool

TEST(MemoryPool, CountsTensorsOfItsScopesAndTheirPeak) {
  const Context context, other;
  const int64_t mb = 1 << 20;
  const at::Tensor outside = at::empty({10 * mb}, at::kByte);
  EXPECT_EQ(context.memory().held(), 0);
  at::Tensor kept;
  {
    const Context::Scope scope(context);
    const at::Tensor a = at::empty({10 * mb}, at::kByte), b = at::empty({100}, at::kByte);
    EXPECT_GE(context.memory().held(), 10 * mb);
    EXPECT_LT(context.memory().held(), 11 * mb);
    const Context::Scope inner(other);
    kept = at::empty({2 * mb}, at::kByte);
  }
  EXPECT_EQ(context.memory().held(), 0);
  EXPECT_EQ(other.memory().held(), 2 * mb);  // a result outlives its scope
  EXPECT_GE(context.memory().peak(), 10 * mb);
  kept.reset();
  EXPECT_EQ(other.memory().held(), 0);
  context.memory().reset_peak();
  EXPECT_EQ(context.memory().peak(), 0);
}

TEST(MemoryPool, GivesEachThreadItsOwnMemory) {
  // Tensors of many sizes made, filled, checked and freed by two threads at once: any overlap shows.
  const Context context;
  std::atomic<int> wrong = 0;
  const auto work = [&](int64_t seed) {
    const Context::Scope scope(context);
    std::vector<at::Tensor> kept(8);
    for (int64_t i = 0; i < 400; ++i) {
      const int64_t value = seed * 1000 + i, n = 1 + (value * 7919) % 300'000;
      at::Tensor& slot = kept[static_cast<size_t>(i % 8)];
      if (slot.defined() && !slot.eq(slot[0]).all().item<bool>()) ++wrong;
      slot = at::full({n}, static_cast<double>(value));
    }
  };
  std::thread one(work, 1), two(work, 2);
  one.join();
  two.join();
  EXPECT_EQ(wrong, 0);
}

TEST(MemoryPool, KeepsTheCeiling) {
  const Context context({.memory = int64_t{2} << 30}), free;
  EXPECT_LT(context.memory().available(), int64_t{2} << 30);
  {
    const Context::Scope scope(context);
    const at::Tensor half = at::empty({int64_t{1} << 28}, at::kByte);
    EXPECT_THROW(at::empty({int64_t{2} << 30}, at::kByte), MemoryError);
    EXPECT_SEIGH_ERROR(at::empty({int64_t{2} << 30}, at::kByte), "memory ceiling of 2 GiB is too low");
    EXPECT_NO_THROW(at::empty({int64_t{1} << 28}, at::kByte));  // nothing is lost by a refusal
    const Context::Scope inner(free);                           // another's is not this one's
    EXPECT_NO_THROW(at::empty({int64_t{2} << 30}, at::kByte));
  }
  EXPECT_NO_THROW(at::empty({int64_t{2} << 30}, at::kByte));
  EXPECT_SEIGH_ERROR(Context({.memory = 1 << 20}), "the program itself takes");
}

#endif

}  // namespace
}  // namespace seigh
