#include "seigh/io/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <string>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::TempFolder;

TEST(File, WritesAndReadsAnyBytes) {
  const TempFolder folder;
  std::string bytes(100'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);

  write_file(folder / "deep/er/file.bin", bytes);

  EXPECT_EQ(read_file(folder / "deep/er/file.bin"), bytes);
  write_file(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty"), "");
}

TEST(File, ReadsFilesWithoutASize) {
  EXPECT_NE(read_file("/proc/self/status").find("Name:"), std::string::npos);
}

TEST(File, ReplacesAFileAndLeavesNoTemporary) {
  const TempFolder folder;
  write_file(folder / "a", "a long first version");
  write_file(folder / "a", "second");
  EXPECT_EQ(read_file(folder / "a"), "second");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(File, RelativePathWithoutFolder) {
  const TempFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_file("plain", "x");
  fs::current_path(before);
  EXPECT_EQ(read_file(folder / "plain"), "x");
}

TEST(File, UncommittedFileLeavesTheOldOneAndNoTemporary) {
  const TempFolder folder;
  write_file(folder / "a", "old");
  {
    const AtomicFile file(folder / "a");
    EXPECT_EQ(file.temporary().parent_path(), folder.path());
    EXPECT_TRUE(fs::exists(file.temporary()));
    EXPECT_EQ(read_file(folder / "a"), "old");
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(File, MissingFileIsNamed) {
  const TempFolder folder;
  EXPECT_SEIGH_ERROR(read_file(folder / "nothing"), (folder / "nothing").string(), "No such file");
  EXPECT_SEIGH_ERROR(read_file(folder.path()), folder.path().string(), "Is a directory");
}

TEST(File, UnwritableFolderIsNamedAtOnce) {
  const TempFolder folder;
  write_file(folder / "file", "");
  EXPECT_SEIGH_ERROR(AtomicFile(folder / "file/x"), (folder / "file/x").string(), "Not a directory", "--out");
  EXPECT_SEIGH_ERROR(write_file("/proc/seigh/x", ""), "/proc/seigh/x", "--out");
}

TEST(File, FoldersAndDevicesAreNotReplaced) {
  const TempFolder folder;
  fs::create_directory(folder / "sub");
  EXPECT_SEIGH_ERROR(AtomicFile(folder / "sub"), (folder / "sub").string(), "another name");
  EXPECT_SEIGH_ERROR(AtomicFile("/dev/null"), "/dev/null", "another name");
  EXPECT_SEIGH_ERROR(AtomicFile(folder / "sub/"), "sub/", "file name");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST(File, VanishedTemporaryIsAnErrorAndKeepsTheOldFile) {
  const TempFolder folder;
  write_file(folder / "a", "old");
  AtomicFile file(folder / "a");
  fs::remove(file.temporary());
  EXPECT_SEIGH_ERROR(file.commit(), (folder / "a").string(), "No such file");
  EXPECT_EQ(read_file(folder / "a"), "old");
}

// A limit on file sizes fails write() half way, as a full disk does, and needs no privileges.
TEST(File, FailedWriteKeepsTheOldFileAndLeavesNoTemporary) {
  const TempFolder folder;
  write_file(folder / "a", "old");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);

  EXPECT_SEIGH_ERROR(write_file(folder / "a", std::string(2000, 'x')), (folder / "a").string(),
                     "File too large");

  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(folder.entries(), 1);
}

}  // namespace
}  // namespace seigh
