// The exceptions of seigh, one family:
//
//   Exception            anything seigh throws
//   ├── Cancelled        the caller has asked to stop; finished files are complete
//   └── Error            bad input or environment: one line that says what to do
//       ├── MemoryError  the ceiling, or the machine, has too little memory
//       └── FileError    a file that cannot be read or written; path() says which
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace seigh {

class Exception : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Thrown from within long work once Context's cancellation says so.
class Cancelled : public Exception {
 public:
  Cancelled() : Exception("interrupted") {}
};

/// what() is one line for a person: the offending value and what to do about it. The command prints it and
/// exits with 2.
class Error : public Exception {
 public:
  using Exception::Exception;
};

class MemoryError : public Error {
 public:
  using Error::Error;
};

class FileError : public Error {
 public:
  FileError(std::string path, const std::string& message) : Error(message), path_(std::move(path)) {}
  /// Of the file.
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The arguments streamed one after the other.
template <typename... Parts>
std::string text_of(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  return message.str();
}

/// Throws Error made of `parts`.
template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(text_of(parts...));
}

/// Throws Error made of `parts` unless `condition` holds.
template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) fail(parts...);
}

/// The same, as FileError about `path`.
template <typename... Parts>
[[noreturn]] void fail_file(const std::string& path, const Parts&... parts) {
  throw FileError(path, text_of(parts...));
}
template <typename... Parts>
void require_file(const std::string& path, bool condition, const Parts&... parts) {
  if (!condition) fail_file(path, parts...);
}

/// What body() gives; a FileError it throws ends in `remedy`.
template <typename Body>
auto with_remedy(const std::string& remedy, const Body& body) {
  try {
    return body();
  } catch (const FileError& error) {
    fail_file(error.path(), error.what(), remedy);
  }
}

}  // namespace seigh
