#include "seigh/data/idx.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "seigh/io/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::TempFolder;

// 0 0 8 3, sizes 2 3 4, bytes 0..23.
std::string example() {
  std::string bytes("\0\0\x08\x03\0\0\0\x02\0\0\0\x03\0\0\0\x04", 16);
  for (int i = 0; i < 24; ++i) bytes += static_cast<char>(i);
  return bytes;
}

std::string gzip(const TempFolder& folder, const std::string& bytes) {
  const auto path = folder / "gzip";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return read_file(path);
}

TEST(Idx, ReadsPlainAndCompressed) {
  const TempFolder folder;
  const at::Tensor expected = at::arange(24, at::kByte).reshape({2, 3, 4});
  write_file(folder / "plain", example());
  write_file(folder / "compressed", gzip(folder, example()));
  EXPECT_TRUE(at::equal(read_idx(folder / "plain", 3), expected));
  EXPECT_TRUE(at::equal(read_idx(folder / "compressed", 3), expected));
  write_file(folder / "empty", std::string("\0\0\x08\x01\0\0\0\0", 8));
  EXPECT_EQ(read_idx(folder / "empty", 1).sizes(), at::IntArrayRef({0}));
}

TEST(Idx, TruncationAtEveryByteIsAnError) {
  const TempFolder folder;
  for (const std::string& bytes : {example(), gzip(folder, example())})
    for (size_t size = 0; size < bytes.size(); ++size) {
      SCOPED_TRACE(size);
      write_file(folder / "short", bytes.substr(0, size));
      EXPECT_SEIGH_ERROR(read_idx(folder / "short", 3), (folder / "short").string());
    }
}

TEST(Idx, WhatIsWrongIsNamed) {
  const TempFolder folder;
  const auto expect = [&](const std::string& bytes, const std::string& complaint) {
    SCOPED_TRACE(complaint);
    write_file(folder / "bad", bytes);
    EXPECT_SEIGH_ERROR(read_idx(folder / "bad", 3), (folder / "bad").string(), complaint);
  };
  std::string bytes = example();
  expect(bytes + "x", "more than the 24 bytes");
  bytes[2] = 0x0d;
  expect(bytes, "0 0 13");
  bytes = example();
  bytes[3] = 1;
  expect(bytes, "rank 1, not 3");
  bytes = example();
  bytes[4] = '\xff';  // 4 278 190 082 images: more than there are, and not to be allocated
  expect(bytes, "cannot hold");
  for (int i = 4; i < 16; ++i) bytes[i] = '\xff';
  expect(bytes, "sizes too large");
  expect("PNG is something else", "not an IDX file");
  std::string compressed = gzip(folder, example());
  compressed[compressed.size() - 6] ^= 1;  // in the checksum
  expect(compressed, "gzip");
  EXPECT_SEIGH_ERROR(read_idx(folder / "absent", 3), (folder / "absent").string(), "No such file");
  EXPECT_SEIGH_ERROR(read_idx(folder.path(), 3), "folder");
}

}  // namespace
}  // namespace seigh
