#include "seigh/core/fingerprint.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/expect_error.h"

namespace seigh {
namespace {

std::string text(double samples, double loss) {
  Fingerprint print;
  print.add("samples", samples, 0.1);
  print.add("loss", loss, 0.01);
  return print.text();
}

TEST(Fingerprint, WithinTheToleranceIsTheSame) {
  EXPECT_EQ(first_difference(text(3, 1), text(3.09, 1.009)), "");
  EXPECT_EQ(first_difference(text(3, 1), text(3.11, 1.5)), "samples");
  EXPECT_EQ(first_difference(text(3, 1), text(3, 1.02)), "loss");
}

TEST(Fingerprint, WhatOneDoesNotSayIsNotCompared) {
  EXPECT_EQ(first_difference("", text(3, 1)), "");
  EXPECT_EQ(first_difference(text(3, 1), ""), "");
  Fingerprint some;
  some.add("loss", 2, 0.01);
  EXPECT_EQ(first_difference(text(3, 1), some.text()), "loss");
  some = Fingerprint();
  some.add("samples", 3, 0.1);
  EXPECT_EQ(first_difference(some.text(), text(3, 1)), "");
}

TEST(Fingerprint, NumbersSurviveAsTheyAre) {
  Fingerprint a, b;
  a.add("x", 0.1 + 0.2, 0);
  b.add("x", 0.3, 0);
  EXPECT_EQ(first_difference(a.text(), a.text()), "");
  EXPECT_EQ(first_difference(a.text(), b.text()), "x");
  a.add("nan", std::numeric_limits<double>::quiet_NaN(), 1);
  EXPECT_EQ(first_difference(a.text(), a.text()), "nan");
}

TEST(Fingerprint, AnothersIsRefusedByName) {
  EXPECT_NO_THROW(require_same_matrix("f.h5", text(3, 1), text(3, 1), "folder"));
  EXPECT_SEIGH_ERROR(require_same_matrix("f.h5", text(3, 1), text(9, 1), "folder"), "f.h5",
                     "samples were others", "delete folder");
}

}  // namespace
}  // namespace seigh
