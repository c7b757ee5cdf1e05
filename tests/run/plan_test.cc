#include "seigh/run/plan.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace seigh {
namespace {

using List = std::vector<int64_t>;

std::string in_words(const List& missing, const List& there) {
  std::string text;
  for (const Stretch& s : training_stretches(missing, there)) {
    text += s.from ? "from " + std::to_string(*s.from) + " to" : "to";
    for (const int64_t step : s.checkpoints) text.append(" ").append(std::to_string(step));
    text += "; ";
  }
  return text;
}

TEST(Plan, TrainingGoesOnFromCheckpointsAndMakesNoneAnew) {
  EXPECT_EQ(in_words({}, {0, 10}), "");
  EXPECT_EQ(in_words({0, 10, 20}, {}), "to 0 10 20; ");
  EXPECT_EQ(in_words({30, 40}, {0, 10, 20}), "from 20 to 30 40; ");
  EXPECT_EQ(in_words({0, 5}, {10}), "to 0 5; ");
  EXPECT_EQ(in_words({0, 5, 15, 16, 30}, {10, 20}), "to 0 5; from 10 to 15 16; from 20 to 30; ");
}

TEST(Plan, MethodOfWhatIsThere) {
  const auto method = [](const std::vector<std::string>& settings, Method made, int64_t step) {
    const Recipe r = parse_recipe("[train]\nsteps = 20\n[dense]\nsteps = [20]\n", "x.toml", settings);
    return method_there(r, [&](const Decomposition& d) { return d.method == made && d.step == step; });
  };
  EXPECT_EQ(method({}, Method::seigh, 0), Method::seigh);
  EXPECT_EQ(method({}, Method::seigh, 10), std::nullopt);  // not among its steps
  EXPECT_EQ(method({}, Method::dense, 0), Method::dense);
  EXPECT_EQ(method({}, Method::dense, 20), std::nullopt);  // beside another
  EXPECT_EQ(method({"eigh.method=hmt"}, Method::seigh, 0), Method::hmt);
}

TEST(Plan, DecompositionsInOrder) {
  const Recipe r = parse_recipe("[train]\nsteps = 20\n[dense]\nsteps = [20]\n", "x.toml");
  std::string text;
  for (const Decomposition& d : decompositions(r, Method::krylov))
    text += std::to_string(d.step) + " " + d.split + " " + to_string(d.method) +
            (d.exact_beside ? " beside; " : "; ");
  EXPECT_EQ(text,
            "0 train krylov; 0 test krylov; 20 train krylov; 20 train dense beside; 20 test krylov; 20 test "
            "dense beside; ");
  EXPECT_EQ(decompositions(r, Method::dense).size(), 4U);
}

}  // namespace
}  // namespace seigh
