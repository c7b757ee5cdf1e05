#include "seigh/core/error.h"

#include <gtest/gtest.h>

#include "seigh/core/filesystem.h"
#include "seigh/io/file.h"

namespace seigh {
namespace {

TEST(Exceptions, AreOneFamily) {
  EXPECT_THROW(throw Cancelled(), Exception);
  EXPECT_THROW(throw MemoryError("no"), Error);
  try {
    read_file("/nowhere/at/all");
    FAIL();
  } catch (const FileError& error) {
    EXPECT_EQ(error.path(), "/nowhere/at/all");
    EXPECT_STREQ(error.what(), "cannot read /nowhere/at/all: No such file or directory");
  }
  // Who mends a bad file must not take a wish to stop for one.
  EXPECT_FALSE((std::is_base_of_v<Error, Cancelled>));
}

TEST(Path, HasTheStandardsParts) {
  const fs::path p = "/a/b.c/d.tar.gz";
  EXPECT_EQ(p.filename().string(), "d.tar.gz");
  EXPECT_EQ(p.extension().string(), ".gz");
  EXPECT_EQ(p.stem().string(), "d.tar");
  EXPECT_EQ(p.parent_path().string(), "/a/b.c");
  EXPECT_EQ(fs::path(".hidden").extension().string(), "");
  EXPECT_EQ(fs::path("a/").filename().string(), "");
  EXPECT_EQ(fs::path("/a").parent_path().string(), "/");
  EXPECT_EQ(fs::path("a").parent_path().string(), "");
  EXPECT_EQ((fs::path("a") / "b").string(), "a/b");
  EXPECT_EQ((fs::path("a/") / "/b").string(), "/b");
  for (const auto& [from, to] : {std::pair{"a/./b/../c", "a/c"},
                                 {"../a", "../a"},
                                 {"/../a", "/a"},
                                 {"a/..", "."},
                                 {"./", "."},
                                 {"a//b/", "a/b/"},
                                 {"", ""},
                                 {"/", "/"}})
    EXPECT_EQ(fs::path(from).lexically_normal().string(), to) << from;
}

}  // namespace
}  // namespace seigh
