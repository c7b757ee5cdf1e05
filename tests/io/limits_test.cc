#include "seigh/io/limits.h"

#include <gtest/gtest.h>

#include <string>

#include "seigh/core/context.h"
#include "seigh/core/memory.h"
#include "seigh/core/timer.h"
#include "seigh/io/file.h"
#include "seigh/io/npy.h"
#include "seigh/io/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::TempFolder;

std::string repeated(const std::string& text, int64_t times) {
  std::string all;
  all.reserve(text.size() * static_cast<size_t>(times));
  for (int64_t i = 0; i < times; ++i) all += text;
  return all;
}

std::string safetensors(const std::string& header) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i) & 255);
  return bytes + header;
}

TEST(Limits, SizesAreHeldAgainstTheMemory) {
  EXPECT_GT(room(), 1 << 20);
  EXPECT_NO_THROW(require_room("it", 1000));
  EXPECT_SEIGH_ERROR(require_room("it", int64_t{1} << 62), "it is too large", "memory");
  EXPECT_SEIGH_ERROR(empty_for("it", {int64_t{1} << 62, 8}, at::kDouble), "it is too large");
  EXPECT_SEIGH_ERROR(empty_for("it", {int64_t{1} << 40, 8}, at::kDouble), "it is too large");
  EXPECT_SEIGH_ERROR(empty_for("it", {0, int64_t{1} << 62, 8}, at::kDouble), "it is too large");
  EXPECT_SEIGH_ERROR(empty_for("it", {3, -1}, at::kDouble), "negative");
  EXPECT_SEIGH_ERROR(empty_for("it", std::vector<int64_t>(65, 1), at::kDouble), "65 dimensions");
  EXPECT_EQ(empty_for("it", {3, 0, 5}, at::kByte).numel(), 0);
  EXPECT_EQ(empty_for("it", {}, at::kByte).numel(), 1);
}

TEST(Limits, ACeilingIsTheLimit) {
  if (!Memory(0).obstacle().empty()) GTEST_SKIP() << "without the pool there is no ceiling";
  const int64_t ceiling = int64_t{2} << 30;
  const Context context(ContextOptions{.memory = ceiling});
  const Context::Scope scope(context);
  EXPECT_LE(room(), ceiling);
  EXPECT_SEIGH_ERROR(require_room("it", ceiling), "it is too large");
  EXPECT_SEIGH_ERROR(empty_for("it", {ceiling}, at::kByte), "memory");
}

TEST(Limits, PlainToml) {
  for (const char* good :
       {"a.b = 0.5",
        "x = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]",
        "x = \"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t\"", "# a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t",
        "x = '''\na.b.c.d.e.f.g.h.i.j.k\n.l.m.n.o.p.q.r.s.t'''\n",
        "x = \"\\\"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s\"", "x = '", "x = \"\"\"", "", "#"})
    EXPECT_NO_THROW(require_plain_toml(good, "r.toml")) << good;
  const std::string deep = "a" + repeated(".a", 100'000);
  EXPECT_SEIGH_ERROR(require_plain_toml("x = 1\n" + deep + " = 1", "r.toml"), "r.toml:2", "parts");
  EXPECT_SEIGH_ERROR(require_plain_toml("[" + deep + "]", "r.toml"), "r.toml:1", "parts");
  EXPECT_SEIGH_ERROR(require_plain_toml("x = {" + deep + " = 1}", "r.toml"), "r.toml:1", "parts");
  EXPECT_SEIGH_ERROR(require_plain_toml("a" + repeated(" . \"a\"", 40) + " = 1", "r.toml"), "parts");
  EXPECT_SEIGH_ERROR(require_plain_toml(std::string(kMostRecipeBytes + 1, 'x'), "r.toml"), "no recipe");
}

TEST(Limits, PlainJson) {
  EXPECT_NO_THROW(require_plain_json(R"({"a": [1, {"b": "[[[[\"[["}], "c": "\\"})", "page"));
  EXPECT_NO_THROW(require_plain_json(repeated("[", 64) + repeated("]", 64), "page"));
  EXPECT_SEIGH_ERROR(require_plain_json(repeated("[", 65), "page"), "page", "64 levels");
  EXPECT_SEIGH_ERROR(require_plain_json(repeated("{\"a\":", 50'000'000 / 5), "page"), "64 levels");
}

// Neither stack nor memory nor time beyond the file's size: twice as many keys take about twice the time,
// where comparing each with all before takes four times.
TEST(Limits, SafetensorsHeaders) {
  const TempFolder folder;
  const fs::path path = folder / "a";
  const auto refused = [&](const std::string& header, const std::string& why) {
    write_file(path, safetensors(header));
    EXPECT_SEIGH_ERROR(read_safetensors(path), path.string(), why);
    EXPECT_SEIGH_ERROR(read_safetensors_metadata(path), path.string(), why);
  };
  for (const std::string key : {"__metadata__", "w"}) {
    refused("{\"" + key + "\":" + repeated("{\"a\":", 300'000), key == "w" ? "no number" : "not a string");
    refused("{\"" + key + "\":" + repeated("[", 300'000), key == "w" ? "lacks" : "not an object");
  }
  for (const std::string key : {"dtype", "shape", "data_offsets", "other"})
    refused("{\"w\":{\"" + key + "\":" + repeated("[", 300'000), "");
  refused(
      "{\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
      "\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
      "twice");
  refused("{\"" + std::string(1 << 20, 'x') + "\":3}", "...");
  const auto seconds = [&](int64_t keys) {
    std::string header = "{";
    for (int64_t i = 0; i < keys; ++i)
      header +=
          (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    write_file(path, safetensors(header + "}"));
    const Timer timer;
    EXPECT_EQ(read_safetensors(path).tensors.size(), static_cast<size_t>(keys));
    return timer.seconds();
  };
  seconds(1000);
  const double few = seconds(40'000), many = seconds(160'000);
  EXPECT_LT(many, 10 * few + 0.2);  // 16 times where it is quadratic
}

TEST(Limits, NpyHeaders) {
  const TempFolder folder;
  const auto refused = [&](const std::string& shape, const std::string& why) {
    const std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (" + shape + "), }";
    std::string bytes("\x93NUMPY\x02\0", 8);
    for (size_t i = 0; i < 4; ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 255);
    write_file(folder / "a.npy", bytes + header + "x");
    EXPECT_SEIGH_ERROR(read_npy(folder / "a.npy"), "a.npy", why);
  };
  refused(repeated("1,", 65), "65 dimensions");
  refused(repeated("1,", 3'000'000), "damaged .npy header");
}

TEST(Limits, FilesWithoutAnEnd) {
  EXPECT_SEIGH_ERROR(read_file("/dev/zero", 1 << 20), "/dev/zero", "more than 1048576 bytes");
  EXPECT_SEIGH_ERROR(read_npy("/dev/zero"), "/dev/zero", "no file");
  EXPECT_SEIGH_ERROR(read_safetensors("/dev/zero"), "/dev/zero", "no file");
}

}  // namespace
}  // namespace seigh
