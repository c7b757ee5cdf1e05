// A recipe: everything that defines an experiment, as a TOML file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/eigen/options.h"

namespace seigh {

/// Defaults are those of the struct; every key is described in recipe_reference().
struct Recipe {
  std::string name;
  int64_t seed = 12345;
  std::string device = "cpu";
  bool deterministic = false;

  struct Data {
    std::string name = "mnist";
    int64_t image_size = 28;
    int64_t validation_samples = 10'000;
    bool normalise = false;
    double label_noise = 0;
    std::string text = "tinyshakespeare";
    int64_t context = 64;
    int64_t vocabulary = 65;
    std::string x, y, test_x, test_y;
    std::string python;
  } data;

  struct Network {
    std::string kind = "mlp";
    std::vector<int64_t> hidden = {20, 20, 20, 20, 20};
    int64_t inputs = 0, outputs = 0;
    std::string activation = "tanh";
    std::string stem = "cifar";
    std::string norm = "batch";
    int64_t groups = 32;
    std::vector<int64_t> blocks = {2, 2, 2, 2};
    std::vector<int64_t> channels;
    int64_t patch = 4;
    int64_t width = 0;
    int64_t depth = 0;
    int64_t heads = 4;
    int64_t mlp_ratio = 0;
    bool tied = true;
    int64_t experts = 0;
    int64_t chosen = 2;
    std::string module, weights, python;
  } model;

  struct Training {
    int64_t steps = 1000;
    int64_t batch_size = 500;
    double learning_rate = 0.3;
    std::string optimizer = "sgd";
    double momentum = 0;
    double weight_decay = 0;
    std::vector<double> betas = {0.9, 0.999};
    double epsilon = 1e-8;
    std::string schedule = "constant";
    int64_t warmup = 0;
    std::vector<int64_t> milestones;
    double decay = 0.1;
    std::string loss = "cross_entropy";
    double label_smoothing = 0;
    std::vector<int64_t> checkpoints;
  } train;

  struct Curvature {
    std::string matrix = "hessian";
    std::vector<std::string> parameters;
    double l2 = 0;
    int64_t draws = 1;
    std::vector<std::string> splits = {"train", "test"};
    int64_t samples = 500;
    int64_t subset = 0;
    std::vector<int64_t> steps;
    int64_t batch_size = 0;
    std::string products = "auto";
    std::string precision = "float32";
    std::string rescaled = "none";
  } curvature;

  struct Eigh : SolverOptions {
    Eigh() { k = 100; }
    std::string dtype = "float32";
    bool vectors = true;
    bool warm_start = false;
    bool keep_measurements = false;
  } eigh;

  struct Dense {
    std::vector<int64_t> steps;
  } dense;

  struct Overlap {
    int64_t random_masks = 200;
    std::vector<std::string> parameters;
    std::vector<std::string> scores = {"magnitude"};
    std::vector<std::string> files;
  } overlap;

  struct Prune {
    std::vector<std::string> scores;
    std::vector<double> sparsities = {0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99};
    bool by_layer_controls = true;
    int64_t draws = 3;
    int64_t fine_tune = 0;
    std::vector<int64_t> steps;
  } prune;
};

/// Reads and resolves a recipe: defaults filled in, lists of steps expanded, values checked, and file names
/// made absolute: those in the recipe start at its folder. `overrides` are "KEY=VALUE" with dotted keys,
/// applied on top; their file names start at the current folder. Throws Error naming file, line and key; an
/// unknown key also gets the nearest known.
Recipe load_recipe(const fs::path& path, const std::vector<std::string>& overrides = {});
/// The same from TOML text; `origin` stands for the file in messages.
Recipe parse_recipe(const std::string& text, const std::string& origin,
                    const std::vector<std::string>& overrides = {});
/// The resolved recipe as TOML, every key that matters to it with its description: load_recipe reads the same
/// recipe from it.
std::string to_toml(const Recipe& recipe);
/// Keys with type, default and meaning: all of them, those of a table ("eigh"), or those that have `word` in
/// their name or else in their meaning. Throws Error when there are none.
std::string recipe_reference(const std::string& word = "");

/// The stages that compute something, each from the results of those before it; beside them what chooses
/// among results (none) and what only says where they are computed.
enum class Stage { train, eigh, overlap, prune, none, where };
/// The keys in which two resolved recipes differ, as "eigh.k: 355 / 100": of those that decide the results of
/// the stages up to `stage`, or, none, of all but those that say where. Those that do not matter to `b` are
/// not looked at: what makes them matter to `a` is a difference, too.
std::vector<std::string> differences(const Recipe& a, const Recipe& b, Stage stage = Stage::none);
/// The keys that decide the results of the stages up to `stage`, a line of TOML each: what a result says of
/// the recipe it was made by.
std::string record(const Recipe& recipe, Stage stage);
/// The recipe that a record speaks of, other keys at their defaults, so that a record serves when there are
/// more keys than in its time. Throws Error on what is no record.
Recipe read_record(const std::string& text);

}  // namespace seigh
