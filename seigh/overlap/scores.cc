#include "seigh/overlap/scores.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/overlap/masks.h"

namespace seigh {
namespace {

const std::string kLayerwise = "layerwise_";

bool is_layerwise(const std::string& name) {
  return name.starts_with(kLayerwise);
}

std::string basis_of(const std::string& name) {
  return is_layerwise(name) ? name.substr(kLayerwise.size()) : name;
}

// Sum_j w_j U_ij^2.
at::Tensor leverage(const Eigenspace& space, const at::Tensor& weights, const Context& context) {
  at::Tensor sums = at::zeros({space.dimension()}, at::kDouble);
  constexpr int64_t kPiece = int64_t{64} << 20;
  const int64_t piece = std::clamp<int64_t>(kPiece / (8 * space.count()), 1, space.dimension());
  for_rows(space, piece, "leverage scores", context, [&](const at::Tensor& rows, int64_t begin) {
    sums.slice(0, begin, begin + rows.size(0)).copy_(rows.to(at::kDouble).square().matmul(weights));
  });
  if (space.divided()) context.ranks().sum(sums);
  return sums;
}

}  // namespace

const std::vector<std::string>& score_names() {
  static const std::vector<std::string> names = {
      "magnitude", "scaled_magnitude", "gradient",           "snip",   "movement",       "initial", "fisher",
      "obd",       "leverage",         "curvature_leverage", "random", "random_by_layer"};
  return names;
}

bool is_score(const std::string& name) {
  return std::count(score_names().begin(), score_names().end(), basis_of(name)) == 1;
}

std::string score_needs(const std::string& name) {
  const std::string basis = basis_of(name);
  if (basis == "movement" || basis == "initial") return "initial";
  if (basis == "gradient" || basis == "snip") return "gradient";
  if (basis == "fisher") return "fisher";
  if (basis == "obd") return "diagonal";
  if (basis == "leverage" || basis == "curvature_leverage") return "space";
  return "";
}

at::Tensor scores(const std::string& name, const ScoreInputs& inputs, const std::vector<UnitLayout>& layouts,
                  const Context& context) {
  const Context::Scope scope(context);
  require(is_score(name), "there is no score \"", name, "\"");
  const auto numbers = [&](const at::Tensor& values, const char* what) {
    require(values.defined(), "the score ", name, " needs ", what, ", which is not there");
    require(values.numel() == inputs.parameters.numel(), "the score ", name, ": ", what, " has ",
            values.numel(), " entries, there are ", inputs.parameters.numel(), " parameters");
    require(values.isfinite().all().item<bool>(), "the score ", name, ": ", what, " holds NaN or infinity");
    return values.to(at::kCPU, at::kDouble).flatten();
  };
  const at::Tensor theta = numbers(inputs.parameters, "the parameters");
  const std::string basis = basis_of(name);
  // Calls one(tensor's slice of `values`) for every tensor.
  const auto by_tensor = [&](const at::Tensor& values, const auto& one) {
    int64_t begin = 0;
    for (const UnitLayout& layout : layouts) {
      const int64_t end = begin + layout.numel();
      at::Tensor part = values.slice(0, begin, end);
      if (part.numel() > 0) one(part);
      begin = end;
    }
    require(begin == values.numel(), "the tensors hold ", begin, " parameters, but there are ",
            values.numel());
  };

  at::Tensor score;
  if (basis == "magnitude") {
    score = theta.abs();
  } else if (basis == "scaled_magnitude") {
    score = theta.abs();
    by_tensor(score, [&](at::Tensor& part) {
      const int64_t begin = part.storage_offset();
      const double deviation =
          theta.slice(0, begin, begin + part.numel()).std(/*unbiased=*/false).item<double>();
      if (deviation > 0) part.div_(deviation);  // of a constant tensor all are alike
    });
  } else if (basis == "gradient") {
    score = numbers(inputs.gradient, "the gradient").abs();
  } else if (basis == "snip") {
    score = (theta * numbers(inputs.gradient, "the gradient")).abs();
  } else if (basis == "movement") {
    score = (theta - numbers(inputs.initial, "the parameters of step 0")).abs();
  } else if (basis == "initial") {
    score = numbers(inputs.initial, "the parameters of step 0").abs();
  } else if (basis == "fisher") {
    score = numbers(inputs.fisher, "the diagonal of the empirical Fisher matrix").abs();
  } else if (basis == "obd") {
    score = (theta.square() * numbers(inputs.diagonal, "the matrix's diagonal") / 2).abs();
  } else if (basis == "leverage" || basis == "curvature_leverage") {
    require(inputs.space != nullptr, "the score ", name, " needs eigenvectors, which are not there");
    const at::Tensor weights = basis == "leverage" ? at::ones({inputs.space->count()}, at::kDouble)
                                                   : inputs.eigenvalues.to(at::kCPU, at::kDouble).abs();
    require(weights.numel() == inputs.space->count(), "the score ", name, ": there are ", weights.numel(),
            " eigenvalues, but ", inputs.space->count(), " eigenvectors");
    score = leverage(*inputs.space, weights, context);
  } else if (basis == "random") {
    score = random_uniform(inputs.seed, Stream::random_score, theta.numel());
  } else {  // random_by_layer: every tensor keeps its magnitudes, at places drawn at random
    score = theta.abs();
    const at::Tensor keys = random_uniform(inputs.seed, Stream::random_score, theta.numel(), 1);
    by_tensor(score, [&](at::Tensor& part) {
      const int64_t begin = part.storage_offset();
      part.copy_(part.index_select(0, keys.slice(0, begin, begin + part.numel()).argsort()));
    });
  }
  if (is_layerwise(name)) {
    by_tensor(score, [](at::Tensor& part) {
      const at::Tensor order = part.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
      const int64_t n = part.numel();
      part.scatter_(0, order, 1 - (at::arange(n, at::kDouble) + 0.5) / static_cast<double>(n));
    });
  }
  return score;
}

}  // namespace seigh
