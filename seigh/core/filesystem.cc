#include "seigh/core/filesystem.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "seigh/core/error.h"

namespace seigh::fs {
namespace {

std::error_code last_error() {
  return {errno, std::generic_category()};
}

void require_done(const std::error_code& error, const char* what, const path& p) {
  require_file(p, !error, "cannot ", what, " ", p.string(), ": ", error.message());
}

// Whether the call went well; says so in `error`.
bool done(int result, std::error_code& error) {
  error = result == 0 ? std::error_code() : last_error();
  return result == 0;
}

file_type type_of(mode_t mode) {
  return S_ISREG(mode)   ? file_type::regular
         : S_ISDIR(mode) ? file_type::directory
         : S_ISCHR(mode) ? file_type::character
                         : file_type::other;
}

}  // namespace

path path::filename() const {
  const size_t slash = text_.rfind('/');
  return slash == std::string::npos ? text_ : text_.substr(slash + 1);
}

path path::extension() const {
  const std::string name = filename().text_;
  const size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 || name == ".." ? std::string() : name.substr(dot);
}

path path::stem() const {
  const std::string name = filename().text_;
  return name.substr(0, name.size() - extension().text_.size());
}

path path::parent_path() const {
  size_t end = text_.rfind('/');
  if (end == std::string::npos) return {};
  while (end > 0 && text_[end - 1] == '/') --end;
  return end == 0 ? std::string("/") : text_.substr(0, end);
}

path path::lexically_normal() const {
  if (text_.empty()) return {};
  std::vector<std::string> parts;
  bool trailing = false;
  for (size_t begin = 0; begin <= text_.size();) {
    const size_t end = std::min(text_.find('/', begin), text_.size());
    const std::string part = text_.substr(begin, end - begin);
    trailing = part.empty() || part == "." || part == "..";
    if (part == "..") {
      if (!parts.empty() && parts.back() != "..") {
        parts.pop_back();
      } else if (!is_absolute()) {
        parts.push_back(part);
        trailing = false;
      }
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    begin = end + 1;
  }
  std::string result = is_absolute() ? "/" : "";
  for (size_t i = 0; i < parts.size(); ++i) result.append(i > 0 ? "/" : "").append(parts[i]);
  if (trailing && !parts.empty() && parts.back() != "..") result += '/';
  return result.empty() ? std::string(".") : result;
}

path& path::operator/=(const path& other) {
  if (other.is_absolute()) {
    text_ = other.text_;
    return *this;
  }
  if (!text_.empty() && text_.back() != '/') text_ += '/';
  text_ += other.text_;
  return *this;
}

file_status status(const path& p, std::error_code& error) {
  struct stat s = {};
  if (done(::stat(p.c_str(), &s), error)) return {type_of(s.st_mode)};
  const bool absent = errno == ENOENT || errno == ENOTDIR;
  if (absent) error.clear();
  return {absent ? file_type::not_found : file_type::none};
}

bool exists(const path& p, std::error_code& error) {
  return exists(status(p, error));
}
bool exists(const path& p) {
  std::error_code error;
  const bool there = exists(p, error);
  require_done(error, "look at", p);
  return there;
}
bool is_directory(const path& p, std::error_code& error) {
  return is_directory(status(p, error));
}
bool is_directory(const path& p) {
  std::error_code none;
  return is_directory(p, none);
}
bool is_regular_file(const path& p, std::error_code& error) {
  return is_regular_file(status(p, error));
}
bool is_character_file(const path& p) {
  std::error_code none;
  return status(p, none).type == file_type::character;
}

bool is_symlink(const path& p) {
  struct stat s = {};
  return ::lstat(p.c_str(), &s) == 0 && S_ISLNK(s.st_mode);
}

bool equivalent(const path& a, const path& b, std::error_code& error) {
  struct stat x = {}, y = {};
  return done(::stat(a.c_str(), &x), error) && done(::stat(b.c_str(), &y), error) && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}

uint64_t file_size(const path& p, std::error_code& error) {
  struct stat s = {};
  if (!done(::stat(p.c_str(), &s), error)) return static_cast<uint64_t>(-1);
  if (S_ISREG(s.st_mode)) return static_cast<uint64_t>(s.st_size);
  error = std::make_error_code(S_ISDIR(s.st_mode) ? std::errc::is_a_directory : std::errc::not_supported);
  return static_cast<uint64_t>(-1);
}

void resize_file(const path& p, uint64_t bytes, std::error_code& error) {
  done(::truncate(p.c_str(), static_cast<off_t>(bytes)), error);
}

space_info space(const path& p, std::error_code& error) {
  struct statvfs s = {};
  if (!done(::statvfs(p.c_str(), &s), error)) return {};
  const uint64_t unit = s.f_frsize;
  return {s.f_blocks * unit, s.f_bfree * unit, s.f_bavail * unit};
}

bool create_directory(const path& p) {
  std::error_code error;
  const bool made = done(::mkdir(p.c_str(), 0777), error);
  if (!made && error.value() == EEXIST && is_directory(p)) return false;
  require_done(error, "create", p);
  return made;
}

bool create_directories(const path& p, std::error_code& error) {
  error.clear();
  if (p.empty() || is_directory(p)) return false;
  if (const path parent = p.parent_path(); !parent.empty() && parent.string() != p.string()) {
    create_directories(parent, error);
    if (error) return false;
  }
  if (!p.has_filename()) return false;  // "a/": its parent, "a", is made
  if (done(::mkdir(p.c_str(), 0777), error)) return true;
  // Another process may have been quicker.
  if (error.value() == EEXIST && is_directory(p)) {
    error.clear();
  } else if (error.value() == EEXIST) {
    error = std::make_error_code(std::errc::not_a_directory);
  }
  return false;
}

bool create_directories(const path& p) {
  std::error_code error;
  const bool made = create_directories(p, error);
  require_done(error, "create", p);
  return made;
}

bool remove(const path& p, std::error_code& error) {
  const bool gone = done(std::remove(p.c_str()), error);
  if (!gone && error.value() == ENOENT) error.clear();
  return gone;
}
bool remove(const path& p) {
  std::error_code error;
  const bool gone = remove(p, error);
  require_done(error, "remove", p);
  return gone;
}

uint64_t remove_all(const path& p, std::error_code& error) {
  error.clear();
  struct stat s = {};
  if (::lstat(p.c_str(), &s) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) error = last_error();
    return 0;
  }
  uint64_t count = 0;
  if (S_ISDIR(s.st_mode)) {
    directory_iterator it(p, error);
    for (const directory_iterator end; !error && !(it == end); ++it) count += remove_all(it->path(), error);
    if (error) return count;
  }
  return count + (remove(p, error) ? 1 : 0);
}
uint64_t remove_all(const path& p) {
  std::error_code error;
  const uint64_t count = remove_all(p, error);
  require_done(error, "remove", p);
  return count;
}

void rename(const path& from, const path& to, std::error_code& error) {
  done(::rename(from.c_str(), to.c_str()), error);
}

path current_path() {
  char text[PATH_MAX];
  require(::getcwd(text, sizeof(text)) != nullptr,
          "the current folder cannot be told: ", last_error().message());
  return text;
}
void current_path(const path& p) {
  std::error_code error;
  done(::chdir(p.c_str()), error);
  require_done(error, "enter", p);
}
path absolute(const path& p) {
  return p.is_absolute() ? p : current_path() / p;
}
path temp_directory_path() {
  const char* const chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/tmp";
}

struct directory_iterator::Entries {
  std::vector<directory_entry> all;
};

directory_iterator::directory_iterator(const path& folder) {
  std::error_code error;
  read(folder, error);
  require_done(error, "read", folder);
}
directory_iterator::directory_iterator(const path& folder, std::error_code& error) {
  read(folder, error);
}

void directory_iterator::read(const path& folder, std::error_code& error) {
  error.clear();
  DIR* const open = ::opendir(folder.c_str());
  if (open == nullptr) {
    error = last_error();
    return;
  }
  auto entries = std::make_shared<Entries>();
  errno = 0;
  for (const dirent* entry = ::readdir(open); entry != nullptr; entry = ::readdir(open)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") entries->all.emplace_back(folder / name);
    errno = 0;
  }
  if (errno != 0) error = last_error();
  ::closedir(open);
  if (!error) entries_ = std::move(entries);
}

size_t directory_iterator::left() const {
  return entries_ ? entries_->all.size() - at_ : 0;
}
const directory_entry& directory_iterator::operator*() const {
  return entries_->all[at_];
}
directory_iterator& directory_iterator::operator++() {
  ++at_;
  return *this;
}
directory_iterator& directory_iterator::increment(std::error_code& error) {
  error.clear();
  return ++*this;
}

}  // namespace seigh::fs
