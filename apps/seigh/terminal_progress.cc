#include "apps/seigh/terminal_progress.h"

#include <unistd.h>

#include <cstdio>

#include "seigh/core/printable.h"

namespace seigh::app {
namespace {

constexpr double kRedraw = 0.1;      // seconds between drawings on a terminal
constexpr double kBrief = 0.5;       // tasks shorter than this leave no line behind
constexpr double kPlainLine = 15.0;  // seconds between lines elsewhere

}  // namespace

std::string duration(double seconds) {
  char text[32];
  if (seconds < 60) {
    std::snprintf(text, sizeof(text), "%.0f s", seconds);
  } else if (seconds < 3600) {
    std::snprintf(text, sizeof(text), "%d min %02d s", static_cast<int>(seconds) / 60,
                  static_cast<int>(seconds) % 60);
  } else {
    std::snprintf(text, sizeof(text), "%d h %02d min", static_cast<int>(seconds) / 3600,
                  static_cast<int>(seconds) / 60 % 60);
  }
  return text;
}

TerminalProgress::TerminalProgress(bool silent)
    : silent_(silent), terminal_(!silent && ::isatty(STDERR_FILENO) != 0) {}

TerminalProgress::~TerminalProgress() {
  if (drawn_) std::fputc('\n', stderr);
}

void TerminalProgress::begin(std::string_view task, int64_t total, std::string_view unit) {
  task_ = printable(task);
  unit_ = unit;
  total_ = total;
  done_ = 0;
  last_ = 0;
  timer_ = Timer();
  if (terminal_) draw(false);
}

void TerminalProgress::advance(int64_t count) {
  done_ += count;
  if (timer_.seconds() - last_ >= (terminal_ ? kRedraw : kPlainLine)) draw(false);
}

void TerminalProgress::end() {
  done_ = total_;
  if (timer_.seconds() >= kBrief) {
    draw(true);
  } else if (drawn_) {
    std::fputs("\r\033[2K", stderr);
    drawn_ = false;
  }
}

void TerminalProgress::note(std::string_view text) {
  if (silent_ || !told_.insert(std::string(text)).second) return;
  if (drawn_) std::fputs("\r\033[2K", stderr);
  drawn_ = false;
  std::fprintf(stderr, "note: %s\n", printable(text).c_str());
}

void TerminalProgress::draw(bool last) {
  if (silent_) return;
  const double seconds = timer_.seconds();
  last_ = seconds;
  char text[256];
  if (last) {
    std::snprintf(text, sizeof(text), "%s: %lld %s in %s", task_.c_str(), static_cast<long long>(total_),
                  unit_.c_str(), duration(seconds).c_str());
  } else if (done_ == 0) {
    std::snprintf(text, sizeof(text), "%s: 0 of %lld %s", task_.c_str(), static_cast<long long>(total_),
                  unit_.c_str());
  } else {
    const double rate = static_cast<double>(done_) / seconds;
    std::snprintf(text, sizeof(text), "%s: %lld of %lld %s, %.3g/s, %s left", task_.c_str(),
                  static_cast<long long>(done_), static_cast<long long>(total_), unit_.c_str(), rate,
                  duration(static_cast<double>(total_ - done_) / rate).c_str());
  }
  if (terminal_) std::fputs("\r\033[2K", stderr);
  std::fputs(text, stderr);
  drawn_ = terminal_ && !last;
  if (!drawn_) std::fputc('\n', stderr);
  std::fflush(stderr);
}

}  // namespace seigh::app
