#include "seigh/io/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "seigh/io/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::TempFolder;

// A file with this JSON header and `data` zero bytes after it.
std::string file_bytes(std::string header, size_t data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + std::string(data, '\0');
}

TEST(Safetensors, RoundTripsEveryDtypeShapeAndLayout) {
  const TempFolder folder;
  NamedTensors content;
  const at::Tensor base = at::arange(24, at::kDouble);
  for (const at::ScalarType dtype :
       {at::kByte, at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt})
    content.tensors.emplace_back(c10::toString(dtype), base.to(dtype).reshape({2, 3, 4}));
  content.tensors.emplace_back("transposed", base.reshape({4, 6}).t());
  content.tensors.emplace_back("every other", base.slice(0, 0, 24, 2));
  content.tensors.emplace_back("scalar", base[7]);
  content.tensors.emplace_back("none", at::empty({0, 5}, at::kInt));
  content.metadata = {{"model", "mlp"}, {"Größe", "π \"quoted\"\n"}};

  write_safetensors(folder / "a.safetensors", content);
  const NamedTensors back = read_safetensors(folder / "a.safetensors");

  EXPECT_EQ(back.metadata, content.metadata);
  ASSERT_EQ(back.tensors.size(), content.tensors.size());
  for (const auto& [name, tensor] : content.tensors) {
    const at::Tensor* read = back.find(name);
    ASSERT_NE(read, nullptr) << name;
    EXPECT_EQ(read->scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(read->sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(read->is_contiguous()) << name;
    EXPECT_TRUE(at::equal(*read, tensor)) << name;
  }
  for (size_t i = 0; i + 2 < content.tensors.size(); ++i)  // the last two share an offset: "none" is empty
    EXPECT_EQ(back.tensors[i].first, content.tensors[i].first);
  EXPECT_EQ(back.find("absent"), nullptr);
  EXPECT_EQ(folder.entries(), 1);
}

TEST(Safetensors, EmptyFileRoundTrips) {
  const TempFolder folder;
  write_safetensors(folder / "a", {});
  const NamedTensors back = read_safetensors(folder / "a");
  EXPECT_TRUE(back.tensors.empty());
  EXPECT_TRUE(back.metadata.empty());
}

TEST(Safetensors, HeaderIsPaddedToEightBytesWithSpaces) {
  const TempFolder folder;
  for (const std::string name : {"a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh"}) {
    write_safetensors(folder / name, {{{name, at::zeros({3}, at::kByte)}}, {}});
    const std::string bytes = read_file(folder / name);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    EXPECT_EQ(length % 8, 0u);
    EXPECT_EQ(bytes.size(), 8 + length + 3);
    EXPECT_EQ(bytes[8], '{');
    const std::string header = bytes.substr(8, length);
    EXPECT_EQ(header.find_first_not_of(' ', header.rfind('}') + 1), std::string::npos);
  }
}

TEST(Safetensors, TruncationAtEveryByteIsAnError) {
  const TempFolder folder;
  write_safetensors(folder / "a",
                    {{{"x", at::arange(5, at::kFloat)}, {"y", at::arange(3, at::kByte)}}, {{"k", "v"}}});
  const std::string bytes = read_file(folder / "a");
  for (size_t size = 0; size < bytes.size(); ++size) {
    write_file(folder / "short", bytes.substr(0, size));
    EXPECT_SEIGH_ERROR(read_safetensors(folder / "short"), (folder / "short").string());
  }
  write_file(folder / "long", bytes + "x");
  EXPECT_SEIGH_ERROR(read_safetensors(folder / "long"), "damaged");
}

TEST(Safetensors, BadHeadersAreNamed) {
  const TempFolder folder;
  const auto expect = [&](const std::string& header, size_t data, const std::string& complaint) {
    SCOPED_TRACE(header);
    write_file(folder / "bad", file_bytes(header, data));
    EXPECT_SEIGH_ERROR(read_safetensors(folder / "bad"), (folder / "bad").string(), complaint);
  };
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  write_file(folder / "good", file_bytes(one("\"F32\"", "[2]", "[0,8]"), 8));
  EXPECT_EQ(read_safetensors(folder / "good").tensors.at(0).second.numel(), 2);

  expect("", 0, "not JSON");
  expect("[]", 0, "not JSON");
  expect("{\"w\":", 0, "JSON object");
  expect("{}x", 0, "JSON object");
  expect("{\"\xff\":{}}", 0, "JSON object");
  expect("{}", 4, "damaged");
  expect(R"({"w":3})", 0, "lacks");
  expect(R"({"w":{"dtype":"F32","shape":[2]}})", 8, "lacks");
  expect(one("\"F8_E5M2\"", "[8]", "[0,8]"), 8, "F8_E5M2");
  expect(one("7", "[8]", "[0,8]"), 8, "dtype 7");
  expect(one("\"F32\"", "2", "[0,8]"), 8, "not a list");
  expect(one("\"F32\"", "[-2]", "[0,8]"), 8, "-2");
  expect(one("\"F32\"", "[2.0]", "[0,8]"), 8, "2.0");
  expect(one("\"F32\"", "[\"2\"]", "[0,8]"), 8, "\"2\"");
  expect(one("\"F32\"", "[3]", "[0,8]"), 8, "needs 12");
  expect(one("\"F32\"", "[2]", "[0,16]"), 16, "needs 8");
  expect(one("\"F32\"", "[2]", "[8,0]"), 8, "do not fit");
  expect(one("\"F32\"", "[2]", "[0]"), 8, "pair");
  expect(one("\"F32\"", "[2]", "[-8,0]"), 8, "-8");
  expect(one("\"F32\"", "[2]", "[0,8]"), 4, "truncated");
  expect(one("\"F32\"", "[2]", "[4,12]"), 12, "hole");
  expect(one("\"F32\"", "[9223372036854775807,4]", "[0,8]"), 8, "too large");
  expect(one("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, "too large");
  expect(one("\"F32\"", "[18446744073709551615]", "[0,8]"), 8, "too large");
  expect(one("\"F32\"", "[0,9223372036854775807,4]", "[0,0]"), 0, "too large");
  expect(one("\"F32\"", "[2]", "[18446744073709551608,18446744073709551615]"), 8, "do not fit");
  expect(
      R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
      8, "overlap");
  expect(
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
      8, "hole");
  expect(R"({"__metadata__":{"k":3}})", 0, "'k' is not a string");
  expect(R"({"__metadata__":"k"})", 0, "not an object");
}

TEST(Safetensors, HeaderLengthsThatCannotBeAreErrors) {
  const TempFolder folder;
  for (const uint64_t length :
       {uint64_t{17}, uint64_t{100'000'001}, ~uint64_t{0}, ~uint64_t{0} - 7, uint64_t{1} << 63}) {
    std::string bytes(8 + 16, ' ');
    std::memcpy(bytes.data(), &length, sizeof length);
    write_file(folder / "bad", bytes);
    EXPECT_SEIGH_ERROR(read_safetensors(folder / "bad"), "header length " + std::to_string(length));
  }
}

TEST(Safetensors, TensorsComeInFileOrderWhateverTheHeaderOrder) {
  const TempFolder folder;
  write_file(folder / "a", file_bytes(R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]},)"
                                      R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}  )",
                                      8));
  const NamedTensors back = read_safetensors(folder / "a");
  ASSERT_EQ(back.tensors.size(), 2u);
  EXPECT_EQ(back.tensors[0].first, "a");
  EXPECT_EQ(back.tensors[1].first, "b");
}

TEST(Safetensors, WhatCannotBeWrittenIsAnErrorAndLeavesNothing) {
  const TempFolder folder;
  const at::Tensor x = at::zeros({2});
  EXPECT_SEIGH_ERROR(write_safetensors(folder / "a", {{{"x", x.to(at::kBool)}}, {}}), "'x'", "Bool");
  EXPECT_SEIGH_ERROR(write_safetensors(folder / "a", {{{"x", at::Tensor()}}, {}}), "'x'", "undefined");
  EXPECT_SEIGH_ERROR(write_safetensors(folder / "a", {{{"x", x}, {"x", x}}, {}}), "'x'", "taken");
  EXPECT_SEIGH_ERROR(write_safetensors(folder / "a", {{{"__metadata__", x}}, {}}), "__metadata__");
  EXPECT_SEIGH_ERROR(write_safetensors(folder / "a", {{{"\xff", x}}, {}}), "UTF-8");
  EXPECT_SEIGH_ERROR(read_safetensors(folder / "a"), (folder / "a").string(), "No such file");
  EXPECT_SEIGH_ERROR(read_safetensors(folder.path()), "folder");
  EXPECT_EQ(folder.entries(), 0);
}

}  // namespace
}  // namespace seigh
