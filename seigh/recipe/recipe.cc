#include "seigh/recipe/recipe.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/curvature/curvature.h"
#include "seigh/eigen/eigh.h"
#include "seigh/io/file.h"
#include "seigh/io/limits.h"
#include "seigh/nn/zoo.h"
#include "seigh/overlap/scores.h"
#include "seigh/recipe/sweep.h"
#include "seigh/recipe/synthetic.h"
#include "seigh/recipe/toml_source.h"

namespace seigh {
namespace {

// What a key is to a recipe: the first stage whose results it decides, none for one that only chooses among
// them or says how to get them, where for one that they do not know of; and whether it matters to this recipe
// at all.
struct Use {
  Stage stage;
  bool matters = true;
};

// The one list of keys: reading, writing, comparing and documenting a recipe all walk it.
template <typename R, typename Visitor>
void for_each_key(R& r, Visitor&& visit) {
  const bool python = !r.model.python.empty(), own_files = !r.data.x.empty(), own_data = own_files || python,
             ours = r.model.module.empty() && !python;
  const std::string data = own_data ? "" : r.data.name;
  const bool text = data == "text", images = !own_data && !text;
  const bool digits = images && data != "cifar-10";
  const auto kind = [&](std::initializer_list<const char*> kinds) {
    return ours && std::find(kinds.begin(), kinds.end(), r.model.kind) != kinds.end();
  };
  const bool trained = ours || (!python && r.model.weights.empty() && r.train.steps != 0);
  // Fine-tuning takes them, too.
  const bool tuned = !python && !r.prune.scores.empty() && r.prune.fine_tune > 0;
  const Use training{trained ? Stage::train : Stage::prune, trained || tuned};
  const bool adamw = r.train.optimizer == "adamw", by_steps = r.train.schedule == "step";
  const auto method = [&](std::initializer_list<Method> these) {  // may it be one of them?
    return r.eigh.method == Method::automatic ||
           std::find(these.begin(), these.end(), r.eigh.method) != these.end();
  };
  const bool exact = r.eigh.method == Method::dense;
  visit("name", r.name, {Stage::none},
        "Name of the experiment; default: the file's name. Names the run folder.");
  visit("seed", r.seed, {trained ? Stage::train : Stage::eigh},
        "Seed of everything random: initial parameters, order of samples, test matrices, random masks.");
  visit(
      "device", r.device, {Stage::where, !python},
      "Where training, products and accuracies are computed: \"cpu\", \"cuda\", \"cuda:1\" or what else "
      "libtorch has; --device overrides it. Results belong to no device: a run may be continued on another.");
  visit("deterministic", r.deterministic, {Stage::where},
        "Whether libtorch takes deterministic algorithms alone, slower ones on a GPU: then training and "
        "products give the same bits whenever they are repeated there, products with the same mini-batch "
        "(curvature.batch_size) and block. Operations that have none end the run.");
  visit("data.name", r.data.name, {Stage::train, !own_data},
        "Data set: \"mnist\", \"fashion-mnist\", \"cifar-10\" or \"text\".");
  visit("data.image_size", r.data.image_size, {Stage::train, digits},
        "Side of MNIST images in pixels after an antialiased bilinear resize; CIFAR-10 stays at 32.");
  visit("data.validation_samples", r.data.validation_samples, {Stage::train, images},
        "The last this many training images are held out.");
  visit("data.normalise", r.data.normalise, {Stage::train, data == "cifar-10"},
        "CIFAR-10 only: each colour channel to mean 0 and standard deviation 1 over the training images.");
  visit("data.label_noise", r.data.label_noise, {Stage::train, images},
        "Share of the training labels, drawn at random, that are replaced by another class drawn at random.");
  visit("data.text", r.data.text, {Stage::train, text},
        "Of text: the name of its file without \".txt\"; a token is one byte, the last tenth is the test "
        "part.");
  visit("data.context", r.data.context, {Stage::train, text},
        "Of text: tokens of a sequence, which is one sample.");
  visit("data.vocabulary", r.data.vocabulary, {Stage::train, text},
        "Of text: how many different characters the file has.");
  visit("data.x", r.data.x, {Stage::train, own_files},
        "Inputs from a file instead: .npy, or a tensor of a .safetensors, .h5 or .hdf5 file as \"FILE\" "
        "(tensor x) or \"FILE:NAME\".");
  visit("data.y", r.data.y, {Stage::train, own_files},
        "Their targets, in the same way; default: tensor y of the file of data.x. Classes as integers, or "
        "numbers for mean_squared_error, binary_cross_entropy and losses of your own.");
  visit("data.test_x", r.data.test_x, {Stage::train, own_files},
        "Inputs of their test part, in the same way, for the accuracy and curvature.splits; default: there "
        "is none, and "
        "the accuracy is that on the training data.");
  visit("data.test_y", r.data.test_y, {Stage::train, own_files && !r.data.test_x.empty()},
        "Its targets; default: tensor y of the file of data.test_x.");
  visit(
      "data.python", r.data.python, {Stage::train, python},
      "Of model.python: FILE:FUNCTION in Python; FUNCTION(split) gives the data of \"train\" or \"test\" as "
      "seigh.Hessian takes them (docs/python.md).");
  visit("model.kind", r.model.kind, {Stage::train, ours},
        "Network: \"mlp\" (fully connected), \"3c3d\", \"all-cnn-c\", \"resnet18\" or \"vit\"; of text: "
        "\"transformer\".");
  visit(
      "model.hidden", r.model.hidden, {Stage::train, kind({"mlp", "3c3d"})},
      "Widths of the hidden layers of mlp; input and output follow from the data. Of 3c3d: of its two hidden "
      "linear layers; default [512, 256].");
  visit("model.inputs", r.model.inputs, {Stage::train, ours && own_files},
        "Of mlp on data.x: numbers of a sample, which is flattened.");
  visit("model.outputs", r.model.outputs, {Stage::train, ours && own_files},
        "Of mlp on data.x: classes, or numbers of a target.");
  visit("model.activation", r.model.activation, {Stage::train, kind({"mlp"})},
        "Of mlp: \"tanh\", \"relu\" or \"gelu\".");
  visit("model.stem", r.model.stem, {Stage::train, kind({"resnet18"})},
        "First layers of resnet18: \"cifar\" (3 x 3, full resolution) or \"imagenet\" (7 x 7, a quarter of "
        "it).");
  visit("model.norm", r.model.norm, {Stage::train, kind({"resnet18"})},
        "Normalisation of resnet18: \"batch\" (evaluation mode for curvature), \"group\" or \"none\".");
  visit("model.groups", r.model.groups, {Stage::train, kind({"resnet18"}) && r.model.norm == "group"},
        "Groups of resnet18's group norm; a divisor of model.width.");
  visit("model.blocks", r.model.blocks, {Stage::train, kind({"resnet18"})},
        "Blocks of the four stages of resnet18; [3, 4, 6, 3] makes it a ResNet-34.");
  visit("model.channels", r.model.channels, {Stage::train, kind({"3c3d", "all-cnn-c"})},
        "Of 3c3d: channels of its three convolutions; of all-cnn-c: of convolutions 1 to 3 and 4 to 8. "
        "Default: the published ones.");
  visit("model.patch", r.model.patch, {Stage::train, kind({"vit"})},
        "Side in pixels of the patches of vit; a divisor of the image's side.");
  visit(
      "model.width", r.model.width, {Stage::train, kind({"resnet18", "vit", "transformer"})},
      "Of vit and transformer: numbers per token; of resnet18: channels of its first stage. 0: 128 and 64.");
  visit("model.depth", r.model.depth, {Stage::train, kind({"vit", "transformer"})},
        "Blocks of vit and transformer; 0: 6 and 4.");
  visit("model.heads", r.model.heads, {Stage::train, kind({"vit", "transformer"})},
        "Attention heads of vit and transformer; a divisor of model.width.");
  visit("model.mlp_ratio", r.model.mlp_ratio, {Stage::train, kind({"vit", "transformer"})},
        "Width of the feed-forward layers of vit and transformer over model.width; 0: 2 and 4.");
  visit("model.tied", r.model.tied, {Stage::train, kind({"transformer"})},
        "Of transformer: the output layer is the token embedding.");
  visit("model.experts", r.model.experts, {Stage::train, kind({"transformer"})},
        "Of transformer: feed-forward networks in each block to choose from; 0: one, without a gate.");
  visit("model.chosen", r.model.chosen, {Stage::train, kind({"transformer"}) && r.model.experts > 0},
        "Of transformer with experts: how many each token gets, 1 or 2.");
  visit("model.python", r.model.python, {Stage::train, python},
        "A network of your own in Python: FILE:FUNCTION, which gives a torch.nn.Module in evaluation mode; "
        "for the seigh of "
        "the Python package. Runs that code. With data.python, and model.weights for its parameters.");
  visit("model.module", r.model.module, {Stage::train, !ours && !python},
        "A network of your own instead: a TorchScript file (docs/your-network.md). Without model.weights, it "
        "starts from its own parameters, with 0 training steps by default.");
  visit("model.weights", r.model.weights, {Stage::train, !ours},
        "Its parameters at the steps train.checkpoints, instead of training: safetensors files, "
        "\"weights/{step}.safetensors\" or {step:06} for six digits; of model.python also files of "
        "torch.save().");
  visit("train.steps", r.train.steps, {trained && r.train.schedule == "cosine" ? Stage::train : Stage::none},
        "Steps of the optimizer.");
  visit("train.batch_size", r.train.batch_size, training, "Samples per step.");
  visit("train.learning_rate", r.train.learning_rate, training, "Step size, which train.schedule may lower.");
  visit("train.optimizer", r.train.optimizer, training,
        "\"sgd\" (stochastic gradient descent) or \"adamw\", as PyTorch defines them.");
  visit("train.momentum", r.train.momentum, {training.stage, training.matters && !adamw},
        "Of sgd, at least 0 and below 1.");
  visit(
      "train.weight_decay", r.train.weight_decay, training,
      "w: sgd adds w times the parameters to the gradient, adamw shrinks them by w times the step size. Not "
      "part of the loss whose curvature is taken.");
  visit("train.betas", r.train.betas, {training.stage, training.matters && adamw},
        "Of adamw: decay of the means of the gradient and of its square.");
  visit("train.epsilon", r.train.epsilon, {training.stage, training.matters && adamw},
        "Of adamw: added to the root of the mean square.");
  visit(
      "train.schedule", r.train.schedule, {Stage::train, trained},
      "Step size over time: \"constant\", \"cosine\" (to zero at train.steps) or \"step\" (times train.decay "
      "after each of train.milestones).");
  visit("train.warmup", r.train.warmup, {Stage::train, trained},
        "First steps, over which the step size grows linearly.");
  visit("train.milestones", r.train.milestones, {Stage::train, trained && by_steps},
        "Of the schedule step: after which steps.");
  visit("train.decay", r.train.decay, {Stage::train, trained && by_steps},
        "Of the schedule step: the factor.");
  visit("train.loss", r.train.loss, {Stage::train},
        "\"cross_entropy\", \"mean_squared_error\" or \"binary_cross_entropy\" (of each output), mean over "
        "samples "
        "(of text: over all their tokens), or a "
        "TorchScript file, \"loss.pt\"; also the loss whose curvature is taken.");
  visit("train.label_smoothing", r.train.label_smoothing, {Stage::train, r.train.loss == "cross_entropy"},
        "s of cross_entropy, 0 to 1: the target is 1 - s of the label and s of all classes alike.");
  visit("train.checkpoints", r.train.checkpoints, {Stage::none},
        "Steps at which the parameters are kept: a list, a number n for every n-th from 0, or \"log\" for 0, "
        "1, 2, 4, 8 and so on and the last. Default: 0 and the last.");
  visit("curvature.matrix", r.curvature.matrix, {Stage::eigh},
        "Curvature matrix: \"hessian\", \"ggn\" (generalised Gauss-Newton), \"empirical_fisher\" (outer "
        "products of "
        "the gradients of single targets) or \"mc_fisher\" (the same at targets drawn from the network's "
        "outputs).");
  visit("curvature.parameters", r.curvature.parameters, {Stage::eigh},
        "Which parameters the matrix is over, the others staying fixed: names of tensors or layers, "
        "wildcards * ? [] "
        "allowed: [\"conv1\", \"*.bias\"]. Default: all.");
  visit("curvature.l2", r.curvature.l2, {Stage::eigh},
        "Adds l2/2 times the squared norm of those parameters to the loss.");
  visit("curvature.draws", r.curvature.draws, {Stage::eigh, r.curvature.matrix == "mc_fisher"},
        "Of mc_fisher: targets drawn for each target.");
  visit("curvature.splits", r.curvature.splits, {Stage::none},
        "Data the curvature is taken on: \"train\", \"validation\", \"test\". Default: \"train\" and, where "
        "there is one, \"test\".");
  visit("curvature.samples", r.curvature.samples, {Stage::eigh},
        "Samples of each split: the first ones of each class, equally many of each; of text, and where "
        "data.x has no classes or too few of one, simply the first ones; of data.python the first ones, by "
        "default as many as every split has.");
  visit("curvature.subset", r.curvature.subset, {Stage::eigh, !python},
        "Which samples of each split: 0: those first ones; n: as many others, those after what subsets 0 to "
        "n - 1 "
        "take.");
  visit("curvature.steps", r.curvature.steps, {Stage::none},
        "Checkpoints to decompose: a list, or a number n for every n-th. Default: all.");
  visit(
      "curvature.batch_size", r.curvature.batch_size, {Stage::none},
      "Samples whose activations are in memory at once; 0: chosen from the memory ceiling and the threads.");
  visit(
      "curvature.products", r.curvature.products, {Stage::eigh},
      "Products by \"autograd\" (second derivatives; of its ways \"graph\", \"batched\" or, of fully "
      "connected networks, "
      "\"stacked\"), or \"difference\" (central differences of the gradient "
      "in float64, two gradients each); \"auto\": differences where second derivatives are missing or found "
      "wrong.");
  visit(
      "curvature.precision", r.curvature.precision, {Stage::eigh},
      "\"float32\", or faster: on a CUDA device \"tf32\" (operands of convolutions and matrix products to 11 "
      "bits, wrong by 1 to 3 %), there or on the CPU \"bf16\" (in bfloat16, 8 bits, wrong by several %). "
      "Eigenpairs found with it are refined and certified by products in float32, k more.");
  visit(
      "curvature.rescaled", r.curvature.rescaled, {Stage::eigh},
      "\"balanced\": hidden units of ReLU networks (mlp, 3c3d, all-cnn-c) are rescaled, each checkpoint's by "
      "themselves, to equal incoming (with the bias) and outgoing norms before matrix, scores and masks are "
      "taken; the function stays the same. \"none\": as trained.");
  visit("eigh.method", r.eigh.method, {Stage::eigh},
        "Eigensolver: \"krylov\" (the most accurate for its products), \"seigh\", \"nystrom\" (independent "
        "products), "
        "\"hmt\", \"dense\" (exact), or \"auto\": dense where the matrix is small, else krylov.");
  visit("eigh.k", r.eigh.k, {Stage::eigh}, "Eigenpairs wanted; with eigh.error the most that may be needed.");
  visit("eigh.products", r.eigh.products, {Stage::eigh, !exact},
        "Matrix-vector products to spend, at least k (hmt: 2 k); 0: 2 k, krylov's until residuals, and what "
        "may "
        "have been missed, are below 1e-3 |lambda_1| or 2 k or 20 blocks are spent; with a tolerance or "
        "error at "
        "most 20 k.");
  visit(
      "eigh.tolerance", r.eigh.tolerance, {Stage::eigh, method({Method::krylov}) || r.eigh.tolerance > 0},
      "krylov stops when the residuals |Hu - lambda u|, and what may have been missed, are below this times "
      "|lambda_1|; 0: the products decide.");
  visit("eigh.error", r.eigh.error, {Stage::eigh, method({Method::krylov}) || r.eigh.error > 0},
        "krylov takes as few pairs as bring the estimated error below this times the norm of the matrix "
        "(Frobenius); 0: k pairs.");
  visit(
      "eigh.selection", r.eigh.selection, {Stage::eigh},
      "Which pairs: \"magnitude\", \"positive\" (the largest), \"negative\" (the lowest) or \"both\" ends.");
  visit("eigh.probes", r.eigh.probes, {Stage::eigh, !exact},
        "Further products that estimate the error; 0: none, no certificate.");
  visit("eigh.checks", r.eigh.checks, {Stage::eigh, method({Method::krylov})},
        "krylov: further products that bound what was not found, whenever it might end; 0: none, and hardly "
        "any pair "
        "is certified.");
  visit("eigh.dtype", r.eigh.dtype, {Stage::eigh, !exact}, "\"float32\" or \"float64\".");
  visit("eigh.block", r.eigh.block, {method({Method::krylov}) ? Stage::eigh : Stage::none, !exact},
        "Vectors per product; 0: chosen.");
  visit("eigh.vectors", r.eigh.vectors, {Stage::eigh},
        "Keep the eigenvectors on disk (D k numbers each); masks can then be studied later.");
  visit("eigh.warm_start", r.eigh.warm_start, {Stage::eigh, method({Method::krylov})},
        "krylov starts from the eigenvectors of the recorded step before, when they are at hand.");
  visit("eigh.test_matrix", r.eigh.test_matrix, {Stage::eigh, method({Method::seigh, Method::nystrom})},
        "What seigh and nystrom measure with: \"ssrft\", \"sparse\" (random signs, cheaper where there are "
        "millions of "
        "parameters), or \"auto\": sparse from 2 million parameters on.");
  visit("eigh.storage", r.eigh.storage, {Stage::eigh, method({Method::seigh})},
        "Of seigh's measurements on disk: \"full\", or two bytes a number: \"float16\", 11 bits, "
        "\"bfloat16\", 8.");
  visit("eigh.keep_measurements", r.eigh.keep_measurements, {Stage::none, method({Method::seigh})},
        "Keep seigh's measurements in partial/ when the decomposition is done (4 D k bytes).");
  visit("dense.steps", r.dense.steps, {Stage::none},
        "Steps at which the exact dense decomposition (float64, 4 D^2 numbers) is computed beside the "
        "sketch; a list, or n for every n-th.");
  visit(
      "overlap.random_masks", r.overlap.random_masks, {Stage::overlap},
      "Random masks that simultaneous bands and the two-way null are estimated from (of the latter at least "
      "200).");
  visit("overlap.parameters", r.overlap.parameters, {Stage::overlap},
        "Which parameters masks may hold, names or patterns as of curvature.parameters: [\"*.weight\"]. "
        "Default: all that the matrix is over; where there are scales of norms among them, results without "
        "norms and biases stand beside.");
  visit("overlap.scores", r.overlap.scores, {Stage::overlap},
        "What masks are the largest parameters by: \"magnitude\", \"scaled_magnitude\" (over its tensor's "
        "standard deviation), \"gradient\", \"snip\", \"movement\", \"initial\", \"fisher\", \"obd\", "
        "\"leverage\", \"curvature_leverage\", \"random\", \"random_by_layer\"; with \"layerwise_\" before "
        "them by rank within the tensor. The first is the headline.");
  visit(
      "overlap.files", r.overlap.files, {Stage::overlap},
      "Masks or scores from files beside them: .npy, a number for each parameter, or .safetensors, a tensor "
      "for each by its name.");
  const bool prunes = !r.prune.scores.empty();
  visit(
      "prune.scores", r.prune.scores, {Stage::none},
      "Scores, as of overlap.scores, whose last parameters are set to zero, to see what that costs in test "
      "accuracy; none: no pruning. What may be pruned: overlap.parameters; without it all that the matrix is "
      "over, or, where there are scales of norms among that, its weights alone.");
  visit("prune.sparsities", r.prune.sparsities, {Stage::none, prunes}, "Shares of them that are.");
  visit("prune.by_layer_controls", r.prune.by_layer_controls, {Stage::none, prunes},
        "Beside every score random masks that keep as many of each tensor.");
  visit("prune.draws", r.prune.draws, {Stage::none, prunes}, "How many, and of random scores.");
  visit("prune.fine_tune", r.prune.fine_tune, {Stage::prune, prunes},
        "Steps of fine-tuning of each pruned network, by train.optimizer at train.learning_rate without the "
        "schedule, from the optimizer's beginning; what is pruned stays zero.");
  visit("prune.steps", r.prune.steps, {Stage::none, prunes},
        "Checkpoints to prune, of those decomposed: a list, or n for every n-th. Default: the last.");
}

int64_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<int64_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), int64_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    int64_t diagonal = row[0];
    row[0] = static_cast<int64_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::string nearest_key(const std::string& key) {
  Recipe recipe;
  std::string best;
  int64_t distance = 0;
  // A misspelt key in the right table, or the right key in the wrong table, whichever is nearer.
  const std::string leaf = key.substr(key.rfind('.') + 1);
  for_each_key(recipe, [&](const std::string& known, auto&, Use, const char*) {
    const int64_t d =
        std::min(edit_distance(key, known), edit_distance(leaf, known.substr(known.rfind('.') + 1)) + 1);
    if (best.empty() || d < distance) {
      best = known;
      distance = d;
    }
  });
  return best;
}

// "a, b, c"
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

// A table that holds nothing is no key, but its name may still be misspelt.
const std::set<std::string> kTables = [] {
  std::set<std::string> tables;
  const Recipe recipe;
  for_each_key(recipe, [&](const std::string& key, const auto&, Use, const char*) {
    if (const size_t dot = key.find('.'); dot != std::string::npos) tables.insert(key.substr(0, dot));
  });
  return tables;
}();

template <typename T>
T scalar(const toml::node& node, const std::string& where, const std::string& key, const char* type) {
  const auto value = node.value<T>();
  require(value.has_value() && (!std::is_same_v<T, bool> || node.is_boolean()), where, ": ", key, " must be ",
          type);
  return *value;
}

// What `parse` makes of a name; its complaint gets place and key.
template <typename Parse>
auto parsed(const std::string& name, const std::string& where, const std::string& key, const Parse& parse) {
  try {
    return parse(name);
  } catch (const Error& error) {
    fail(where, ": ", key, ": ", error.what());
  }
}

void read_value(const toml::node& node, const std::string& where, const std::string& key, std::string& out) {
  out = scalar<std::string>(node, where, key, "a string");
}
void read_value(const toml::node& node, const std::string& where, const std::string& key, bool& out) {
  out = scalar<bool>(node, where, key, "true or false");
}
void read_value(const toml::node& node, const std::string& where, const std::string& key, Method& out) {
  out = parsed(scalar<std::string>(node, where, key, "a string"), where, key, parse_method);
}
void read_value(const toml::node& node, const std::string& where, const std::string& key, Selection& out) {
  out = parsed(scalar<std::string>(node, where, key, "a string"), where, key, parse_selection);
}
void read_value(const toml::node& node, const std::string& where, const std::string& key, int64_t& out) {
  require(node.is_integer(), where, ": ", key, " must be an integer");
  out = *node.value<int64_t>();
  // What is asked for is multiplied by sizes of a network later.
  constexpr int64_t kMost = 1'000'000'000;
  require(key == "seed" || (-kMost <= out && out <= kMost), where, ": ", key, " must be at most ", kMost,
          ", not ", out);
}
void read_value(const toml::node& node, const std::string& where, const std::string& key, double& out) {
  require(node.is_number(), where, ": ", key, " must be a number");
  out = *node.value<double>();
}
template <typename T>
void read_value(const toml::node& node, const std::string& where, const std::string& key,
                std::vector<T>& out) {
  const toml::array* array = node.as_array();
  require(array != nullptr, where, ": ", key, " must be a list");
  out.clear();
  for (const toml::node& element : *array)
    read_value(element, where, "every element of " + key, out.emplace_back());
}

std::string literal(const std::string& value) {
  std::ostringstream out;
  out << toml::value<std::string>(value);
  return out.str();
}
std::string literal(Method value) {
  return literal(to_string(value));
}
std::string literal(Selection value) {
  return literal(to_string(value));
}
std::string literal(bool value) {
  return value ? "true" : "false";
}
std::string literal(int64_t value) {
  return std::to_string(value);
}
std::string literal(double value) {
  std::ostringstream out;
  out << toml::value<double>(value);
  return out.str();
}
template <typename T>
std::string literal(const std::vector<T>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text.append(", ");
    text.append(literal(values[i]));
  }
  return text.append("]");
}

const char* type_name(const std::string&) {
  return "string";
}
const char* type_name(Method) {
  return "string";
}
const char* type_name(Selection) {
  return "string";
}
const char* type_name(bool) {
  return "bool";
}
const char* type_name(int64_t) {
  return "integer";
}
const char* type_name(double) {
  return "number";
}
const char* type_name(const std::vector<int64_t>&) {
  return "integers";
}
const char* type_name(const std::vector<double>&) {
  return "numbers";
}
const char* type_name(const std::vector<std::string>&) {
  return "strings";
}

// A list of steps may be written as one number n: the possible steps that n divides.
const std::set<std::string> kStepKeys = {"train.checkpoints", "curvature.steps", "dense.steps",
                                         "prune.steps"};

using Intervals = std::map<std::string, std::pair<int64_t, std::string>>;  // key -> n and where it stands
constexpr int64_t kLogarithmic = 0;                                        // as n, of train.checkpoints

std::vector<int64_t> every(int64_t n, int64_t last, const std::string& where) {
  require(last / n < 100'000, where, ": every ", n, " steps of ", last,
          " are too many; take a larger number");
  std::vector<int64_t> steps;
  for (int64_t step = 0; step <= last; step += n) steps.push_back(step);
  return steps;
}

std::vector<int64_t> powers_of_two(int64_t last) {
  std::vector<int64_t> steps = {0};
  for (int64_t step = 1; step < last; step *= 2) steps.push_back(step);
  steps.push_back(last);
  return steps;
}

void sort_unique(std::vector<int64_t>& steps) {
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
}

// Defaults that depend on the kind of network, and limits that keep the size of one from overflowing; whether
// the sizes make a network is for the network to say.
void resolve_model(Recipe& r, const std::string& origin, bool hidden_given) {
  Recipe::Network& m = r.model;
  const auto check = [&](bool condition, const auto&... message) {
    require(condition, origin, ": ", message...);
  };
  const auto within = [&](const char* key, int64_t value, int64_t least, int64_t most) {
    check(least <= value && value <= most, key, " must lie between ", least, " and ", most, ", not ", value);
  };
  if (!m.module.empty() || !m.python.empty()) return;  // its sizes are its own
  const std::vector<std::string>& kinds = model_kinds();
  check(
      std::find(kinds.begin(), kinds.end(), m.kind) != kinds.end(),
      "model.kind must be \"mlp\", \"3c3d\", \"all-cnn-c\", \"resnet18\", \"vit\" or \"transformer\", not \"",
      m.kind, "\"");
  check(r.data.name != "text" || m.kind == "transformer",
        "model.kind must be \"transformer\" for text, not \"", m.kind, "\"");
  check(r.data.name == "text" || m.kind != "transformer",
        "model.kind = \"transformer\" is for data.name = \"text\"; images take \"vit\"");
  if (m.kind == "3c3d" && !hidden_given) m.hidden = {512, 256};
  check(m.kind != "3c3d" || m.hidden.size() == 2, "model.hidden of 3c3d must be two widths, not ",
        m.hidden.size());
  constexpr size_t kMostLayers = 1000;
  check(m.hidden.size() <= kMostLayers, "model.hidden has ", m.hidden.size(), " layers; at most ",
        kMostLayers, " are possible");
  for (const int64_t width : m.hidden)
    check(1 <= width && width <= 1'000'000, "model.hidden: a width of ", width, " is not possible");
  if (m.channels.empty() && m.kind == "3c3d") m.channels = {64, 96, 128};
  if (m.channels.empty() && m.kind == "all-cnn-c") m.channels = {96, 192};
  check(m.kind != "3c3d" || m.channels.size() == 3, "model.channels of 3c3d must be three numbers, not ",
        m.channels.size());
  check(m.kind != "all-cnn-c" || m.channels.size() == 2,
        "model.channels of all-cnn-c must be two numbers, not ", m.channels.size());
  for (const int64_t channels : m.channels) within("every element of model.channels", channels, 1, 65'536);
  check(m.blocks.size() == 4, "model.blocks must be four numbers, not ", m.blocks.size());
  for (const int64_t blocks : m.blocks) within("every element of model.blocks", blocks, 1, 1024);
  const bool vit = m.kind == "vit", transformer = m.kind == "transformer";
  if (m.width == 0 && (vit || transformer)) m.width = 128;
  if (m.width == 0 && m.kind == "resnet18") m.width = 64;
  if (m.depth == 0 && (vit || transformer)) m.depth = vit ? 6 : 4;
  if (m.mlp_ratio == 0 && (vit || transformer)) m.mlp_ratio = vit ? 2 : 4;
  within("model.groups", m.groups, 1, 65'536);
  within("model.patch", m.patch, 1, 1024);
  within("model.width", m.width, 0, 65'536);
  within("model.depth", m.depth, 0, 1024);
  within("model.heads", m.heads, 1, 65'536);
  within("model.mlp_ratio", m.mlp_ratio, 0, 64);
  within("model.experts", m.experts, 0, 1024);
  within("model.chosen", m.chosen, 1, 2);
}

void resolve_training(Recipe::Training& t, const std::string& origin) {
  const auto check = [&](bool condition, const auto&... message) {
    require(condition, origin, ": ", message...);
  };
  check(0 <= t.steps && t.steps <= 1'000'000'000, "train.steps must lie between 0 and 1000000000, not ",
        t.steps);
  check(t.batch_size >= 1, "train.batch_size must be at least 1, not ", t.batch_size);
  check(std::isfinite(t.learning_rate) && t.learning_rate > 0, "train.learning_rate must be positive, not ",
        t.learning_rate);
  check(t.optimizer == "sgd" || t.optimizer == "adamw",
        "train.optimizer must be \"sgd\" or \"adamw\", not \"", t.optimizer, "\"");
  check(0 <= t.momentum && t.momentum < 1, "train.momentum must be at least 0 and below 1, not ", t.momentum);
  check(t.momentum == 0 || t.optimizer == "sgd", "train.momentum belongs to sgd; adamw has train.betas");
  check(0 <= t.weight_decay && t.weight_decay <= 1e6, "train.weight_decay must lie between 0 and 1e6, not ",
        t.weight_decay);
  check(t.betas.size() == 2, "train.betas must be two numbers, not ", t.betas.size());
  for (const double beta : t.betas)
    check(0 <= beta && beta < 1, "train.betas must be at least 0 and below 1, not ", beta);
  check(0 < t.epsilon && t.epsilon <= 1, "train.epsilon must be positive and at most 1, not ", t.epsilon);
  check(t.schedule == "constant" || t.schedule == "cosine" || t.schedule == "step",
        "train.schedule must be \"constant\", \"cosine\" or \"step\", not \"", t.schedule, "\"");
  check(t.warmup >= 0, "train.warmup must not be negative: ", t.warmup);
  check(t.schedule != "cosine" || t.warmup < t.steps, "train.warmup, ", t.warmup, " steps, leaves none of ",
        t.steps, " (train.steps) to the cosine");
  check(t.milestones.empty() == (t.schedule != "step"),
        "train.milestones and train.schedule = \"step\" need each other");
  sort_unique(t.milestones);
  check(t.milestones.empty() || t.milestones.front() >= 1, "train.milestones must be at least 1");
  check(0 < t.decay && t.decay <= 1, "train.decay must be positive and at most 1, not ", t.decay);
  check(0 <= t.label_smoothing && t.label_smoothing <= 1,
        "train.label_smoothing must lie between 0 and 1, not ", t.label_smoothing);
  check(t.label_smoothing == 0 || t.loss == "cross_entropy",
        "train.label_smoothing belongs to cross_entropy, ", t.loss, " has none");
}

// Makes the names of files absolute that a source of settings in `folder` gives for `key`.
void locate(const std::string& key, std::string& value, const fs::path& folder) {
  value = located(key, value, folder);
}
void locate(const std::string& key, std::vector<std::string>& values, const fs::path& folder) {
  if (key != "overlap.files") return;
  for (std::string& value : values) value = (folder / value).lexically_normal().string();
}
template <typename T>
void locate(const std::string&, T&, const fs::path&) {}

// What follows from a network or data of the user's own; `given` are the keys that were set.
void resolve_own(Recipe& r, const std::string& origin, const std::set<std::string>& given) {
  const auto check = [&](bool condition, const auto&... message) {
    require(condition, origin, ": ", message...);
  };
  const bool own_data = !r.data.x.empty();
  const bool python = !r.model.python.empty();
  check(python == !r.data.python.empty(),
        python ? "model.python needs data.python, a function that gives its data"
               : "data.python needs model.python");
  check(!python || !own_data, "model.python takes its data from data.python; remove data.x");
  check(python || r.train.loss.find(".py:") == std::string::npos, "train.loss in Python needs model.python");
  check(own_data || r.data.y.empty(), "data.y without data.x; name the inputs too");
  check(own_data || r.data.test_x.empty(), "data.test_x without data.x; name the training data too");
  check(!r.data.test_x.empty() || r.data.test_y.empty(),
        "data.test_y without data.test_x; name the inputs too");
  if (own_data && r.model.module.empty()) {
    check(r.model.kind == "mlp", "data.x needs model.module or model.kind = \"mlp\": ", r.model.kind,
          " is made for the data sets that seigh knows by name");
    check(1 <= r.model.inputs && r.model.inputs <= 1'000'000'000 && 1 <= r.model.outputs &&
              r.model.outputs <= 1'000'000,
          "mlp on data.x needs model.inputs, the numbers of a sample, and model.outputs, the classes or "
          "numbers of a target");
  }
  if (own_data) {
    r.data.name = fs::path(r.data.x).filename().string();
    const bool test = !r.data.test_x.empty();
    if (!given.contains("curvature.splits") && !test) r.curvature.splits = {"train"};
    for (const std::string& split : r.curvature.splits) {
      check(split != "validation",
            "curvature.splits: data.x has no validation part; put \"train\" or \"test\"");
      check(
          split != "test" || test,
          "curvature.splits: data.x has one part, \"train\"; name the inputs of a test part in data.test_x");
    }
  }
  check(r.model.weights.empty() || !r.model.module.empty() || python,
        "model.weights needs model.module or model.python");
  check(r.model.module.empty() || !python, "model.module and model.python exclude each other; remove one");
  if (r.model.module.empty() && !python) return;
  const std::string kind = python ? "python" : "module";
  check(r.model.kind == kind || !given.contains("model.kind"), "model.kind and model.", kind,
        " exclude each other; remove one");
  r.model.kind = kind;
  if (python) {
    for (const std::string& code : {r.model.python, r.data.python})
      check(code.find(".py:") != std::string::npos && !code.ends_with(":"), "\"", code,
            "\" is not FILE.py:FUNCTION");
    r.data.name = fs::path(r.data.python).filename().string();
    if (!given.contains("curvature.splits")) r.curvature.splits = {"train"};
    if (!given.contains("curvature.samples")) r.curvature.samples = 0;
  }
  const bool pattern = r.model.weights.find("{step") != std::string::npos;
  check(!pattern || given.contains("train.checkpoints"),
        "model.weights needs train.checkpoints, the steps there are files of, for example [0, 100]");
  if (!given.contains("train.steps"))
    r.train.steps = pattern && !r.train.checkpoints.empty()
                        ? *std::max_element(r.train.checkpoints.begin(), r.train.checkpoints.end())
                        : 0;
  check(r.model.weights.empty() || pattern || (r.train.steps == 0 && r.train.checkpoints.size() <= 1),
        "model.weights is one file, so there is one step, 0; for several steps write {step} in its name");
}

// Checks that need no data; the sizes that depend on the network are checked where it is known.
void resolve(Recipe& r, const std::string& origin, const Intervals& intervals, bool hidden_given) {
  const auto check = [&](bool condition, const auto&... message) {
    require(condition, origin, ": ", message...);
  };
  check(is_plain_name(r.name), "name must be a plain name, not \"", r.name, "\"");
  check(r.seed >= 0, "seed must not be negative: ", r.seed);
  // Whether it is there only matters where something is computed.
  check(!r.device.empty() &&
            std::all_of(r.device.begin(), r.device.end(),
                        [](unsigned char c) { return std::isalnum(c) || c == ':' || c == '_'; }),
        "device must be a device's name, as \"cuda\", \"cuda:1\" or \"cpu\", not \"", shortened(r.device),
        "\"");
  check(r.device == "cpu" || r.model.python.empty(), "device = \"", shortened(r.device),
        "\": a network in Python is computed where its function puts it; leave device out");
  const std::set<std::string> data_sets = {"mnist", "fashion-mnist", "cifar-10", "text"};
  check(!r.data.x.empty() || !r.data.python.empty() || data_sets.contains(r.data.name),
        "data.name must be \"mnist\", \"fashion-mnist\", \"cifar-10\" or \"text\", not \"", r.data.name,
        "\"");
  check(1 <= r.data.image_size && r.data.image_size <= 1024,
        "data.image_size must lie between 1 and 1024, not ", r.data.image_size);
  check(0 <= r.data.label_noise && r.data.label_noise <= 1, "data.label_noise must lie between 0 and 1, not ",
        r.data.label_noise);
  check(r.data.label_noise == 0 || (r.data.name != "text" && r.data.x.empty() && r.data.python.empty()),
        "data.label_noise is for the image data sets that seigh knows by name");
  check(r.data.validation_samples >= 0,
        "data.validation_samples must not be negative: ", r.data.validation_samples);
  check(1 <= r.data.context && r.data.context <= 65'536, "data.context must lie between 1 and 65536, not ",
        r.data.context);
  check(1 <= r.data.vocabulary && r.data.vocabulary <= 256,
        "data.vocabulary must lie between 1 and 256, not ", r.data.vocabulary);
  resolve_model(r, origin, hidden_given);
  resolve_training(r.train, origin);
  const std::vector<CurvatureKind>& matrices = curvature_kinds();
  check(std::any_of(matrices.begin(), matrices.end(),
                    [&](CurvatureKind kind) { return to_string(kind) == r.curvature.matrix; }),
        "curvature.matrix must be \"hessian\", \"ggn\", \"empirical_fisher\" or \"mc_fisher\", not \"",
        r.curvature.matrix, "\"");
  check(std::isfinite(r.curvature.l2) && r.curvature.l2 >= 0,
        "curvature.l2 must not be negative: ", r.curvature.l2);
  check(1 <= r.curvature.draws && r.curvature.draws <= 1'000'000,
        "curvature.draws must lie between 1 and 1000000, not ", r.curvature.draws);
  check(!r.curvature.splits.empty(),
        "curvature.splits is empty; name at least one of \"train\", \"validation\", \"test\"");
  for (const std::string& split : r.curvature.splits) {
    check(split == "train" || split == "validation" || split == "test", "curvature.splits: \"", split,
          "\" is none of \"train\", \"validation\", \"test\"");
    check(std::count(r.curvature.splits.begin(), r.curvature.splits.end(), split) == 1,
          "curvature.splits names \"", split, "\" twice");
  }
  check(r.curvature.samples >= (r.data.python.empty() ? 1 : 0), "curvature.samples must be at least 1, not ",
        r.curvature.samples);
  check(r.curvature.subset >= 0, "curvature.subset must not be negative: ", r.curvature.subset);
  check(r.curvature.subset == 0 || r.data.python.empty(),
        "curvature.subset is for data that seigh reads itself; of data.python give others there");
  parsed(r.curvature.products, origin, "curvature.products", parse_products);
  parsed(r.curvature.precision, origin, "curvature.precision", parse_precision);
  if (r.curvature.products == "stacked") {
    check(!r.model.python.empty() || (r.model.module.empty() && r.model.kind == "mlp"),
          "curvature.products = \"stacked\" is for fully connected networks, model.kind = \"mlp\"; use "
          "\"auto\"");
    check(r.curvature.precision == "float32",
          "curvature.products = \"stacked\" is in full precision; use curvature.precision = \"float32\", or "
          "products = \"batched\"");
  }
  check(r.curvature.rescaled == "none" || r.curvature.rescaled == "balanced",
        "curvature.rescaled must be \"none\" or \"balanced\", not \"", shortened(r.curvature.rescaled), "\"");
  check(r.curvature.batch_size >= 0, "curvature.batch_size must not be negative: ", r.curvature.batch_size);
  check(r.eigh.test_matrix == "auto" || r.eigh.test_matrix == "ssrft" || r.eigh.test_matrix == "sparse",
        "eigh.test_matrix must be \"auto\", \"ssrft\" or \"sparse\", not \"", r.eigh.test_matrix, "\"");
  check(r.eigh.storage == "full" || r.eigh.storage == "float16" || r.eigh.storage == "bfloat16",
        "eigh.storage must be \"full\", \"float16\" or \"bfloat16\", not \"", r.eigh.storage, "\"");
  check(r.eigh.k >= 1, "eigh.k must be at least 1, not ", r.eigh.k);
  check(std::isfinite(r.eigh.tolerance) && 0 <= r.eigh.tolerance && r.eigh.tolerance < 1,
        "eigh.tolerance must be at least 0 and below 1, not ", r.eigh.tolerance);
  check(std::isfinite(r.eigh.error) && 0 <= r.eigh.error && r.eigh.error < 1,
        "eigh.error must be at least 0 and below 1, not ", r.eigh.error);
  check(r.eigh.products == 0 || r.eigh.products >= r.eigh.k,
        "eigh.products must be at least eigh.k: products = ", r.eigh.products, ", k = ", r.eigh.k);
  check(0 <= r.eigh.probes && r.eigh.probes <= kMostProbes, "eigh.probes must lie between 0 and ",
        kMostProbes, ", not ", r.eigh.probes);
  check(0 <= r.eigh.checks && r.eigh.checks <= kMostProbes, "eigh.checks must lie between 0 and ",
        kMostProbes, ", not ", r.eigh.checks);
  check(r.eigh.dtype == "float32" || r.eigh.dtype == "float64",
        "eigh.dtype must be \"float32\" or \"float64\", not \"", r.eigh.dtype, "\"");
  check(r.eigh.block >= 0, "eigh.block must not be negative: ", r.eigh.block);
  constexpr int64_t kMostMasks = 100'000;
  check(2 <= r.overlap.random_masks && r.overlap.random_masks <= kMostMasks,
        "overlap.random_masks must lie between 2, for a deviation, and ", kMostMasks, ", not ",
        r.overlap.random_masks);
  check(!r.overlap.scores.empty(), "overlap.scores is empty; name at least \"magnitude\"");
  for (const std::string& score : r.overlap.scores) {
    check(is_score(score), "overlap.scores: there is no score \"", shortened(score), "\"; there are ",
          listed(score_names()), ", and \"layerwise_\" before them");
    check(std::count(r.overlap.scores.begin(), r.overlap.scores.end(), score) == 1, "overlap.scores names \"",
          score, "\" twice");
    check(score_needs(score) != "initial" || r.train.checkpoints.empty() ||
              r.train.checkpoints.front() == 0 || intervals.contains("train.checkpoints"),
          "overlap.scores: ", score, " needs the parameters of step 0; put 0 into train.checkpoints");
  }
  for (const std::string& score : r.prune.scores) {
    check(is_score(score), "prune.scores: there is no score \"", shortened(score), "\"; there are ",
          listed(score_names()), ", and \"layerwise_\" before them");
    check(std::count(r.prune.scores.begin(), r.prune.scores.end(), score) == 1, "prune.scores names \"",
          score, "\" twice");
    check(score_needs(score) != "initial" || r.train.checkpoints.empty() ||
              r.train.checkpoints.front() == 0 || intervals.contains("train.checkpoints"),
          "prune.scores: ", score, " needs the parameters of step 0; put 0 into train.checkpoints");
    check(score_needs(score) != "space" || r.eigh.vectors, "prune.scores: ", score,
          " needs eigenvectors on disk; set eigh.vectors = true");
  }
  check(
      r.prune.scores.empty() || r.model.python.empty(),
      "prune.scores: networks in Python are not pruned; export the network as TorchScript (model.module), or "
      "remove it");
  check(!r.prune.sparsities.empty(), "prune.sparsities is empty; name at least one share, as 0.9");
  for (const double sparsity : r.prune.sparsities) {
    check(0 < sparsity && sparsity < 1, "prune.sparsities must lie between 0 and 1, not ", sparsity);
    check(std::count(r.prune.sparsities.begin(), r.prune.sparsities.end(), sparsity) == 1,
          "prune.sparsities names ", sparsity, " twice");
  }
  std::sort(r.prune.sparsities.begin(), r.prune.sparsities.end());
  check(1 <= r.prune.draws && r.prune.draws <= 1000, "prune.draws must lie between 1 and 1000, not ",
        r.prune.draws);
  check(r.prune.fine_tune >= 0, "prune.fine_tune must not be negative: ", r.prune.fine_tune);
  constexpr size_t kMostFiles = 100;
  check(r.overlap.files.size() <= kMostFiles, "overlap.files names ", r.overlap.files.size(),
        " files; at most ", kMostFiles, " can be studied at once");
  for (const std::string& file : r.overlap.files)
    check(file.ends_with(".npy") || file.ends_with(".safetensors"), "overlap.files: ", shortened(file),
          " is neither .npy nor .safetensors");

  const auto select = [&](const char* key, std::vector<int64_t>& steps,
                          const std::vector<int64_t>& possible) {
    const auto found = intervals.find(key);
    if (found == intervals.end()) return;
    steps.clear();
    std::copy_if(possible.begin(), possible.end(), std::back_inserter(steps),
                 [n = found->second.first](int64_t step) { return step % n == 0; });
  };
  if (const auto found = intervals.find("train.checkpoints"); found != intervals.end()) {
    const auto& [n, where] = found->second;
    r.train.checkpoints = n == kLogarithmic ? powers_of_two(r.train.steps)
                                            : every(n, r.train.steps, where + ": train.checkpoints");
  }
  if (r.train.checkpoints.empty()) r.train.checkpoints = {0, r.train.steps};
  sort_unique(r.train.checkpoints);
  for (const int64_t step : r.train.checkpoints) {
    check(0 <= step && step <= r.train.steps, "train.checkpoints: step ", step, " lies outside 0..",
          r.train.steps, " (train.steps)");
  }
  select("curvature.steps", r.curvature.steps, r.train.checkpoints);
  if (r.curvature.steps.empty()) r.curvature.steps = r.train.checkpoints;
  const auto within = [&](std::vector<int64_t>& steps, const std::vector<int64_t>& of, const char* key,
                          const char* in) {
    sort_unique(steps);
    for (const int64_t step : steps) {
      check(std::binary_search(of.begin(), of.end(), step), key, ": step ", step, " is not among ", in);
    }
  };
  within(r.curvature.steps, r.train.checkpoints, "curvature.steps", "train.checkpoints");
  select("dense.steps", r.dense.steps, r.curvature.steps);
  within(r.dense.steps, r.curvature.steps, "dense.steps", "curvature.steps");
  select("prune.steps", r.prune.steps, r.curvature.steps);
  if (r.prune.steps.empty()) r.prune.steps = {r.curvature.steps.back()};
  within(r.prune.steps, r.curvature.steps, "prune.steps", "curvature.steps");
}

}  // namespace

void collect_values(const toml::table& table, const std::string& prefix,
                    std::map<std::string, const toml::node*>& out) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    const toml::table* inner = node.as_table();
    if (inner != nullptr && (!inner->empty() || kTables.contains(name))) {
      collect_values(*inner, name + ".", out);
    } else {
      out[name] = &node;
    }
  }
}

Recipe resolve_sources(const std::vector<const TomlSource*>& sources) {
  const std::string& origin = sources.front()->origin;
  Recipe recipe;
  recipe.name = fs::path(origin).stem().string();
  Intervals intervals;
  std::set<std::string> given;
  for (const TomlSource* source : sources) {
    std::map<std::string, const toml::node*> values;
    collect_values(source->table, "", values);
    std::erase_if(values, [](const auto& value) { return of_sweep(value.first); });
    for_each_key(recipe, [&](const std::string& key, auto& field, Use, const char*) {
      const auto found = values.find(key);
      if (found == values.end()) return;
      const std::string where = place(source->origin, *found->second);
      given.insert(key);
      if (kStepKeys.contains(key) && found->second->is_integer()) {
        const int64_t n = *found->second->template value<int64_t>();
        require(n >= 1, where, ": ", key,
                " as a number means every n-th step, so it must be at least 1, not ", n);
        intervals[key] = {n, where};
      } else if (key == "train.checkpoints" && found->second->is_string()) {
        require(*found->second->template value<std::string>() == "log", where,
                ": train.checkpoints must be a list of steps, a number n for every n-th, or \"log\"");
        intervals[key] = {kLogarithmic, where};
      } else {
        intervals.erase(key);
        read_value(*found->second, where, key, field);
        locate(key, field, source->folder);
      }
      values.erase(found);
    });
    if (!values.empty()) {
      const auto& [key, node] = *values.begin();
      const std::string name = shortened(key);
      require(!key.starts_with("synthetic"), place(source->origin, *node),
              ": [synthetic] is a study without a network, which seigh run does; it has no decompositions");
      fail(place(source->origin, *node), ": unknown key \"", name, "\"; the nearest known key is \"",
           nearest_key(name), "\"");
    }
  }
  resolve_own(recipe, origin, given);
  resolve(recipe, origin, intervals, given.contains("model.hidden"));
  return recipe;
}

Recipe parse_recipe(const std::string& text, const std::string& origin,
                    const std::vector<std::string>& overrides) {
  const std::vector<TomlSource> sources = toml_sources(text, origin, overrides);
  std::vector<const TomlSource*> all;
  for (const TomlSource& source : sources) {
    require(
        !names_sweep(source), source.origin,
        ": [sweep] makes a folder of runs of it: seigh run does them; what takes one run takes a folder in "
        "that one");
    all.push_back(&source);
  }
  return resolve_sources(all);
}

Recipe load_recipe(const fs::path& path, const std::vector<std::string>& overrides) {
  return parse_recipe(read_file(path, kMostRecipeBytes), path.string(), overrides);
}

std::string to_toml(const Recipe& recipe) {
  std::ostringstream out;
  std::string table;
  for_each_key(recipe, [&](const std::string& key, const auto& field, Use use, const char* meaning) {
    if (!use.matters) return;
    const size_t dot = key.find('.');
    if (dot != std::string::npos && key.substr(0, dot) != table) {
      table = key.substr(0, dot);
      out << "\n[" << table << "]\n";
    }
    out << "# " << meaning << '\n' << key.substr(dot + 1) << " = " << literal(field) << '\n';
  });
  return out.str();
}

std::string recipe_reference(const std::string& word) {
  std::ostringstream out;
  const Recipe recipe;
  const bool table = kTables.contains(word) || word == "sweep" || word == "synthetic";
  const auto list = [&](const auto& wanted) {
    for_each_key(recipe, [&](const std::string& key, const auto& field, Use, const char* meaning) {
      if (wanted(key, std::string(meaning)))
        out << key << "  (" << type_name(field) << ", default " << literal(field) << ")\n    " << meaning
            << '\n';
    });
    for (const SweepKey& key : sweep_keys())
      if (wanted(key.name, std::string(key.meaning)))
        out << key.name << "  (" << key.type << ")\n    " << key.meaning << '\n';
    for (const SyntheticKey& key : synthetic_keys())
      if (wanted(key.name, key.meaning))
        out << key.name << "  (" << key.type << ")\n    " << key.meaning << '\n';
  };
  list([&](const std::string& key, const std::string&) {
    return table ? key.starts_with(word + ".") : key.find(word) != std::string::npos;
  });
  if (out.str().empty())
    list([&](const std::string&, const std::string& meaning) {
      return meaning.find(word) != std::string::npos;
    });
  if (out.str().empty()) {
    std::string tables;
    for (const std::string& name : kTables) tables += name + ", ";
    tables += "sweep, synthetic";
    fail("no key has \"", word, "\" in its name or meaning; the tables are ", tables);
  }
  return out.str();
}

std::vector<std::string> differences(const Recipe& a, const Recipe& b, Stage stage) {
  std::vector<std::string> values, result;
  for_each_key(
      a, [&](const std::string&, const auto& field, Use, const char*) { values.push_back(literal(field)); });
  size_t i = 0;
  for_each_key(b, [&](const std::string& key, const auto& field, Use use, const char*) {
    const std::string value = literal(field);
    if (use.matters && use.stage <= stage && value != values[i])
      result.push_back(key + ": " + values[i] + " / " + value);
    ++i;
  });
  return result;
}

std::string record(const Recipe& recipe, Stage stage) {
  std::string text;
  for_each_key(recipe, [&](const std::string& key, const auto& field, Use use, const char*) {
    if (use.matters && use.stage <= stage) text += key + " = " + literal(field) + "\n";
  });
  return text;
}

Recipe read_record(const std::string& text) {
  const toml::table table = parse_toml(text, "record");
  std::map<std::string, const toml::node*> values;
  collect_values(table, "", values);
  Recipe recipe;
  for_each_key(recipe, [&](const std::string& key, auto& field, Use, const char*) {
    if (const auto found = values.find(key); found != values.end())
      read_value(*found->second, "record", key, field);
  });
  return recipe;
}

}  // namespace seigh
