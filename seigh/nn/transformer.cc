#include "seigh/nn/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <tuple>

#include "seigh/core/error.h"
#include "seigh/nn/convnets.h"
#include "seigh/nn/hidden_units.h"

namespace seigh {

namespace {

using Init = Initialization;

constexpr double kStd = 0.02, kDecoderEps = 1e-5, kVitEps = 1e-6;

void validate_blocks(const std::string& model, int64_t width, int64_t depth, int64_t heads,
                     int64_t mlp_ratio) {
  require_widths(model, {width, mlp_ratio});
  require(depth >= 1, model, ": a depth of ", depth, " is not possible");
  require(heads >= 1 && width % heads == 0, model, ": ", heads, " heads do not divide the width ", width);
}

// Heads of an attention layer change places as wholes.
void add_heads(const std::vector<ParameterSpec>& parameters, const std::string& in, const std::string& out,
               int64_t heads, std::vector<HiddenUnits>& all) {
  all.push_back(HiddenUnitsOf(parameters, heads).made_by(in, 3).read_by(out).units());
}

}  // namespace

void TransformerOptions::validate() const {
  validate_blocks("transformer", width, depth, heads, mlp_ratio);
  require(context >= 0, "transformer: a context of ", context, " is not possible");
  require(experts >= 0, "transformer: ", experts, " experts are not possible");
  require(experts == 0 || (1 <= chosen && chosen <= 2 && chosen <= experts), "transformer: of ", experts,
          " experts 1 or 2 can be chosen, not ", chosen);
}

Transformer::Transformer(const std::vector<int64_t>& input_shape, int64_t classes,
                         const TransformerOptions& options)
    : classes_(classes), options_(options) {
  require(input_shape.size() == 1 && input_shape[0] >= 1,
          "transformer: sequences of shape [tokens] are needed, not samples of shape ",
          at::IntArrayRef(input_shape));
  require(classes >= 1, "transformer: at least one class is needed, not ", classes);
  options.validate();
  if (options_.context == 0) options_.context = input_shape[0];
  require(input_shape[0] <= options_.context, "transformer: samples of ", input_shape[0],
          " tokens are longer than the context, ", options_.context);

  const int64_t w = options.width, hidden = options.mlp_ratio * w;
  const Init small = Init::normal(kStd), zero = Init::constant(0);
  const Init residual = Init::normal(kStd / std::sqrt(2.0 * static_cast<double>(options.depth)));
  const auto add_feed_forward = [&](const std::string& name) {
    add_linear(name + "c_fc", w, hidden, small, zero);
    add_linear(name + "c_proj", hidden, w, residual, zero);
  };
  add("transformer.wte.weight", {classes, w}, small);
  add("transformer.wpe.weight", {options_.context, w}, small);
  for (int64_t block = 0; block < options.depth; ++block) {
    const std::string name = "transformer.h." + std::to_string(block) + ".";
    add_norm(name + "ln_1", w);
    add_linear(name + "attn.c_attn", w, 3 * w, small, zero, 3 * options.heads);
    add_linear(name + "attn.c_proj", w, w, residual, zero);
    add_norm(name + "ln_2", w);
    if (options.experts == 0) {
      add_feed_forward(name + "mlp.");
    } else {
      add(name + "mlp.gate.weight", {options.experts, w}, small);
      for (int64_t e = 0; e < options.experts; ++e)
        add_feed_forward(name + "mlp.experts." + std::to_string(e) + ".");
    }
  }
  add_norm("transformer.ln_f", w);
  if (!options.tied) add("lm_head.weight", {classes, w}, small);
}

std::string Transformer::description() const {
  std::ostringstream text;
  text << "transformer, context " << options_.context << ", width " << options_.width << ", depth "
       << options_.depth << ", " << options_.heads << " heads";
  if (options_.experts > 0) text << ", " << options_.chosen << " of " << options_.experts << " experts";
  text << ", " << classes_ << " classes" << (options_.tied ? ", tied" : "");
  return text.str();
}

std::vector<HiddenUnits> Transformer::hidden_units() const {
  std::vector<HiddenUnits> all;
  HiddenUnitsOf stream(parameters_, options_.width);
  stream.last_of("transformer.wte.weight").last_of("transformer.wpe.weight");
  for (int64_t block = 0; block < options_.depth; ++block) {
    const std::string name = "transformer.h." + std::to_string(block) + ".";
    stream.made_by(name + "ln_1").read_by(name + "attn.c_attn").made_by(name + "attn.c_proj");
    stream.made_by(name + "ln_2");
    add_heads(parameters_, name + "attn.c_attn", name + "attn.c_proj", options_.heads, all);
    const auto feed_forward = [&](const std::string& layers) {
      stream.read_by(layers + "c_fc").made_by(layers + "c_proj");
      all.push_back(HiddenUnitsOf(parameters_, options_.mlp_ratio * options_.width)
                        .made_by(layers + "c_fc")
                        .read_by(layers + "c_proj")
                        .units());
    };
    if (options_.experts == 0) {
      feed_forward(name + "mlp.");
    } else {
      stream.read_by(name + "mlp.gate");
      for (int64_t e = 0; e < options_.experts; ++e)
        feed_forward(name + "mlp.experts." + std::to_string(e) + ".");
    }
  }
  stream.made_by("transformer.ln_f");
  if (!options_.tied) stream.read_by("lm_head");
  all.push_back(stream.units());
  return all;
}

at::Tensor Transformer::mixture(ParameterReader& reader, const at::Tensor& x) const {
  const at::Tensor logits = at::linear(x, reader.parameter());  // [N, T, experts]
  const at::Tensor index = std::get<1>(at::topk(logits.detach(), options_.chosen, -1));
  const at::Tensor passed =
      at::zeros_like(logits, logits.options().dtype(at::kBool)).scatter_(-1, index, true);
  const at::Tensor weights =
      options_.chosen == 1
          ? at::softmax(logits, -1).masked_fill(~passed, 0)
          : at::softmax(logits.masked_fill(~passed, -std::numeric_limits<double>::infinity()), -1);
  at::Tensor sum;
  for (int64_t e = 0; e < options_.experts; ++e) {
    const at::Tensor output = feed_forward(reader, x) * weights.slice(-1, e, e + 1);
    sum = e == 0 ? output : sum + output;
  }
  return sum;
}

at::Tensor Transformer::forward(const std::vector<at::Tensor>& parameters,
                                const std::vector<at::Tensor>& buffers, const at::Tensor& x,
                                bool training) const {
  require(x.dim() == 2 && x.size(1) <= options_.context,
          "transformer: inputs of shape [samples, tokens] with up to ", options_.context,
          " tokens are needed, not ", x.sizes());
  ParameterReader reader(parameters, buffers, training);
  const at::Tensor tokens = reader.parameter();
  const at::Tensor positions = reader.parameter();
  at::Tensor h = at::embedding(tokens, x.to(at::kLong)) + positions.slice(0, 0, x.size(1));
  for (int64_t block = 0; block < options_.depth; ++block) {
    h = h + self_attention(reader, layer_norm(reader, h, kDecoderEps), options_.heads, /*causal=*/true);
    const at::Tensor normed = layer_norm(reader, h, kDecoderEps);
    h = h + (options_.experts == 0 ? feed_forward(reader, normed) : mixture(reader, normed));
  }
  h = layer_norm(reader, h, kDecoderEps);
  return at::linear(h, options_.tied ? tokens : reader.parameter());
}

void VitOptions::validate() const {
  validate_blocks("vit", width, depth, heads, mlp_ratio);
  require(patch >= 1, "vit: patches of side ", patch, " are not possible");
}

Vit::Vit(const std::vector<int64_t>& input_shape, int64_t classes, const VitOptions& options)
    : classes_(classes), options_(options) {
  require_image("vit", input_shape, 1, classes);
  options.validate();
  require(input_shape[1] % options.patch == 0 && input_shape[2] % options.patch == 0, "vit: patches of side ",
          options.patch, " do not divide images of ", input_shape[1], " x ", input_shape[2]);
  const int64_t w = options.width, hidden = options.mlp_ratio * w,
                fan_in = input_shape[0] * options.patch * options.patch;
  const int64_t patches = input_shape[1] / options.patch * (input_shape[2] / options.patch);
  const Init small = Init::normal(kStd), zero = Init::constant(0);
  add("cls_token", {1, 1, w}, small);
  add("pos_embed", {1, patches + 1, w}, small);
  add_conv("patch_embed.proj", input_shape[0], w, options.patch,
           Init::normal(1 / std::sqrt(static_cast<double>(fan_in))), zero);
  for (int64_t block = 0; block < options.depth; ++block) {
    const std::string name = "blocks." + std::to_string(block) + ".";
    add_norm(name + "norm1", w);
    add_linear(name + "attn.qkv", w, 3 * w, small, zero, 3 * options.heads);
    add_linear(name + "attn.proj", w, w, small, zero);
    add_norm(name + "norm2", w);
    add_linear(name + "mlp.fc1", w, hidden, small, zero);
    add_linear(name + "mlp.fc2", hidden, w, small, zero);
  }
  add_norm("norm", w);
  add_linear("head", w, classes, small, zero);
}

std::string Vit::description() const {
  std::ostringstream text;
  text << "vit, patch " << options_.patch << ", width " << options_.width << ", depth " << options_.depth
       << ", " << options_.heads << " heads, " << classes_ << " classes";
  return text.str();
}

std::vector<HiddenUnits> Vit::hidden_units() const {
  std::vector<HiddenUnits> all;
  HiddenUnitsOf stream(parameters_, options_.width);
  stream.last_of("cls_token").last_of("pos_embed").made_by("patch_embed.proj");
  for (int64_t block = 0; block < options_.depth; ++block) {
    const std::string name = "blocks." + std::to_string(block) + ".";
    stream.made_by(name + "norm1").read_by(name + "attn.qkv").made_by(name + "attn.proj");
    stream.made_by(name + "norm2").read_by(name + "mlp.fc1").made_by(name + "mlp.fc2");
    add_heads(parameters_, name + "attn.qkv", name + "attn.proj", options_.heads, all);
    all.push_back(HiddenUnitsOf(parameters_, options_.mlp_ratio * options_.width)
                      .made_by(name + "mlp.fc1")
                      .read_by(name + "mlp.fc2")
                      .units());
  }
  stream.made_by("norm").read_by("head");
  all.push_back(stream.units());
  return all;
}

at::Tensor Vit::forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                        const at::Tensor& x, bool training) const {
  ParameterReader reader(parameters, buffers, training);
  const at::Tensor& token = reader.parameter();
  const at::Tensor& positions = reader.parameter();
  const at::Tensor& weight = reader.parameter();
  const at::Tensor& bias = reader.parameter();
  // A convolution whose stride is its kernel, as a product with the patches: [N, C, H/p, p, W/p, p] to [N, S,
  // C p p].
  const int64_t n = x.size(0), p = options_.patch, rows = x.size(2) / p, columns = x.size(3) / p;
  const at::Tensor patches = x.reshape({n, x.size(1), rows, p, columns, p}).permute({0, 2, 4, 1, 3, 5});
  const at::Tensor embedded = at::linear(patches.reshape({n, rows * columns, -1}), weight.flatten(1), bias);
  at::Tensor h = at::cat({token.expand({n, 1, options_.width}), embedded}, 1) + positions;
  for (int64_t block = 0; block < options_.depth; ++block) {
    h = h + self_attention(reader, layer_norm(reader, h, kVitEps), options_.heads, /*causal=*/false);
    const at::Tensor normed = layer_norm(reader, h, kVitEps);
    h = h + feed_forward(reader, normed);
  }
  return linear(reader, layer_norm(reader, h.select(1, 0), kVitEps));
}

}  // namespace seigh
