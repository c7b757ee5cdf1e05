#include "seigh/recipe/recipe.h"

#include <gtest/gtest.h>

#include <sstream>

#include "seigh/core/filesystem.h"
#include "seigh/recipe/own_network.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

Recipe parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_recipe(text, "folder/thing.toml", overrides);
}

TEST(Recipe, DefaultsAndTheNameOfTheFile) {
  const Recipe r = parse("");
  EXPECT_EQ(r.name, "thing");
  EXPECT_EQ(r.eigh.products, 0);
  EXPECT_EQ(r.train.checkpoints, (std::vector<int64_t>{0, 1000}));
  EXPECT_EQ(r.curvature.steps, r.train.checkpoints);
}

TEST(Recipe, ANumberOfStepsMeansEveryNth) {
  const Recipe r = parse("[train]\nsteps = 250\ncheckpoints = 100\n[dense]\nsteps = [100]\n");
  EXPECT_EQ(r.train.checkpoints, (std::vector<int64_t>{0, 100, 200}));
  EXPECT_EQ(r.dense.steps, (std::vector<int64_t>{100}));
}

TEST(Recipe, LogarithmicCheckpoints) {
  const auto steps = [](const std::string& n) {
    return parse("[train]\ncheckpoints = \"log\"\nsteps = " + n).train.checkpoints;
  };
  EXPECT_EQ(steps("10"), (std::vector<int64_t>{0, 1, 2, 4, 8, 10}));
  EXPECT_EQ(steps("8"), (std::vector<int64_t>{0, 1, 2, 4, 8}));
  EXPECT_EQ(steps("1"), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(steps("0"), (std::vector<int64_t>{0}));
  EXPECT_EQ(steps("1000000000").size(), 32u);  // 0, 2^0 .. 2^29, 10^9
  EXPECT_EQ(parse("[train]\nsteps = 9\ncheckpoints = \"log\"\n[curvature]\nsteps = 4").curvature.steps,
            (std::vector<int64_t>{0, 4, 8}));
  // The last setting wins, whichever form it has.
  EXPECT_EQ(parse("[train]\nsteps = 9\ncheckpoints = 3\n", {"train.checkpoints=log"}).train.checkpoints,
            (std::vector<int64_t>{0, 1, 2, 4, 8, 9}));
  EXPECT_EQ(parse("[train]\nsteps = 9\ncheckpoints = \"log\"\n", {"train.checkpoints=[5]"}).train.checkpoints,
            (std::vector<int64_t>{5}));
  EXPECT_SEIGH_ERROR(parse("[train]\ncheckpoints = \"linear\"\n"), "thing.toml:2: train.checkpoints",
                     "or \"log\"");
  EXPECT_SEIGH_ERROR(parse("[train]\ncheckpoints = [\"log\", 100]\n"), "every element of train.checkpoints");
  EXPECT_SEIGH_ERROR(parse("[train]\ncheckpoints = \"log\"\ncheckpoints = 100\n"), "thing.toml:3:");
  EXPECT_SEIGH_ERROR(parse("[curvature]\nsteps = \"log\"\n"), "curvature.steps must be a list");
}

TEST(Recipe, DefaultsOfTheNetworkDependOnItsKind) {
  const auto network = [](const std::string& kind, const std::string& more = "") {
    const std::string data = kind == "transformer" ? "[data]\nname = \"text\"\n" : "";
    const Recipe r = parse(data + "[model]\nkind = \"" + kind + "\"\n" + more);
    EXPECT_TRUE(differences(r, parse_recipe(to_toml(r), "recipe.toml")).empty());
    return r.model;
  };
  using List = std::vector<int64_t>;
  EXPECT_EQ(network("mlp").hidden, (List{20, 20, 20, 20, 20}));
  EXPECT_EQ(network("mlp", "hidden = []").hidden, List{});
  EXPECT_EQ(network("3c3d").hidden, (List{512, 256}));
  EXPECT_EQ(network("3c3d", "hidden = [7, 5]").hidden, (List{7, 5}));
  EXPECT_EQ(network("3c3d").channels, (List{64, 96, 128}));
  EXPECT_EQ(network("all-cnn-c").channels, (List{96, 192}));
  EXPECT_EQ(network("resnet18").width, 64);
  EXPECT_EQ(network("vit").width, 128);
  EXPECT_EQ(network("vit").depth, 6);
  EXPECT_EQ(network("vit").mlp_ratio, 2);
  EXPECT_EQ(network("transformer").depth, 4);
  EXPECT_EQ(network("transformer", "depth = 2\nmlp_ratio = 3").depth, 2);
  EXPECT_EQ(network("transformer").mlp_ratio, 4);
}

TEST(Recipe, NetworksThatCannotBeAreRefused) {
  const auto refused = [](const std::string& setting, const std::string& says,
                          const std::string& kind = "3c3d") {
    EXPECT_SEIGH_ERROR(parse("", {"model.kind=" + kind, "model." + setting}), says);
  };
  refused("kind=perceptron", "\"vit\" or \"transformer\", not \"perceptron\"");
  refused("kind=transformer", "images take \"vit\"");
  EXPECT_SEIGH_ERROR(parse("", {"data.name=text"}), "must be \"transformer\" for text, not \"mlp\"");
  refused("hidden=[5]", "two widths, not 1");
  refused("channels=[5]", "three numbers, not 1");
  refused("channels=[5, 0, 5]", "every element of model.channels");
  refused("channels=[1, 2, 3]", "two numbers, not 3", "all-cnn-c");
  refused("blocks=[1]", "four numbers, not 1");
  refused("blocks=[1, 1, 1, 0]", "every element of model.blocks");
  for (const char* key : {"groups", "patch", "heads", "chosen"})
    refused(std::string(key) + "=0", std::string("model.") + key + " must lie between 1 and");
  for (const char* key : {"width", "depth", "mlp_ratio", "experts"}) {
    refused(std::string(key) + "=-1", std::string("model.") + key + " must lie between 0 and");
    refused(std::string(key) + "=9000000000000000000",
            std::string("model.") + key + " must be at most 1000000000");
  }
  EXPECT_SEIGH_ERROR(parse("", {"data.context=0"}), "data.context must lie between");
  EXPECT_SEIGH_ERROR(parse("", {"data.vocabulary=257"}), "data.vocabulary must lie between");
}

TEST(Recipe, TrainingThatCannotBeIsRefused) {
  const auto refused = [](const std::vector<std::string>& settings, const std::string& says) {
    EXPECT_SEIGH_ERROR(parse("", settings), says);
  };
  refused({"train.optimizer=adam"}, "\"sgd\" or \"adamw\", not \"adam\"");
  refused({"train.momentum=-0.1"}, "train.momentum must be at least 0");
  refused({"train.momentum=1"}, "train.momentum must be at least 0 and below 1");
  refused({"train.momentum=nan"}, "train.momentum");
  refused({"train.momentum=0.9", "train.optimizer=adamw"}, "belongs to sgd; adamw has train.betas");
  refused({"train.weight_decay=-1"}, "train.weight_decay must lie between 0 and");
  refused({"train.betas=[0.9]"}, "two numbers, not 1");
  refused({"train.betas=[0.9, 1.0]"}, "train.betas must be at least 0 and below 1");
  refused({"train.betas=0.9"}, "train.betas must be a list");
  refused({"train.epsilon=0"}, "train.epsilon must be positive");
  refused({"train.schedule=linear"}, "\"cosine\" or \"step\", not \"linear\"");
  refused({"train.warmup=-1"}, "train.warmup must not be negative");
  refused({"train.schedule=cosine", "train.warmup=1000"}, "leaves none of 1000 (train.steps) to the cosine");
  refused({"train.schedule=step"}, "need each other");
  refused({"train.milestones=[5]"}, "need each other");
  refused({"train.schedule=step", "train.milestones=[0]"}, "train.milestones must be at least 1");
  refused({"train.schedule=step", "train.milestones=[5]", "train.decay=-1"}, "train.decay must be positive");
  refused({"train.label_smoothing=1.5"}, "train.label_smoothing must lie between 0 and 1");
  refused({"train.label_smoothing=0.1", "train.loss=mean_squared_error"}, "belongs to cross_entropy");
  const Recipe r = parse("", {"train.optimizer=adamw", "train.betas=[0.9, 0.95]", "train.schedule=step",
                              "train.milestones=[900, 500]", "train.label_smoothing=0.1"});
  EXPECT_EQ(r.train.milestones, (std::vector<int64_t>{500, 900}));
  EXPECT_EQ(r.train.betas, (std::vector<double>{0.9, 0.95}));
  EXPECT_TRUE(differences(r, parse_recipe(to_toml(r), "recipe.toml")).empty());
}

TEST(Recipe, IsReadBackUnchanged) {
  const Recipe r = parse(
      "[train]\nsteps = 250\ncheckpoints = 50\nlearning_rate = 0.1\n[curvature]\nsteps = [0, "
      "50]\n[dense]\nsteps = 50\n",
      {"eigh.k=7", "curvature.splits=[\"test\"]"});
  const Recipe back = parse_recipe(to_toml(r), "recipe.toml");
  EXPECT_TRUE(differences(r, back).empty()) << differences(r, back)[0];
  EXPECT_EQ(back.name, "thing");
  EXPECT_EQ(back.train.learning_rate, 0.1);
}

TEST(Recipe, OverridesWinAndABareWordIsAString) {
  const Recipe r = parse("[eigh]\nk = 5\n", {"eigh.k=6", "data.name=fashion-mnist", "eigh.vectors=false"});
  EXPECT_EQ(r.eigh.k, 6);
  EXPECT_EQ(r.data.name, "fashion-mnist");
  EXPECT_FALSE(r.eigh.vectors);
  EXPECT_SEIGH_ERROR(parse("", {"eigh.k"}), "expected KEY=VALUE");
  EXPECT_SEIGH_ERROR(parse("", {"eigh.kk=3"}), "unknown key");
}

TEST(Recipe, UnknownKeysNameLineAndNearestKey) {
  EXPECT_SEIGH_ERROR(parse("\n[eigh]\nkk = 3\n"),
                     "folder/thing.toml:3: unknown key \"eigh.kk\"; the nearest known key is \"eigh.k\"");
  EXPECT_SEIGH_ERROR(parse("[training]\nsteps = 3\n"), "\"train.steps\"");
  EXPECT_SEIGH_ERROR(parse("learning_rate = 3\n"), "\"train.learning_rate\"");
}

TEST(Recipe, WrongTypesAndValuesAreRefused) {
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = \"many\"\n"), "thing.toml:2: eigh.k must be an integer");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = 2.5\n"), "eigh.k must be an integer");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nvectors = 1\n"), "true or false");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = 9\nproducts = 8\n"),
                     "eigh.products must be at least eigh.k: products = 8, k = 9");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = 0\n"), "eigh.k must be at least 1");
  EXPECT_SEIGH_ERROR(parse("[train]\nsteps = 10\ncheckpoints = [11]\n"), "outside 0..10");
  EXPECT_SEIGH_ERROR(parse("[curvature]\nsteps = [5]\n"), "not among train.checkpoints");
  EXPECT_SEIGH_ERROR(parse("[curvature]\nsplits = [\"tests\"]\n"), "\"tests\" is none of");
  EXPECT_EQ(parse("", {"curvature.products=stacked"}).curvature.products, "stacked");
  EXPECT_SEIGH_ERROR(parse("", {"model.kind=3c3d", "curvature.products=stacked"}),
                     "fully connected networks");
  EXPECT_SEIGH_ERROR(parse("", {"curvature.products=stacked", "curvature.precision=bf16"}), "full precision");
  EXPECT_SEIGH_ERROR(parse("[train]\ncheckpoints = 0\n"), "at least 1");
  EXPECT_SEIGH_ERROR(parse("[eigh\n"), "thing.toml:1:");
  EXPECT_SEIGH_ERROR(load_recipe("/nowhere/x.toml"), "/nowhere/x.toml");
}

TEST(Recipe, FilesOfOnesOwnStartAtTheRecipeAndThoseOfSetAtTheCurrentFolder) {
  const Recipe r = parse_recipe(
      "[model]\nmodule = \"net.pt\"\nweights = \"../w/{step:04}.safetensors\"\n[data]\nx = \"d.h5:in\"\n"
      "[train]\nloss = \"l.pt\"\ncheckpoints = [0, 70]\n",
      "/home/me/thing.toml", {"data.y=y.npy"});
  EXPECT_EQ(r.model.module, "/home/me/net.pt");
  EXPECT_EQ(r.train.loss, "/home/me/l.pt");
  EXPECT_EQ(r.data.x, "/home/me/d.h5:in");
  EXPECT_EQ(r.data.y, (fs::current_path() / "y.npy").string());
  EXPECT_EQ(weights_file(r, 70), "/home/w/0070.safetensors");
  EXPECT_EQ(r.train.steps, 70);
  EXPECT_EQ(r.curvature.splits, std::vector<std::string>{"train"});
  EXPECT_TRUE(brings_weights(r));
  const Recipe test = parse_recipe(to_toml(r), "/elsewhere/recipe.toml", {"data.test_x=t.h5"});
  EXPECT_EQ(test.data.test_x, (fs::current_path() / "t.h5").string());
  EXPECT_TRUE(differences(r, parse_recipe(to_toml(r), "/elsewhere/recipe.toml")).empty());

  const Recipe own = parse("[model]\nmodule = \"net.pt\"\n");
  EXPECT_EQ(own.train.checkpoints, std::vector<int64_t>{0});
  EXPECT_TRUE(brings_weights(own));
  EXPECT_EQ(own.curvature.splits.size(), 2U);  // a data set known by name
  EXPECT_FALSE(brings_weights(parse("[model]\nmodule = \"net.pt\"\n[train]\nsteps = 5\n")));
}

TEST(Recipe, DifferencesNameTheKey) {
  EXPECT_EQ(differences(parse("[eigh]\nk = 5\nproducts = 12"), parse("[eigh]\nk = 6\nproducts = 12")),
            std::vector<std::string>{"eigh.k: 5 / 6"});
}

TEST(Recipe, TheReferenceDescribesEveryKeyOfTheResolvedRecipe) {
  const std::string reference = recipe_reference();
  for (const char* key : {"data.name", "eigh.vectors", "overlap.random_masks", "seed"}) {
    EXPECT_NE(reference.find(key), std::string::npos) << key;
  }
}

TEST(Recipe, TheReferenceOfATableAWordAndAMeaning) {
  const auto keys = [](const std::string& word) {
    std::string found;
    std::istringstream lines(recipe_reference(word));
    for (std::string line; std::getline(lines, line);)
      if (!line.starts_with(" ")) found.append(found.empty() ? "" : " ").append(line, 0, line.find(' '));
    return found;
  };
  EXPECT_EQ(keys("dense"), "dense.steps");
  EXPECT_EQ(keys("steps"), "train.steps curvature.steps dense.steps prune.steps");
  EXPECT_EQ(keys("train").substr(0, 29), "train.steps train.batch_size ");  // not model.tied for its text
  EXPECT_EQ(keys("bfloat16"), "curvature.precision eigh.storage");
  EXPECT_EQ(keys("eigh.k"), "eigh.k eigh.keep_measurements");
  EXPECT_SEIGH_ERROR(recipe_reference("nonsense"), "no key has \"nonsense\"", "curvature, data, dense");
}

// Those of other kinds than this recipe's, whatever they are set to.
TEST(Recipe, ResultsBelongToNoDevice) {
  const Recipe here = parse(""), there = parse("device = \"cuda:1\"\n");
  EXPECT_EQ(here.device, "cpu");
  EXPECT_EQ(there.device, "cuda:1") << "whether this machine has it or not";
  EXPECT_TRUE(differences(here, there).empty());
  EXPECT_TRUE(differences(there, here).empty());
  EXPECT_EQ(differences(here, there, Stage::where), std::vector<std::string>{"device: 'cpu' / 'cuda:1'"});
  EXPECT_EQ(record(here, Stage::prune), record(there, Stage::prune));
  EXPECT_EQ(parse_recipe(to_toml(there), "recipe.toml").device, "cuda:1");
  EXPECT_SEIGH_ERROR(parse("device = \"\"\n"), "device must be a device's name");
  EXPECT_SEIGH_ERROR(parse("device = \"a/b\"\n"), "device must be a device's name");
}

TEST(Recipe, KeysThatCannotMatterAreLeftOut) {
  const auto written = [](const std::string& text, const std::vector<std::string>& overrides = {}) {
    const Recipe r = parse(text, overrides);
    const std::string toml = to_toml(r);
    const Recipe back = parse_recipe(toml, "/elsewhere/recipe.toml");
    EXPECT_TRUE(differences(r, back).empty()) << differences(r, back)[0];
    EXPECT_TRUE(differences(back, r).empty()) << differences(back, r)[0];
    EXPECT_EQ(to_toml(back), toml);
    std::string keys;  // of all tables but eigh
    std::istringstream lines(toml);
    for (std::string line; std::getline(lines, line) && line != "[eigh]";)
      if (!line.empty() && line[0] != '#' && line[0] != '[') keys.append(line, 0, line.find(' ')).append(" ");
    return keys;
  };
  const std::string curvature =
      "matrix parameters l2 splits samples subset steps batch_size products precision rescaled ";
  EXPECT_EQ(
      written("[model]\nmodule = \"net.pt\"\ngroups = 16\n[data]\nx = \"x.npy\"\ny = \"y.npy\"\n"
              "[train]\nbatch_size = 7\n"),
      "name seed device deterministic x y test_x module weights steps loss label_smoothing checkpoints " +
          curvature);
  EXPECT_EQ(written("[model]\nmodule = \"net.pt\"\n[data]\nimage_size = 9\n[train]\nsteps = 9\n"),
            "name seed device deterministic name image_size validation_samples label_noise module weights "
            "steps batch_size "
            "learning_rate "
            "optimizer momentum weight_decay schedule warmup loss label_smoothing checkpoints " +
                curvature);
  EXPECT_EQ(written("", {"data.name=text", "model.kind=transformer", "train.optimizer=adamw", "model.patch=9",
                         "curvature.matrix=mc_fisher"}),
            "name seed device deterministic name text context vocabulary kind width depth heads mlp_ratio "
            "tied experts steps "
            "batch_size learning_rate optimizer weight_decay betas epsilon schedule warmup loss "
            "label_smoothing checkpoints matrix parameters l2 draws splits samples subset steps batch_size "
            "products precision rescaled ");
  EXPECT_EQ(written("", {"data.name=cifar-10", "model.kind=3c3d", "train.schedule=step",
                         "train.milestones=[5]", "train.loss=mean_squared_error", "model.tied=false"}),
            "name seed device deterministic name validation_samples normalise label_noise kind hidden "
            "channels steps batch_size "
            "learning_rate optimizer momentum weight_decay schedule warmup milestones decay loss "
            "checkpoints " +
                curvature);
  written("", {"eigh.method=dense", "eigh.products=250", "eigh.warm_start=true"});
  written("", {"eigh.method=seigh", "eigh.storage=float16", "eigh.warm_start=true",
               "eigh.keep_measurements=true"});
  written("", {"eigh.method=krylov", "eigh.storage=float16", "eigh.tolerance=0.1"});
  written("", {"model.kind=resnet18", "model.norm=group", "model.groups=16", "model.heads=3"});
  written("", {"model.kind=vit", "model.groups=16", "model.hidden=[]", "data.text=other"});
}

TEST(Recipe, ARecordHoldsWhatDecidesAStage) {
  const Recipe r = parse("", {"eigh.k=7", "overlap.random_masks=9", "curvature.splits=[\"test\"]"});
  const std::string train = record(r, Stage::train), eigh = record(r, Stage::eigh);
  EXPECT_NE(train.find("\ntrain.learning_rate = "), std::string::npos);
  EXPECT_EQ(train.find("eigh."), std::string::npos);
  EXPECT_NE(eigh.find(train.substr(train.find("train.batch"))), std::string::npos);
  EXPECT_NE(eigh.find("eigh.k = 7\n"), std::string::npos);
  EXPECT_EQ(eigh.find("curvature.splits"), std::string::npos);
  EXPECT_TRUE(differences(read_record(eigh), r, Stage::eigh).empty());
  EXPECT_EQ(differences(read_record(eigh), r, Stage::overlap),
            std::vector<std::string>{"overlap.random_masks: 200 / 9"});
  EXPECT_TRUE(differences(read_record(record(r, Stage::overlap)), r, Stage::overlap).empty());
  EXPECT_SEIGH_ERROR(read_record("nonsense"), "record");
}

TEST(Recipe, WhatDecidesWhichStage) {
  const auto decides = [](const std::vector<std::string>& settings,
                          const std::vector<std::string>& basis = {}) {
    std::vector<std::string> all = basis;
    all.insert(all.end(), settings.begin(), settings.end());
    const Recipe a = parse("", basis), b = parse("", all);
    EXPECT_FALSE(differences(a, b).empty()) << settings[0];
    for (const Stage stage : {Stage::train, Stage::eigh, Stage::overlap})
      if (!differences(a, b, stage).empty()) return stage;
    return Stage::none;
  };
  EXPECT_EQ(decides({"seed=1"}), Stage::train);
  EXPECT_EQ(decides({"model.hidden=[9]"}), Stage::train);
  EXPECT_EQ(decides({"train.steps=2000", "train.checkpoints=[0,1000]"}), Stage::none);
  EXPECT_EQ(decides({"train.steps=2000"}, {"train.schedule=cosine"}), Stage::train);
  EXPECT_EQ(decides({"curvature.samples=9"}), Stage::eigh);
  EXPECT_EQ(decides({"eigh.k=9"}), Stage::eigh);
  EXPECT_EQ(decides({"eigh.block=9"}), Stage::eigh);
  EXPECT_EQ(decides({"eigh.block=9"}, {"eigh.method=seigh"}), Stage::none);
  EXPECT_EQ(decides({"overlap.random_masks=9"}), Stage::overlap);
  for (const char* setting :
       {"name=other", "train.checkpoints=10", "curvature.steps=[0]", "curvature.splits=[\"test\"]",
        "curvature.batch_size=9", "dense.steps=[0]", "eigh.keep_measurements=true"})
    EXPECT_EQ(decides({setting}), Stage::none) << setting;
}

}  // namespace
}  // namespace seigh
