#include "seigh/io/seal.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <optional>
#include <string>

#include "seigh/io/crc64.h"
#include "seigh/io/file.h"
#include "seigh/io/hdf5.h"
#include "seigh/io/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::TempFolder;

// Bit by bit from the polynomial, and the catalogue's check value of CRC-64/XZ.
TEST(Crc64, IsThatOfXzFiles) {
  EXPECT_EQ(crc64("123456789"), 0x995DC9BBDF1939FAU);
  EXPECT_EQ(crc64(""), 0U);
  std::string bytes(1000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i + 3);
  const auto slowly = [](std::string_view text) {
    uint64_t sum = ~uint64_t{0};
    for (const char c : text) {
      sum ^= static_cast<unsigned char>(c);
      for (int bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ ((sum & 1) != 0 ? 0xC96C5795D7870F42 : 0);
    }
    return ~sum;
  };
  for (const size_t size : {size_t{1}, size_t{7}, size_t{8}, size_t{9}, size_t{63}, size_t{1000}}) {
    const std::string_view text = std::string_view(bytes).substr(0, size);
    EXPECT_EQ(crc64(text), slowly(text)) << size;
    EXPECT_EQ(crc64(text.substr(size / 3), crc64(text.substr(0, size / 3))), slowly(text)) << size;
  }
}

// Flips every `step`-th bit of a file in turn and calls read(damaged file), which says whether it was refused
// or, if not, whether what it gave was the same. Returns how many were not refused.
template <typename Read>
int64_t flip_bits(const fs::path& path, const fs::path& damaged, size_t step, const Read& read) {
  const std::string bytes = read_file(path);
  write_file(damaged, bytes);
  // In place: a file written anew would wait for the disk.
  const auto put = [&](size_t at, int byte) {
    std::FILE* const file = std::fopen(damaged.c_str(), "r+b");
    std::fseek(file, static_cast<long>(at), SEEK_SET);
    std::fputc(byte, file);
    std::fclose(file);
  };
  int64_t through = 0;
  for (size_t bit = 0; bit < 8 * bytes.size(); bit += step) {
    put(bit / 8, bytes[bit / 8] ^ (1 << (bit % 8)));
    const std::optional<bool> same = read();
    put(bit / 8, bytes[bit / 8]);
    if (!same) continue;
    ++through;
    EXPECT_TRUE(*same) << "bit " << bit % 8 << " of byte " << bit / 8 << " of " << bytes.size();
  }
  return through;
}

template <typename Body>
std::optional<bool> refused_or(const fs::path& path, const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return std::nullopt;
  }
}

TEST(Seal, EveryBitOfAnHdf5FileIsWatched) {
  const TempFolder folder;
  const at::Tensor x = at::arange(64, at::kDouble), columns = at::arange(1, 97, at::kFloat).reshape({2, 48});
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.write("x", x);
    writer.write("columns", columns, Vouched::by_caller);
    writer.attribute("first", std::string("one string of fixed length"));
    writer.attribute("second", std::string("and another"));
    writer.attribute("count", int64_t{3});
    writer.commit();
  }
  const auto begin = static_cast<size_t>(Hdf5Reader(folder / "a.h5").offset("columns", at::kFloat));
  const fs::path damaged = folder / "b.h5";
  int64_t mine = 0;  // in columns, which their caller watches
  const auto read = [&](Maker maker) {
    return refused_or(damaged, [&] {
      const Hdf5Reader reader(damaged, maker);
      if (!at::equal(reader.read("columns"), columns)) {
        ++mine;
        return reader.names().size() == 2;  // everything else is there
      }
      return at::equal(reader.read("x"), x) &&
             (!reader.sealed() || reader.attributes() == Hdf5Reader(folder / "a.h5").attributes());
    });
  };
  const int64_t through = flip_bits(folder / "a.h5", damaged, 1, [&] { return read(Maker::seigh); });
  EXPECT_EQ(through, mine);
  EXPECT_EQ(mine, 8 * 96 * 4);
  EXPECT_GT(begin, static_cast<size_t>(kSealBytes));
  // Of a file that anybody may have made: a damaged mark of the seal lets the whole rest through, as it was.
  mine = 0;
  EXPECT_EQ(flip_bits(folder / "a.h5", damaged, 1, [&] { return read(Maker::anybody); }) - mine,
            8 * static_cast<int64_t>(std::string("seigh seal 1\n").size()));
}

TEST(Seal, LargeDataSetsAreCheckedWhenTheyAreRead) {
  const TempFolder folder;
  const at::Tensor large = at::arange(400'000, at::kFloat).reshape({4, 100'000}),
                   small = at::arange(9, at::kLong);
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.create("large", at::kFloat, large.sizes());
    writer.put("large", {0, 50'000}, large.slice(1, 50'000));
    writer.put("large", {0, 0}, large.slice(1, 0, 50'000));
    writer.write("small", small);
    writer.commit();
  }
  {
    const Hdf5Reader reader(folder / "a.h5", Maker::seigh);
    EXPECT_TRUE(at::equal(reader.read("large"), large));
    EXPECT_TRUE(at::equal(reader.read_rows("large", at::arange(2, at::kLong)), large.slice(0, 0, 2)));
  }
  std::string bytes = read_file(folder / "a.h5");
  const auto begin = static_cast<size_t>(Hdf5Reader(folder / "a.h5").offset("large", at::kFloat));
  EXPECT_EQ(std::string_view(bytes).substr(begin + 4, 4), std::string_view("\0\0\x80\x3f", 4));  // 1.0
  bytes[begin + 1'234'567] ^= 16;
  write_file(folder / "b.h5", bytes);
  const std::string name = (folder / "b.h5").string();
  const Hdf5Reader reader(folder / "b.h5", Maker::seigh);
  EXPECT_TRUE(at::equal(reader.read("small"), small));
  EXPECT_SEIGH_ERROR(reader.read("large"), name, "checksum");
  EXPECT_SEIGH_ERROR(reader.read_rows("large", at::arange(1, at::kLong)), name, "checksum");
  EXPECT_SEIGH_ERROR(reader.offset("large", at::kFloat), name, "checksum");
}

TEST(Seal, EveryBitOfASafetensorsFileIsWatched) {
  const TempFolder folder;
  const NamedTensors content{
      {{"w", at::arange(12, at::kFloat).reshape({3, 4})}, {"b", at::arange(3, at::kLong)}},
      {{"step", "100"}, {"recipe", "eigh.k = 100\n"}}};
  write_safetensors(folder / "a", content);
  const fs::path damaged = folder / "b";
  const auto whole = [&] {
    const NamedTensors back = read_safetensors(damaged, Maker::seigh);
    return back.metadata == content.metadata && at::equal(back.tensors[0].second, content.tensors[0].second);
  };
  EXPECT_EQ(flip_bits(folder / "a", damaged, 1, [&] { return refused_or(damaged, whole); }), 0);
  // The metadata alone do not see the data.
  const auto metadata = [&] { return read_safetensors_metadata(damaged, Maker::seigh) == content.metadata; };
  EXPECT_EQ(flip_bits(folder / "a", damaged, 1, [&] { return refused_or(damaged, metadata); }),
            8 * (12 * 4 + 3 * 8));
}

TEST(Seal, WhatHasNoneIsNotSeighs) {
  const TempFolder folder;
  const std::string header = R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  write_file(folder / "a", bytes + header + "x");
  EXPECT_EQ(read_safetensors(folder / "a").tensors.size(), 1u);
  EXPECT_SEIGH_ERROR(read_safetensors(folder / "a", Maker::seigh), "no checksum");
  EXPECT_SEIGH_ERROR(read_safetensors_metadata(folder / "a", Maker::seigh), "no checksum");
}

TEST(Seal, TruncatedAndLongerFilesAreNamed) {
  const TempFolder folder;
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.write("x", at::arange(100, at::kFloat));
    writer.commit();
  }
  const std::string bytes = read_file(folder / "a.h5");
  write_file(folder / "b.h5", bytes + "x");
  EXPECT_SEIGH_ERROR(Hdf5Reader(folder / "b.h5"), "longer");
  write_file(folder / "b.h5", bytes.substr(0, bytes.size() - 1));
  EXPECT_SEIGH_ERROR(Hdf5Reader(folder / "b.h5"), "truncated");
  write_file(folder / "b.h5", bytes.substr(0, 300));
  EXPECT_SEIGH_ERROR(Hdf5Reader(folder / "b.h5"), "seal");
}

}  // namespace
}  // namespace seigh
