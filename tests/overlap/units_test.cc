#include "seigh/overlap/units.h"

#include <gtest/gtest.h>

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

TEST(UnitLayout, RejectsANegativeSize) {
  EXPECT_THROW(unit_layout({"a.weight", {3, -1}}), Error);
}

}  // namespace
}  // namespace seigh
