// Who works in a folder: a lock on its file .lock, which holds the number and the host of a process.
#pragma once

#include <utility>

#include "seigh/core/filesystem.h"

namespace seigh {

/// Held for the life of the object; gone when the process is.
class FolderLock {
 public:
  FolderLock() = default;
  /// `shared`: beside others that share it, too. Throws Error naming the process that holds it.
  FolderLock(const fs::path& folder, bool shared);
  FolderLock(FolderLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  FolderLock& operator=(FolderLock&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~FolderLock();

 private:
  int file_ = -1;
};

}  // namespace seigh
