#include "seigh/results/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include "seigh/core/error.h"

namespace seigh {
namespace {

std::string host() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

// Whose lock it is, as far as that can be told: "" of a process that has ended, which another one that shares
// the folder may have outlived.
std::string holder(int lock) {
  char text[HOST_NAME_MAX + 32] = {};
  if (::pread(lock, text, sizeof(text) - 1, 0) <= 0) return "";
  char* end = nullptr;
  const long process = std::strtol(text, &end, 10);
  if (process <= 0) return "";
  const std::string where = *end == ' ' ? end + 1 : "";
  if (!where.empty() && where != host()) return " (process " + std::to_string(process) + " on " + where + ")";
  const bool alive = ::kill(static_cast<pid_t>(process), 0) == 0 || errno == EPERM;
  return alive ? " (process " + std::to_string(process) + ")" : "";
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder, bool shared) {
  const fs::path lock = folder / ".lock";
  file_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  require(file_ >= 0, "cannot write ", lock.string(), ": ", std::strerror(errno),
          "; choose another folder with --out");
  if (::flock(file_, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    const int error = errno;
    const std::string who = holder(file_);
    ::close(std::exchange(file_, -1));
    require(error == EWOULDBLOCK, "cannot lock ", lock.string(), ": ", std::strerror(error),
            "; choose a folder on a file system with locks with --out");
    fail("another seigh", who, " is working in ", folder.string(),
         "; wait for it, or choose another folder with --out");
  }
  const std::string pid = std::to_string(::getpid()) + " " + host();
  if (::ftruncate(file_, 0) != 0 || ::pwrite(file_, pid.data(), pid.size(), 0) < 0) {
    // The process number only serves the message above; the lock itself holds without it.
  }
}

FolderLock::~FolderLock() {
  if (file_ >= 0) ::close(file_);
}

}  // namespace seigh
