// The one exception type for input seigh cannot work with.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace seigh {

/// Bad input or environment. what() is one line for a person: the offending value and what to do about it.
/// The command line prints it and exits with 2.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Error with the arguments streamed one after the other into its message.
template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

/// Throws Error made of `parts` unless `condition` holds.
template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) fail(parts...);
}

}  // namespace seigh
