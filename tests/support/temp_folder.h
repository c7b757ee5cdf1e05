// A folder of its own for each test that writes files.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <iterator>
#include <string>

#include "seigh/core/filesystem.h"

namespace seigh::test {

/// A new empty folder, removed with its content at the end of its life.
class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> count{0};
    path_ = fs::path(::testing::TempDir()) /
            ("seigh-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TempFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }
  /// Number of entries in the folder: shows leftovers of temporary files.
  int64_t entries() const { return std::distance(fs::directory_iterator(path_), fs::directory_iterator()); }

 private:
  fs::path path_;
};

}  // namespace seigh::test
