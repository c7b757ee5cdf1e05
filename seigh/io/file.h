// Whole files: read, and written completely or not at all.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "seigh/core/filesystem.h"

namespace seigh {

/// A file under construction beside its final place. commit() flushes it to disk and renames it; without
/// commit the destructor removes it, so `path` is never half written, whatever kills the process.
class AtomicFile {
 public:
  /// Creates missing parent folders and an empty temporary. Throws Error, naming the path and the reason,
  /// when the folder cannot be written or `path` is a folder or special file.
  explicit AtomicFile(fs::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Where the file will be.
  const fs::path& path() const { return path_; }
  /// Where to write: unique_name(path), in the same folder.
  const fs::path& temporary() const { return temporary_; }
  /// fsync, rename, fsync of the folder; the caller has closed the temporary. Throws Error (a full disk, say)
  /// and leaves `path` as it was.
  void commit();

 private:
  fs::path path_, temporary_;
  bool committed_ = false;
};

/// `path` + ".tmp-" and sixteen random digits: no process, on whatever machine, takes the same one.
fs::path unique_name(const fs::path& path);

/// Writes `bytes` to `path` through an AtomicFile. Throws Error when the disk is full or the folder not
/// writable.
void write_file(const fs::path& path, std::string_view bytes);
/// The bytes of a file. Throws Error naming the path when it is missing, unreadable, or larger than there is
/// room for (limits.h) or than `most` bytes.
std::string read_file(const fs::path& path, int64_t most = std::numeric_limits<int64_t>::max());

}  // namespace seigh
