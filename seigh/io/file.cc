#include "seigh/io/file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/io/crc64.h"
#include "seigh/io/limits.h"

namespace seigh {

namespace {

[[noreturn]] void fail_writing(const fs::path& path, int error) {
  const char* advice = error == ENOSPC || error == EDQUOT
                           ? "; free some space or choose another folder with --out"
                           : "; choose another folder with --out";
  fail_file(path, "cannot write ", path.string(), ": ", std::strerror(error), advice);
}

[[noreturn]] void fail_reading(const fs::path& path, const std::string& why) {
  fail_file(path, "cannot read ", path.string(), ": ", why);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  bool ok() const { return value_ >= 0; }

 private:
  int value_;
};

}  // namespace

fs::path unique_name(const fs::path& path) {
  uint64_t number = 0;
  require(::getrandom(&number, sizeof(number), 0) == sizeof(number),
          "the system has no random numbers: ", std::strerror(errno));
  fs::path name = path;
  return name += ".tmp-" + hexadecimal(number);
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  require_file(path_, path_.has_filename(), "cannot write '", path_.string(),
               "': it names no file; give a file name");
  std::error_code error;
  // Refused now rather than by rename() after hours of work; and a rename over /dev/null would replace the
  // device.
  const fs::file_status status = fs::status(path_, error);
  require_file(path_, !fs::exists(status) || fs::is_regular_file(status), "cannot write ", path_.string(),
               ": a folder or special file of this name exists; choose another name");
  fs::create_directories(folder_of(path_), error);
  if (error) fail_writing(path_, error.value());
  temporary_ = unique_name(path_);
  const Descriptor file(temporary_, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
  if (!file.ok()) fail_writing(path_, errno);
}

AtomicFile::~AtomicFile() {
  std::error_code ignored;
  if (!committed_) fs::remove(temporary_, ignored);
}

void AtomicFile::commit() {
  require_file(path_, !committed_, "cannot write ", path_.string(), ": it was committed already");
  {
    // Data before name: otherwise a power cut could leave the new name on an empty file.
    const Descriptor file(temporary_, O_RDONLY);
    if (!file.ok() || ::fsync(file.get()) != 0) fail_writing(path_, errno);
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_writing(path_, errno);
  committed_ = true;
  // Makes the new name itself durable. Some network file systems cannot fsync a folder; the file is complete
  // anyway.
  const Descriptor folder(folder_of(path_), O_RDONLY | O_DIRECTORY);
  if (folder.ok()) ::fsync(folder.get());
}

void write_file(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  {
    const Descriptor out(file.temporary(), O_WRONLY | O_TRUNC);
    if (!out.ok()) fail_writing(path, errno);
    while (!bytes.empty()) {
      const ssize_t count = ::write(out.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail_writing(path, errno);
      bytes.remove_prefix(static_cast<size_t>(count));
    }
  }
  file.commit();
}

std::string read_file(const fs::path& path, int64_t most) {
  const Descriptor in(path, O_RDONLY);
  if (!in.ok()) fail_reading(path, std::strerror(errno));
  std::string bytes;
  std::error_code no_size;  // pipes and /proc have none; the loop below serves them too
  const auto size = fs::file_size(path, no_size);
  size_t used = 0;
  const auto resize = [&](size_t count) {
    require_room("cannot read " + path.string() + ": it", static_cast<int64_t>(count));
    bytes.resize(count);
  };
  const auto limit = static_cast<uint64_t>(most);
  resize(static_cast<size_t>(std::min(no_size ? 0 : size, limit)) + 4096);
  while (true) {
    if (used > limit) fail_reading(path, "it has more than " + std::to_string(most) + " bytes");
    if (used == bytes.size()) resize(2 * bytes.size());
    const ssize_t count = ::read(in.get(), bytes.data() + used, bytes.size() - used);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_reading(path, std::strerror(errno));
    if (count == 0) break;
    used += static_cast<size_t>(count);
  }
  bytes.resize(used);
  return bytes;
}

}  // namespace seigh
