// The part of std::filesystem that seigh uses, under the same names, on POSIX calls alone.
//
// libtorch's wheels export their own copies of std::filesystem's functions, made by another compiler. A
// program that leaves one of these symbols undefined gets libtorch's or libstdc++'s, whichever is loaded
// first, and may crash in a null jump when it gets the other's. So nothing of seigh uses std::filesystem
// (tests/house checks it).
//
// Functions with an std::error_code do not throw; those without throw Error.
#pragma once

#include <cstdint>
#include <iterator>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace seigh::fs {

/// A POSIX path. Made from strings and, without naming it, from an std::filesystem::path.
class path {
 public:
  path() = default;
  path(std::string text) : text_(std::move(text)) {}  // NOLINT: as std's
  path(std::string_view text) : text_(text) {}        // NOLINT
  path(const char* text) : text_(text) {}             // NOLINT
  template <typename Other,
            typename = std::enable_if_t<std::is_same_v<typename Other::string_type, std::string> &&
                                        !std::is_same_v<Other, path>>>
  path(const Other& other) : text_(other.native()) {}  // NOLINT

  const std::string& string() const { return text_; }
  const std::string& native() const { return text_; }
  const char* c_str() const { return text_.c_str(); }
  operator std::string() const { return text_; }  // NOLINT
  bool empty() const { return text_.empty(); }
  void clear() { text_.clear(); }

  /// "c.txt" of "a/b/c.txt", "" of "a/b/".
  path filename() const;
  /// ".txt" of "a/c.txt"; none of "a/.hidden".
  path extension() const;
  path stem() const;
  /// "a/b" of "a/b/c.txt".
  path parent_path() const;
  bool has_filename() const { return !filename().empty(); }
  bool has_parent_path() const { return !parent_path().empty(); }
  bool is_absolute() const { return !text_.empty() && text_.front() == '/'; }
  /// Without "." and, as far as it goes, "..".
  path lexically_normal() const;

  path& operator/=(const path& other);
  path& operator+=(std::string_view more) {
    text_ += more;
    return *this;
  }
  friend path operator/(path a, const path& b) { return a /= b; }
  friend bool operator==(const path& a, const path& b) { return a.text_ == b.text_; }
  friend bool operator<(const path& a, const path& b) { return a.text_ < b.text_; }
  friend std::ostream& operator<<(std::ostream& out, const path& p) { return out << p.text_; }

 private:
  std::string text_;
};

enum class file_type { none, not_found, regular, directory, character, other };
struct file_status {
  file_type type = file_type::none;
};
struct space_info {
  uint64_t capacity, free, available;
};

file_status status(const path& p, std::error_code& error);
inline bool exists(file_status s) {
  return s.type != file_type::none && s.type != file_type::not_found;
}
inline bool is_directory(file_status s) {
  return s.type == file_type::directory;
}
inline bool is_regular_file(file_status s) {
  return s.type == file_type::regular;
}
bool exists(const path& p, std::error_code& error);
bool exists(const path& p);
bool is_directory(const path& p, std::error_code& error);
bool is_directory(const path& p);
bool is_regular_file(const path& p, std::error_code& error);
bool is_character_file(const path& p);
/// Of the name itself, wherever the link leads.
bool is_symlink(const path& p);
/// Whether both name the same file.
bool equivalent(const path& a, const path& b, std::error_code& error);

/// Bytes; -1 converted with `error` set.
uint64_t file_size(const path& p, std::error_code& error);
void resize_file(const path& p, uint64_t bytes, std::error_code& error);
space_info space(const path& p, std::error_code& error);

bool create_directory(const path& p);
bool create_directories(const path& p, std::error_code& error);
bool create_directories(const path& p);
bool remove(const path& p, std::error_code& error);
bool remove(const path& p);
/// With all that is in it; follows no links.
uint64_t remove_all(const path& p, std::error_code& error);
uint64_t remove_all(const path& p);
void rename(const path& from, const path& to, std::error_code& error);

path current_path();
void current_path(const path& p);
path absolute(const path& p);
path temp_directory_path();

class directory_entry {
 public:
  explicit directory_entry(fs::path p) : path_(std::move(p)) {}
  const fs::path& path() const { return path_; }
  uint64_t file_size(std::error_code& error) const { return fs::file_size(path_, error); }
  bool is_directory() const { return fs::is_directory(path_); }

 private:
  fs::path path_;
};

/// The entries of a folder, in no order, without . and ..; read when it is made.
class directory_iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = directory_entry;
  using difference_type = std::ptrdiff_t;
  using pointer = const directory_entry*;
  using reference = const directory_entry&;

  directory_iterator() = default;
  explicit directory_iterator(const path& folder);
  directory_iterator(const path& folder, std::error_code& error);
  reference operator*() const;
  pointer operator->() const { return &**this; }
  directory_iterator& operator++();
  directory_iterator& increment(std::error_code& error);
  friend bool operator==(const directory_iterator& a, const directory_iterator& b) {
    return a.left() == b.left();
  }
  friend directory_iterator begin(directory_iterator it) { return it; }
  friend directory_iterator end(const directory_iterator&) { return {}; }

 private:
  struct Entries;
  size_t left() const;
  void read(const path& folder, std::error_code& error);
  std::shared_ptr<const Entries> entries_;
  size_t at_ = 0;
};

}  // namespace seigh::fs
