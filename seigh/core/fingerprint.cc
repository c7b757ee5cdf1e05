#include "seigh/core/fingerprint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <sstream>

#include "seigh/core/error.h"

namespace seigh {
namespace {

struct Entry {
  double value = 0, tolerance = 0;
};

// The shortest text that gives the number again.
std::string exact(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr};
}

std::map<std::string, Entry> entries_of(const std::string& text) {
  std::map<std::string, Entry> entries;
  std::istringstream lines(text);
  for (std::string what, value, tolerance; lines >> what >> value >> tolerance;) {
    Entry entry;
    std::from_chars(value.data(), value.data() + value.size(), entry.value);
    std::from_chars(tolerance.data(), tolerance.data() + tolerance.size(), entry.tolerance);
    entries[what] = entry;
  }
  return entries;
}

}  // namespace

void Fingerprint::add(const std::string& what, double value, double tolerance) {
  text_ += what + " " + exact(value) + " " + exact(tolerance) + "\n";
}

std::string first_difference(const std::string& a, const std::string& b) {
  const std::map<std::string, Entry> others = entries_of(b);
  // In the order in which they were added: causes before what follows from them.
  std::istringstream lines(a);
  const std::map<std::string, Entry> mine = entries_of(a);
  for (std::string what, rest; lines >> what && std::getline(lines, rest);) {
    const auto other = others.find(what);
    if (other == others.end()) continue;
    const Entry &x = mine.at(what), &y = other->second;
    // Written so that NaN differs from everything.
    if (!(std::abs(x.value - y.value) <= std::max(x.tolerance, y.tolerance))) return what;
  }
  return "";
}

void require_same_matrix(const std::string& file, const std::string& written, const std::string& now,
                         const std::string& begin_anew) {
  const std::string what = first_difference(written, now);
  require(what.empty(), file, " is of another matrix: its ", what,
          what == "samples" || what == "targets" || what == "parameters" ? " were others" : " was another",
          "; bring back what has changed since, or delete ", begin_anew, " to begin anew");
}

}  // namespace seigh
