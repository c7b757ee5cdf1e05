#include "seigh/io/npy.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>

#include "seigh/io/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::TempFolder;

// A .npy file: the magic number, `version`, the length, `header` and `data`.
std::string npy(int version, const std::string& header, const std::string& data) {
  std::string bytes = "\x93NUMPY";
  bytes += static_cast<char>(version);
  bytes += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) bytes += static_cast<char>(header.size() >> (8 * i));
  return bytes + header + data;
}

std::string dictionary(const std::string& descr, const std::string& fortran, const std::string& shape) {
  return "{'descr': " + descr + ", 'fortran_order': " + fortran + ", 'shape': " + shape + ", }     \n";
}

std::string bytes_of(const at::Tensor& t) {
  const at::Tensor dense = t.contiguous();
  return {static_cast<const char*>(dense.data_ptr()), dense.nbytes()};
}

TEST(Npy, ReadsEveryDtypeVersionAndOrder) {
  const TempFolder folder;
  const at::Tensor base = at::arange(24, at::kDouble).reshape({2, 3, 4});
  const std::pair<const char*, at::ScalarType> dtypes[] = {
      {"'<f4'", at::kFloat},          {"'<f8'", at::kDouble}, {"'<c8'", at::kComplexFloat},
      {"'<c16'", at::kComplexDouble}, {"'<i4'", at::kInt},    {"'<i8'", at::kLong},
      {"\"|u1\"", at::kByte}};
  for (int version = 1; version <= 3; ++version)
    for (const auto& [descr, dtype] : dtypes) {
      SCOPED_TRACE(std::string(descr) + " version " + std::to_string(version));
      const at::Tensor x = base.to(dtype);
      write_file(folder / "c", npy(version, dictionary(descr, "False", "(2, 3, 4)"), bytes_of(x)));
      write_file(folder / "f",
                 npy(version, dictionary(descr, "True", "(2, 3, 4)"), bytes_of(x.permute({2, 1, 0}))));
      for (const char* name : {"c", "f"}) {
        const at::Tensor read = read_npy(folder / name);
        EXPECT_EQ(read.scalar_type(), dtype);
        EXPECT_TRUE(read.is_contiguous());
        EXPECT_TRUE(at::equal(read, x));
      }
    }
}

TEST(Npy, ReadsScalarsVectorsEmptyArraysAndKeysInAnyOrder) {
  const TempFolder folder;
  const std::string eight = bytes_of(at::arange(1, 2, at::kDouble));
  write_file(folder / "scalar", npy(1, dictionary("'<f8'", "False", "()"), eight));
  EXPECT_EQ(read_npy(folder / "scalar").dim(), 0);
  EXPECT_EQ(read_npy(folder / "scalar").item<double>(), 1.0);
  write_file(folder / "vector", npy(1, "{'shape':(1,),'fortran_order':False,'descr':'<f8'}", eight));
  EXPECT_EQ(read_npy(folder / "vector").sizes(), at::IntArrayRef({1}));
  write_file(folder / "none", npy(1, dictionary("'<f8'", "True", "(0, 3)"), ""));
  EXPECT_EQ(read_npy(folder / "none").sizes(), at::IntArrayRef({0, 3}));
}

// Written by NumPy itself (tests/data/io/make.py).
TEST(Npy, ReadsWhatNumpyWrites) {
  const std::string data = SEIGH_TEST_DATA "/io/";
  const at::Tensor expected = at::arange(6, at::kFloat).reshape({2, 3});
  EXPECT_TRUE(at::equal(read_npy(data + "c_f4.npy"), expected));
  EXPECT_TRUE(at::equal(read_npy(data + "fortran_f4.npy"), expected));
  EXPECT_TRUE(at::equal(read_npy(data + "version3_i8.npy"), expected.to(at::kLong)));
  EXPECT_SEIGH_ERROR(read_npy(data + "structured.npy"), "structures");
  EXPECT_SEIGH_ERROR(read_npy(data + "bool.npy"), "|b1");
}

TEST(Npy, TruncationAtEveryByteAndTrailingBytesAreErrors) {
  const TempFolder folder;
  const std::string bytes = npy(2, dictionary("'<i4'", "False", "(3,)"), bytes_of(at::arange(3, at::kInt)));
  for (size_t size = 0; size < bytes.size(); ++size) {
    write_file(folder / "short", bytes.substr(0, size));
    EXPECT_SEIGH_ERROR(read_npy(folder / "short"), (folder / "short").string(), "truncated");
  }
  write_file(folder / "long", bytes + "x");
  EXPECT_SEIGH_ERROR(read_npy(folder / "long"), "12 bytes", "13 follow", "damaged");
}

TEST(Npy, WhatCannotBeReadIsNamed) {
  const TempFolder folder;
  const auto expect = [&](const std::string& bytes, const std::string& complaint) {
    SCOPED_TRACE(bytes);
    write_file(folder / "bad", bytes);
    EXPECT_SEIGH_ERROR(read_npy(folder / "bad"), (folder / "bad").string(), complaint);
  };
  const std::string data(8, '\0');
  expect(npy(1, dictionary("'>f8'", "False", "(1,)"), data), ">f8");
  expect(npy(1, dictionary("'|O'", "False", "(1,)"), data), "|O");
  expect(npy(1, dictionary("'<c32'", "False", "(1,)"), data), "<c32");
  expect(npy(1, dictionary("[('a', '<f8')]", "False", "(1,)"), data), "structures");
  expect(npy(4, dictionary("'<f8'", "False", "(1,)"), data), "version 4.0");
  expect("PK\3\4" + std::string(100, ' '), "magic");
  expect(npy(1, dictionary("'<f8'", "maybe", "(1,)"), data), "True or False");
  expect(npy(1, dictionary("'<f8'", "False", "(-1,)"), data), "size expected");
  expect(npy(1, dictionary("'<f8'", "False", "(1"), data), "expected");
  expect(npy(1, dictionary("'<f8'", "False", "(99999999999999999999,)"), data), "too large");
  expect(npy(1, dictionary("'<f8'", "False", "(4294967296, 4294967296)"), data), "too large");
  expect(npy(1, dictionary("'<f8'", "False", "(0, 4294967296, 4294967296)"), ""), "too large");
  expect(npy(1, "{'descr': '<f8', 'fortran_order': False}", data), "missing");
  expect(npy(1, "{'descr': '<f8', 'colour': 1}", data), "colour");
  expect(npy(1, "{'descr': '<f8", data), "string without end");
  expect(npy(1, "", data), "'{' expected");
  EXPECT_SEIGH_ERROR(read_npy(folder / "absent"), (folder / "absent").string(), "No such file");
  EXPECT_SEIGH_ERROR(read_npy(folder.path()), "folder");
}

TEST(Npy, WritesVectors) {
  const test::TempFolder folder;
  for (const int64_t n : {0, 1, 7, 100'000}) {
    const at::Tensor x = at::arange(2 * n, at::kDouble).slice(0, 0, 2 * n, 2) / 3;
    write_npy(folder / "x.npy", x);
    EXPECT_TRUE(at::equal(read_npy(folder / "x.npy"), x)) << n;
  }
  EXPECT_EQ(folder.entries(), 1);
  EXPECT_SEIGH_ERROR(write_npy(folder / "y.npy", at::zeros({2, 2}, at::kDouble)), "float64");
}

}  // namespace
}  // namespace seigh
