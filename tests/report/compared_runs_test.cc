#include "seigh/report/compared_runs.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/expect_error.h"

namespace seigh {
namespace {

using nlohmann::json;

PageRun run(const std::string& folder, const std::string& name, uint64_t seed, int64_t subset,
            double learning_rate = 0.1) {
  PageRun run{folder, {}, R"({"decompositions": [{"overlap": {}}]})"};
  run.recipe.name = name;
  run.recipe.seed = seed;
  run.recipe.curvature.subset = subset;
  run.recipe.train.learning_rate = learning_rate;
  return run;
}

TEST(ComparedRuns, SeedsAndSubsetsAreOneGroup) {
  const json data = json::parse(compared_runs(
      {run("a", "study: base, seed 1, subset 0", 1, 0), run("b", "study: fast, seed 1, subset 0", 1, 0, 0.5),
       run("c", "study: base, seed 1, subset 1", 1, 1), run("d", "study: base, seed 2, subset 0", 2, 0)}));
  ASSERT_EQ(data["groups"].size(), 2);
  EXPECT_EQ(data["groups"][0]["name"], "base");
  EXPECT_EQ(data["groups"][0]["runs"], json({0, 2, 3}));
  EXPECT_EQ(data["groups"][1]["runs"], json({1}));
  ASSERT_EQ(data["groups"][1]["differs"].size(), 1);
  EXPECT_EQ(data["headline"][0], "base: seeds 1, 2, subsets 0, 1");
  EXPECT_EQ(data["headline"][1].get<std::string>().substr(0, 13), "fast: seed 1;");
  EXPECT_EQ(data["runs"][2]["seed"], 1);
  EXPECT_EQ(data["runs"][2]["subset"], 1);
  EXPECT_EQ(page_title({run("a", "study: base, seed 1", 1, 0), run("b", "study: base, seed 2", 2, 0)}),
            "study, 2 runs");
}

TEST(ComparedRuns, TheSameRunTwiceIsRefused) {
  EXPECT_SEIGH_ERROR(compared_runs({run("a", "x", 1, 2), run("b", "x", 1, 2)}),
                     "one seed on the same samples");
  PageRun bare = run("a", "x", 1, 0);
  bare.data = R"({"decompositions": []})";
  EXPECT_SEIGH_ERROR(compared_runs({bare, run("b", "x", 2, 0)}), "no overlap curves");
}

}  // namespace
}  // namespace seigh
