#include "seigh/io/hdf5.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::TempFolder;

at::Tensor integers(std::vector<int64_t> values) {
  at::Tensor t = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), t.data_ptr<int64_t>());
  return t;
}

TEST(Hdf5, RoundTripsEveryDtypeShapeAndLayout) {
  const TempFolder folder;
  const at::Tensor base = at::arange(24, at::kDouble);
  std::map<std::string, at::Tensor> tensors;
  for (const at::ScalarType dtype : {at::kByte, at::kDouble, at::kFloat, at::kLong, at::kInt})
    tensors[c10::toString(dtype)] = base.to(dtype).reshape({2, 3, 4});
  for (const at::ScalarType dtype : {at::kComplexFloat, at::kComplexDouble})
    tensors[c10::toString(dtype)] = at::complex(base, -base.flip(0)).to(dtype).reshape({2, 3, 4});
  tensors["conjugate"] = at::complex(base, -base.flip(0)).conj();  // which only a flag says
  tensors["columns"] = base.reshape({4, 6}).t();
  tensors["every other"] = base.slice(0, 0, 24, 2);
  tensors["scalar"] = base[7];
  tensors["none"] = at::empty({0, 5}, at::kInt);
  {
    Hdf5Writer writer(folder / "deep/a.h5");
    for (const auto& [name, tensor] : tensors) writer.write(name, tensor);
    EXPECT_FALSE(fs::exists(folder / "deep/a.h5"));
    writer.commit();
  }
  const Hdf5Reader reader(folder / "deep/a.h5");
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    names.push_back(name);
    EXPECT_TRUE(reader.has(name));
    EXPECT_EQ(reader.shape(name), tensor.sizes().vec()) << name;
    const at::Tensor read = reader.read(name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(read.is_contiguous()) << name;
    EXPECT_TRUE(at::equal(read, tensor)) << name;
  }
  EXPECT_EQ(reader.names(), names);
  EXPECT_FALSE(reader.has("absent"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "deep"), fs::directory_iterator()), 1);
}

TEST(Hdf5, BlocksLargerThanASlabRoundTrip) {
  const TempFolder folder;
  // 72 MiB in columns: the 64 MiB slabs of the writer end inside.
  const at::Tensor block = at::arange(9 << 20, at::kDouble).reshape({9, 1 << 20}).t();
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.write("block", block);
    writer.commit();
  }
  EXPECT_TRUE(at::equal(Hdf5Reader(folder / "a.h5").read("block"), block));
}

TEST(Hdf5, RoundTripsAttributes) {
  const TempFolder folder;
  const std::map<std::string, Hdf5Attribute> attributes = {{"seed", int64_t{-9'007'199'254'740'993}},
                                                           {"tolerance", 1e-300},
                                                           {"recipe", std::string("größe = \"π\"\n")},
                                                           {"nothing", std::string()},
                                                           {"long", std::string(100'000, 'x')}};
  {
    Hdf5Writer writer(folder / "a.h5");
    for (const auto& [name, value] : attributes) writer.attribute(name, value);
    EXPECT_SEIGH_ERROR(writer.attribute("zero", std::string("a\0b", 3)), "zero byte");
    writer.commit();
  }
  EXPECT_EQ(Hdf5Reader(folder / "a.h5").attributes(), attributes);
}

TEST(Hdf5, ReadRowsInAnyOrderWithRepeats) {
  const TempFolder folder;
  // Rows of 24 KB: two neighbours share a slab, distant ones do not.
  const at::Tensor x = at::arange(200 * 3000, at::kDouble).reshape({200, 3000});
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.write("x", x);
    writer.write("vector", x[0]);
    writer.write("thin", at::empty({4, 0}));
    writer.commit();
  }
  const Hdf5Reader reader(folder / "a.h5");
  for (const std::vector<int64_t>& rows : {std::vector<int64_t>{},
                                           {7},
                                           {0, 199},
                                           {5, 3, 5, 199, 0, 4, 5},
                                           {100, 101, 102, 103, 104, 105},
                                           {150, 100, 50, 148}}) {
    const at::Tensor index = integers(rows);
    EXPECT_TRUE(at::equal(reader.read_rows("x", index), x.index_select(0, index)));
  }
  const at::Tensor every = at::arange(0, 400, 2, at::kLong);  // a strided index
  EXPECT_TRUE(at::equal(reader.read_rows("x", every.slice(0, 0, 100, 3)),
                        x.index_select(0, every.slice(0, 0, 100, 3))));
  EXPECT_EQ(reader.read_rows("thin", integers({3, 1})).sizes(), at::IntArrayRef({2, 0}));
  EXPECT_SEIGH_ERROR(reader.read_rows("x", integers({3, 200})), "'x'", "row 200", "200 rows");
  EXPECT_SEIGH_ERROR(reader.read_rows("x", integers({-1})), "row -1");
  EXPECT_SEIGH_ERROR(reader.read_rows("x", at::zeros({1})), "int64");
  EXPECT_SEIGH_ERROR(reader.read_rows("vector", integers({0})), "rank 1");
  EXPECT_SEIGH_ERROR(reader.read_rows("absent", integers({0})), "'absent'", "missing");
}

// Written by h5py (tests/data/io/make.py): groups, compression, other widths and byte orders, all kinds of
// attributes.
TEST(Hdf5, ReadsWhatH5pyWrites) {
  const Hdf5Reader reader(SEIGH_TEST_DATA "/io/h5py.h5");
  const at::Tensor x = at::arange(12, at::kDouble).reshape({4, 3});

  EXPECT_EQ(reader.names(),
            (std::vector<std::string>{"big_endian", "bool", "empty", "half", "int16", "packed", "text"}));
  const auto expect = [&](const char* name, at::ScalarType dtype) {
    const at::Tensor read = reader.read(name);
    EXPECT_EQ(read.scalar_type(), dtype) << name;
    EXPECT_TRUE(at::equal(read, x.to(dtype))) << name;
  };
  expect("big_endian", at::kDouble);
  expect("half", at::kDouble);
  expect("int16", at::kLong);
  expect("packed", at::kFloat);
  expect("group/inner", at::kByte);
  EXPECT_TRUE(reader.has("group/inner"));
  EXPECT_FALSE(reader.has("group"));
  EXPECT_FALSE(reader.has("group/absent/deeper"));
  EXPECT_TRUE(at::equal(reader.read_rows("packed", integers({3, 0})),
                        x.to(at::kFloat).index_select(0, integers({3, 0}))));
  EXPECT_SEIGH_ERROR(reader.read("bool"), "'bool'", "uint8");
  EXPECT_SEIGH_ERROR(reader.read("text"), "'text'", "neither");
  EXPECT_SEIGH_ERROR(reader.read("empty"), "'empty'", "is empty");
  EXPECT_SEIGH_ERROR(reader.read("group"), "'group'", "missing");
  EXPECT_FALSE(reader.sealed());
  EXPECT_TRUE(reader.attributes().empty());  // of somebody else's file none are read
  EXPECT_SEIGH_ERROR(Hdf5Reader(SEIGH_TEST_DATA "/io/h5py.h5", Maker::seigh), "no checksum");
}

TEST(Hdf5, H5pyReadsWhatSeighWrites) {
  const TempFolder folder;
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.write("x", at::arange(6, at::kFloat).reshape({3, 2}).t());
    writer.attribute("text", std::string("größe"));
    writer.attribute("count", int64_t{3});
    writer.commit();
  }
  const std::string script =
      "import h5py, numpy, sys\n"
      "f = h5py.File(sys.argv[1], 'r')\n"
      "assert f['x'].dtype == '<f4' and (f['x'][...] == numpy.arange(6).reshape(3, 2).T).all()\n"
      "assert f.attrs['text'].decode() == 'gr\\u00f6\\u00dfe' and f.attrs['count'] == 3\n";
  EXPECT_EQ(std::system((SEIGH_PYTHON " -c \"" + script + "\" '" + (folder / "a.h5").string() + "'").c_str()),
            0);
}

TEST(Hdf5, MissingForeignAndTruncatedFilesAreErrors) {
  const TempFolder folder;
  EXPECT_SEIGH_ERROR(Hdf5Reader(folder / "a.h5"), (folder / "a.h5").string(), "no such file");
  EXPECT_SEIGH_ERROR(Hdf5Reader(folder.path()), "folder");
  write_file(folder / "text", std::string(5000, 'x'));
  EXPECT_SEIGH_ERROR(Hdf5Reader(folder / "text"), (folder / "text").string(), "not an HDF5 file");
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.write("x", at::arange(100, at::kFloat));
    writer.attribute("text", std::string("abc"));
    writer.commit();
  }
  const std::string bytes = read_file(folder / "a.h5");
  // Every byte of the superblock, then in larger steps.
  for (size_t size = 0; size < bytes.size(); size += size < 100 ? 1 : 37) {
    write_file(folder / "short.h5", bytes.substr(0, size));
    EXPECT_SEIGH_ERROR(Hdf5Reader(folder / "short.h5"), (folder / "short.h5").string());
  }
}

TEST(Hdf5, UncommittedWriterLeavesTheOldFileAndNoTemporary) {
  const TempFolder folder;
  write_file(folder / "a.h5", "old");
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.write("x", at::zeros({1000}));
  }
  EXPECT_EQ(read_file(folder / "a.h5"), "old");
  EXPECT_EQ(folder.entries(), 1);
}

// Bit for bit, subnormal numbers and infinity too; read as float64, which holds them all.
TEST(Hdf5, WritesSixteenBits) {
  const TempFolder folder;
  const std::pair<at::ScalarType, int> kinds[] = {{at::kHalf, 0x7c00}, {at::kBFloat16, 0x7f80}};
  for (const auto& [dtype, infinity] : kinds) {
    const at::Tensor bits = at::arange(0, infinity + 1, at::kInt).to(at::kShort);  // 0 to infinity
    const at::Tensor numbers = at::cat({bits.view(dtype), -bits.view(dtype)});
    {
      Hdf5Writer writer(folder / "a.h5");
      writer.write("x", numbers);
      writer.commit();
    }
    const at::Tensor read = Hdf5Reader(folder / "a.h5").read("x");
    EXPECT_EQ(read.scalar_type(), at::kDouble);
    EXPECT_TRUE(at::equal(read, numbers.to(at::kDouble)));
  }
}

TEST(Hdf5, WhatCannotBeWrittenIsAnError) {
  const TempFolder folder;
  write_file(folder / "file", "");
  EXPECT_SEIGH_ERROR(Hdf5Writer(folder / "file/a.h5"), (folder / "file/a.h5").string(), "--out");
  {
    Hdf5Writer writer(folder / "a.h5");
    EXPECT_SEIGH_ERROR(writer.write("x", at::zeros({2}, at::kShort)), "'x'", "Short");
    EXPECT_SEIGH_ERROR(writer.write("x", at::Tensor()), "'x'", "undefined");
    writer.write("x", at::zeros({2}));
    EXPECT_SEIGH_ERROR(writer.write("x", at::zeros({2})), "'x'", "a.h5");
  }
  {
    Hdf5Writer writer(folder / "b.h5");
    writer.commit();
    EXPECT_SEIGH_ERROR(writer.write("x", at::zeros({2})), "committed");
    EXPECT_SEIGH_ERROR(writer.commit(), "committed");
  }
  EXPECT_TRUE(Hdf5Reader(folder / "b.h5").names().empty());
  EXPECT_EQ(folder.entries(), 2);
}

struct Unmount {
  const fs::path& disk;
  ~Unmount() { ::umount2(disk.c_str(), MNT_DETACH); }
};

// Writes a file of about 100 KB on disks of 4 KB, 8 KB, ...: the disk fills up at every stage of the work. In
// a child process, because libhdf5 tidies up when a process ends, and there too a failed close would crash,
// hang or print.
TEST(Hdf5, FullDiskIsAnErrorAtEveryStage) {
  const TempFolder folder;
  const fs::path disk = folder / "disk";
  fs::create_directory(disk);
  int full = 0, written = 0;
  for (int pages = 2; pages <= 60; ++pages) {
    std::string size = "size=";
    size += std::to_string(4 * pages);
    size += "k";
    if (::mount("none", disk.c_str(), "tmpfs", 0, size.c_str()) != 0)
      GTEST_SKIP() << "needs the right to mount a tmpfs";
    const Unmount unmount{disk};
    const fs::path log = folder / "log";
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);  // a hang ends as a signal
      std::FILE* err = std::freopen(log.c_str(), "w", stderr);
      int code = 3;
      try {
        Hdf5Writer writer(disk / "a.h5");
        for (int i = 0; i < 40; ++i) {
          writer.write(std::to_string(i), at::zeros({i % 3 == 0 ? 1500 : 10}));
          writer.attribute(std::to_string(i), std::string(700, 'x'));
        }
        writer.commit();
        code = 0;
      } catch (const Error& error) {
        const bool clear =
            std::string(error.what()).find("No space left on device; free some space") != std::string::npos;
        const bool clean = fs::directory_iterator(disk) == fs::directory_iterator();
        if (!clear || !clean) std::fprintf(stderr, "%s\n", error.what());
        code = clear && clean ? 1 : 2;
      }
      if (err != nullptr) std::fflush(err);
      std::exit(code);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(read_file(log), "") << size;
    ASSERT_TRUE(WIFEXITED(status)) << size << ": ended by signal " << WTERMSIG(status);
    const int code = WEXITSTATUS(status);
    EXPECT_LE(code, 1) << size;
    if (code == 0) {
      EXPECT_EQ(Hdf5Reader(disk / "a.h5").names().size(), 40u) << size;
      ++written;
    }
    full += code == 1;
  }
  EXPECT_GT(full, 10);
  EXPECT_GT(written, 0);
}

TEST(Hdf5, DataSetsFilledInByPieces) {
  const test::TempFolder folder;
  const at::Tensor x = at::arange(35, at::kFloat).reshape({7, 5});
  {
    Hdf5Writer writer(folder / "a.h5");
    writer.create("x", at::kFloat, {7, 5});
    writer.put("x", {0, 2}, x.slice(1, 2));
    writer.put("x", {0, 0}, x.slice(1, 0, 2).slice(0, 0, 4));
    writer.put("x", {4, 0}, x.slice(1, 0, 2).slice(0, 4));
    writer.commit();
  }
  const Hdf5Reader reader(folder / "a.h5");
  EXPECT_TRUE(at::equal(reader.read("x"), x));
  EXPECT_EQ(reader.dtype("x"), at::kFloat);
  EXPECT_GT(reader.offset("x", at::kFloat), 0);
  EXPECT_SEIGH_ERROR(reader.offset("x", at::kDouble), "Double");
  Hdf5Writer writer(folder / "b.h5");
  writer.create("x", at::kFloat, {7, 5});
  EXPECT_SEIGH_ERROR(writer.put("x", {0, 2}, x), "'x'");  // beyond its edge
  Hdf5Writer twice(folder / "c.h5");
  twice.create("x", at::kFloat, {7, 5});
  EXPECT_SEIGH_ERROR(twice.create("x", at::kFloat, {7, 5}), "'x'");
}

}  // namespace
}  // namespace seigh
