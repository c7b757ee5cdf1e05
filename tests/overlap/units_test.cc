#include "seigh/overlap/units.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "seigh/core/error.h"

namespace seigh {
namespace {

void expect_layout(const NamedShape& tensor, int64_t rows, int64_t columns, int64_t taps, bool outputs,
                   bool defined = true) {
  const UnitLayout layout = unit_layout(tensor);
  EXPECT_EQ(layout.rows, rows) << tensor.name;
  EXPECT_EQ(layout.columns, columns) << tensor.name;
  EXPECT_EQ(layout.taps, taps) << tensor.name;
  EXPECT_EQ(layout.defined, defined) << tensor.name;
  EXPECT_EQ(layout.rows_are_outputs, outputs) << tensor.name;
}

TEST(UnitLayout, OfMatricesAndConvolutionsHasOutputsForRows) {
  expect_layout({"layers.0.weight", {20, 256}}, 20, 256, 1, true);
  expect_layout({"conv1.weight", {64, 3, 5, 5}}, 64, 3, 25, true);
  expect_layout({"conv.weight", {1, 8, 3}}, 1, 8, 3, true);
  expect_layout({"patch_embed.proj.weight", {48, 3, 4, 4}}, 48, 3, 16, true);
  expect_layout({"unembed.weight", {100, 16}}, 100, 16, 1, true);
}

TEST(UnitLayout, OfEmbeddingsHasInputsForRows) {
  expect_layout({"transformer.wte.weight", {100, 16}}, 100, 16, 1, false);
  expect_layout({"wpe.weight", {32, 16}}, 32, 16, 1, false);
  expect_layout({"bert.Word_Embeddings.weight", {100, 16}}, 100, 16, 1, false);
  expect_layout({"pos_embed", {1, 17, 16}}, 17, 16, 1, false);
}

TEST(UnitLayout, OfVectorsAndScalarsIsOneCell) {
  expect_layout({"layers.0.bias", {20}}, 1, 1, 20, true, false);
  expect_layout({"cls_token", {1, 1, 16}}, 1, 1, 16, true, false);
  expect_layout({"scale", {}}, 1, 1, 1, true, false);
  expect_layout({"none.weight", {0, 5}}, 1, 1, 0, true, false);
}

// rows x columns x taps of all layouts, and of which tensor.
std::string drawn(const std::vector<NamedShape>& tensors) {
  std::ostringstream text;
  const std::vector<UnitLayout> layouts = unit_layouts(tensors);
  const std::vector<size_t> tensor = tensors_of(layouts);
  for (size_t i = 0; i < layouts.size(); ++i)
    text << (i > 0 ? " " : "") << tensor[i] << ':' << layouts[i].rows << 'x' << layouts[i].columns << 'x'
         << layouts[i].taps;
  return text.str();
}

TEST(UnitLayout, OfFusedQueriesKeysAndValuesIsThree) {
  EXPECT_EQ(drawn({{"blocks.0.attn.qkv.weight", {12, 4}}, {"blocks.0.attn.qkv.bias", {12}}}),
            "0:4x4x1 0:4x4x1 0:4x4x1 1:1x1x4 1:1x1x4 1:1x1x4");
  EXPECT_EQ(drawn({{"self_attn.in_proj_weight", {6, 2}}, {"self_attn.in_proj_bias", {6}}}),
            "0:2x2x1 0:2x2x1 0:2x2x1 1:1x1x2 1:1x1x2 1:1x1x2");
  EXPECT_EQ(drawn({{"query_key_value.weight", {6, 2}}}), "0:2x2x1 0:2x2x1 0:2x2x1");
  // Not of that shape: a Conv1D's [in, 3 out], four rows; not of that name.
  EXPECT_EQ(drawn({{"attn.c_attn.weight", {3, 9}}, {"qkv.weight", {4, 4}}, {"fc.weight", {6, 2}}}),
            "0:3x9x1 1:4x4x1 2:6x2x1");
}

TEST(UnitLayout, OfPartsIsOneEach) {
  EXPECT_EQ(
      drawn(
          {{"conv.weight", {4, 2, 3, 3}, /*parts=*/2}, {"a.bias", {3}}, {"attn.c_attn.weight", {12, 2}, 6}}),
      "0:2x2x9 0:2x2x9 1:1x1x3 2:2x2x1 2:2x2x1 2:2x2x1 2:2x2x1 2:2x2x1 2:2x2x1");
  EXPECT_THROW(unit_layouts({{"conv.weight", {4, 2, 3, 3}, 3}}), Error);
  EXPECT_FALSE(unit_layouts({{"up.weight", {4, 2, 3, 3}, 1, /*transposed=*/true}})[0].rows_are_outputs);
}

TEST(UnitLayout, PartsAddUpToTheirTensors) {
  const std::vector<UnitLayout> layouts =
      unit_layouts({{"qkv.weight", {6, 2}}, {"b", {2}}, {"qkv.bias", {6}}});
  const at::Tensor sums = by_tensor(at::arange(1, 15, at::kDouble).reshape({7, 2}), layouts);
  EXPECT_TRUE(sums.equal(at::tensor({9., 12., 7., 8., 33., 36.}, at::kDouble).reshape({3, 2})));
}

TEST(UnitLayout, RejectsANegativeSize) {
  EXPECT_THROW(unit_layout({"a.weight", {3, -1}}), Error);
}

}  // namespace
}  // namespace seigh
