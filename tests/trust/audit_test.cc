// The audit, small: nothing that the solvers promise may be broken more often than they say.
#include "tests/trust/audit.h"

#include <gtest/gtest.h>

namespace seigh {
namespace {

TEST(Trust, NoPromiseIsBrokenMoreOftenThanStated) {
  const test::Audit audit = test::run_audit({1, 2, 3, 9, 60, 130}, 3, 1);
  audit.print();
  for (const auto& [name, count] : audit.counts) EXPECT_LE(count.broken, count.allowed()) << name;
  // Nor are certificates bought by giving none.
  const auto share = [&](const std::string& method) {
    const auto [certified, of] = audit.certified.at(method);
    return static_cast<double>(certified) / static_cast<double>(of);
  };
  EXPECT_GT(share("dense"), 0.7);
  EXPECT_GT(share("krylov"), 0.5);
  EXPECT_GT(share("hmt"), 0.1);
}

// However the pairs were found.
TEST(Trust, NoneIsBrokenByProductsOfFewDigits) {
  const test::Audit audit = test::run_audit({1, 2, 3, 9, 60, 130}, 3, 5000, /*rounded=*/true);
  audit.print();
  for (const auto& [name, count] : audit.counts) EXPECT_LE(count.broken, count.allowed()) << name;
  const auto [certified, of] = audit.certified.at("krylov");
  EXPECT_GT(static_cast<double>(certified) / static_cast<double>(of), 0.2);
}

}  // namespace
}  // namespace seigh
