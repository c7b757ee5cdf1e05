// A small network of every kind, with data for it.
#pragma once

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include <string>
#include <vector>

#include "seigh/nn/zoo.h"
#include "tests/support/tiny_problem.h"

namespace seigh::test {

struct ModelCase {
  std::string name;
  ModelOptions model;
  std::vector<int64_t> sample;
  int64_t classes;
};

inline std::vector<ModelCase> every_model() {
  std::vector<ModelCase> all;
  ModelOptions m;
  m.kind = "mlp";
  m.mlp = {{6, 5}, Activation::gelu};
  all.push_back({"mlp", m, {1, 3, 3}, 4});
  m.kind = "3c3d";
  m.three_c3d.channels = {3, 4, 4};
  m.three_c3d.hidden = {6, 5};
  all.push_back({"3c3d", m, {2, 20, 20}, 3});
  m.kind = "resnet18";
  m.resnet.width = 4;
  m.resnet.blocks = {1, 1, 1, 1};
  all.push_back({"resnet_batch_norm", m, {3, 8, 8}, 3});
  m.resnet.norm = parse_norm("group");
  m.resnet.groups = 2;
  m.resnet.stem = parse_stem("imagenet");
  all.push_back({"resnet_group_norm", m, {3, 16, 16}, 3});
  m.kind = "vit";
  m.vit = {.patch = 4, .width = 8, .depth = 2, .heads = 2, .mlp_ratio = 2};
  all.push_back({"vit", m, {3, 8, 8}, 3});
  m.kind = "transformer";
  m.transformer = {.width = 8, .depth = 2, .heads = 2, .mlp_ratio = 2, .tied = true};
  all.push_back({"transformer_tied", m, {5}, 7});
  m.transformer.experts = 3;
  m.transformer.chosen = 2;
  m.transformer.tied = false;
  all.push_back({"transformer_experts", m, {5}, 7});
  return all;
}

inline Dataset make_data(const ModelCase& c, int64_t n) {
  if (c.model.kind == "transformer") {
    const at::Tensor tokens =
        at::arange(n * (c.sample[0] + 1)).mul(5).remainder(11).remainder(c.classes).view({n, -1});
    return {tokens.slice(1, 0, -1).contiguous(), tokens.slice(1, 1).contiguous(), c.classes};
  }
  Dataset data = test::gaussian_data(n, c10::multiply_integers(c.sample), c.classes);
  data.x = data.x.reshape({n, c.sample[0], c.sample[1], c.sample[2]});
  return data;
}

inline std::vector<at::Tensor> running_statistics(const Model& model) {
  std::vector<at::Tensor> buffers = model.initial_buffers();
  for (size_t i = 0; i < buffers.size(); ++i) buffers[i] = buffers[i] * 1.3 + 0.1;  // neither 0 nor 1
  return buffers;
}

}  // namespace seigh::test
