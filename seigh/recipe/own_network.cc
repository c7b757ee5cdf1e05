#include "seigh/recipe/own_network.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/curvature/probe.h"
#include "seigh/data/tensor_data.h"
#include "seigh/data/text.h"
#include "seigh/io/safetensors.h"
#include "seigh/nn/script_module.h"
#include "seigh/recipe/options.h"
#include "seigh/train/train.h"

namespace seigh {
namespace {

bool has_classes(const Dataset& part) {
  return !part.y.is_floating_point() && part.y.dim() == 1;
}

bool begins_like_a_zip_file(const fs::path& file) {
  std::ifstream in(file.string(), std::ios::binary);
  char begin[2] = {};
  in.read(begin, 2);
  return begin[0] == 'P' && begin[1] == 'K';
}

}  // namespace

bool brings_weights(const Recipe& r) {
  return !r.model.python.empty() ||
         (!r.model.module.empty() && (!r.model.weights.empty() || r.train.steps == 0));
}

fs::path weights_file(const Recipe& r, int64_t step) {
  std::string name = r.model.weights;
  static const std::regex placeholder(R"(\{step(?::0?(\d{1,2})d?)?\})");
  for (std::smatch found; std::regex_search(name, found, placeholder);) {
    std::string digits = std::to_string(step);
    const size_t width = found[1].matched ? std::stoul(found[1].str()) : 0;
    if (digits.size() < width) digits.insert(0, width - digits.size(), '0');
    name = found.prefix().str() + digits + found.suffix().str();
  }
  return name;
}

Checkpoint brought_checkpoint(const Recipe& r, const Model& model, const Loss& loss, const DataSplits& data,
                              int64_t step, const Context& context) {
  Checkpoint c;
  c.step = step;
  c.buffers = model.initial_buffers();
  if (r.model.weights.empty()) {
    c.parameters = model.initial_parameters(0);
  } else {
    const fs::path file = weights_file(r, step);
    require(!begins_like_a_zip_file(file), file.string(),
            " was written by torch.save; weights are safetensors files: safetensors.torch.save_file("
            "net.state_dict(), \"weights.safetensors\")");
    const NamedTensors content = read_safetensors(file);
    const auto tensors = content.by_name();
    // Under any of its names; those of one tensor must agree.
    const auto find = [&](const ParameterSpec& spec) {
      std::vector<std::string> names = {spec.name};
      names.insert(names.end(), spec.aliases.begin(), spec.aliases.end());
      at::Tensor found;
      std::string under;
      for (const std::string& name : names) {
        const auto entry = tensors.find(name);
        if (entry == tensors.end()) continue;
        const at::Tensor* const tensor = entry->second;
        require(tensor->sizes() == at::IntArrayRef(spec.shape), file.string(), ": ", name, " has shape ",
                tensor->sizes(), ", in ", r.model.module, " it has ", at::IntArrayRef(spec.shape));
        require(!found.defined() || at::equal(found, *tensor), file.string(), ": ", under, " and ", name,
                " differ, in ", r.model.module, " they are one tensor");
        found = *tensor;
        under = name;
      }
      return found.defined() && found.scalar_type() != at::kDouble ? found.to(at::kFloat) : found;
    };
    std::vector<at::Tensor> pieces;
    for (const ParameterSpec& spec : model.parameters()) {
      pieces.push_back(find(spec));
      require(pieces.back().defined(), file.string(), " does not hold parameter ", spec.name, " of ",
              r.model.module);
    }
    c.parameters = flatten(pieces);
    for (size_t i = 0; i < c.buffers.size(); ++i)
      if (const at::Tensor tensor = find(model.buffers()[i]); tensor.defined()) c.buffers[i] = tensor;
  }
  const std::string source = (r.model.weights.empty() ? r.model.module : weights_file(r, step).string());
  require(c.parameters.isfinite().all().item<bool>(), source, " holds parameters that are NaN or infinite");
  const at::Tensor parameters = c.parameters.to(context.device());
  const std::vector<at::Tensor> buffers = moved(c.buffers, context.device());
  c.loss = mean_loss(model, loss, parameters, buffers, first_samples(data.train, kLossSamples), context);
  c.train_loss = c.loss;
  c.test_accuracy = accuracy(model, parameters, buffers, first_samples(data.test, kLossSamples), context);
  return c;
}

DataSplits load_own_data(const Recipe& r) {
  DataSplits data;
  data.name = r.data.name;
  data.source = r.data.x;
  data.train = load_tensor_data(r.data.x, r.data.y);
  if (r.data.test_x.empty()) {
    data.test = data.train;
    return data;
  }
  data.test = load_tensor_data(r.data.test_x, r.data.test_y);
  const auto like = [&](const at::Tensor& test, const at::Tensor& train, const std::string& file) {
    require(test.scalar_type() == train.scalar_type() && test.sizes().slice(1) == train.sizes().slice(1),
            file, ": a test sample is ", test.scalar_type(), " ", test.sizes().slice(1), ", one of ",
            r.data.x, " is ", train.scalar_type(), " ", train.sizes().slice(1), "; they must be alike");
  };
  like(data.test.x, data.train.x, r.data.test_x);
  like(data.test.y, data.train.y, r.data.test_y.empty() ? r.data.test_x : r.data.test_y);
  return data;
}

void probe(const Recipe& r, const Model& model, const Loss& loss, DataSplits& data,
           const c10::Device& device) {
  const std::string name = r.model.module.empty() ? model.description() : r.model.module;
  const auto classes = [&](at::ScalarType dtype) {
    return probe(model, loss, data.train, model.initial_parameters(0).to(device),
                 moved(model.initial_buffers(), device), dtype, name);
  };
  const bool wholly_exact = r.eigh.dtype == "float64" || r.eigh.method == Method::dense;
  const int64_t outputs = classes(wholly_exact ? at::kDouble : at::kFloat);
  if (!wholly_exact && !r.dense.steps.empty()) classes(at::kDouble);
  if (r.data.x.empty()) return;
  data.train.classes = data.test.classes = outputs;
  if (loss.kind != LossKind::custom && !data.test.y.is_floating_point() && !r.data.test_x.empty()) {
    const int64_t lowest = data.test.y.min().item<int64_t>(), highest = data.test.y.max().item<int64_t>();
    require(lowest >= 0 && highest < outputs, r.data.test_y.empty() ? r.data.test_x : r.data.test_y,
            " holds class ", lowest < 0 ? lowest : highest, ", but ", name, " has ", outputs,
            " outputs, for classes 0..", outputs - 1);
  }
}

at::Tensor curvature_samples(const Recipe& r, const Dataset& part, const std::string& split) {
  const int64_t n = r.curvature.samples;
  const int64_t subset = r.curvature.subset;
  if (r.data.x.empty()) return curvature_subset(part, n, subset);
  require(n <= part.size(), n, " samples are asked for, but ", split == "test" ? r.data.test_x : r.data.x,
          " holds ", part.size());
  bool balanced = has_classes(part);
  if (balanced) {
    try {
      const at::Tensor chosen = balanced_subset(part.y, part.classes, n);
      if (subset == 0) return chosen;
    } catch (const Error&) {  // too few of a class, or not classes at all
      balanced = false;
    }
  }
  // Whether balanced or not the first subset decides for all, else they would not be disjoint.
  return balanced ? balanced_subset(part.y, part.classes, n, subset) : first_subset(part.size(), n, subset);
}

std::vector<std::string> chosen_samples_note(const Recipe& r, const Dataset& part, const std::string& split) {
  const int64_t n = r.curvature.samples;
  if (r.data.x.empty() || n == part.size()) return {};
  const int64_t subset = r.curvature.subset;
  const bool fits = n * (subset + 1) <= part.size();
  const bool first =
      fits && at::equal(curvature_samples(r, part, split), first_subset(part.size(), n, subset));
  const std::string which = subset == 0 ? "the first ones" : text_of("subset ", subset, " of the first ones");
  return {text_of("curvature is taken on ", n, " of the ", part.size(), " samples of ",
                  split == "test" ? r.data.test_x : r.data.x, ": ", which,
                  first ? "" : " of each class, equally many of each")};
}

}  // namespace seigh
