// Progress on a terminal: one line with rate and time left, redrawn; plain lines now and then when it is no
// terminal.
#pragma once

#include <set>
#include <string>

#include "seigh/core/progress.h"
#include "seigh/core/timer.h"

namespace seigh::app {

/// "40 s", "3 min 20 s", "2 h 05 min".
std::string duration(double seconds);

class TerminalProgress final : public Progress {
 public:
  /// `silent`: draws nothing, as ranks but the root.
  explicit TerminalProgress(bool silent = false);
  ~TerminalProgress() override;
  void begin(std::string_view task, int64_t total, std::string_view unit) override;
  void advance(int64_t count) override;
  void end() override;
  void note(std::string_view text) override;

 private:
  void draw(bool last);

  bool silent_, terminal_;
  bool drawn_ = false;  // a line without newline stands on the terminal
  std::string task_, unit_;
  int64_t total_ = 0, done_ = 0;
  double last_ = 0;  // seconds at the last drawing
  Timer timer_;
  std::set<std::string> told_;  // notes: the runs of a sweep have the same ones
};

}  // namespace seigh::app
