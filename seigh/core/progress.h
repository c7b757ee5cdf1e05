// How long work tells whoever waits how far it is. The library only reports; drawing is the caller's
// business.
#pragma once

#include <cstdint>
#include <string_view>

namespace seigh {

/// Receives the progress of one task at a time. The default does nothing.
class Progress {
 public:
  virtual ~Progress() = default;
  /// A task of `total` pieces begins, counted in `unit` ("products", "steps").
  virtual void begin(std::string_view task, int64_t total, std::string_view unit);
  /// `count` more pieces are done.
  virtual void advance(int64_t count);
  /// The task is complete.
  virtual void end();
  /// Something the user should know, in one line; between tasks.
  virtual void note(std::string_view text);
};

}  // namespace seigh
