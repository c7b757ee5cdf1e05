#include "seigh/core/memory.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "seigh/core/error.h"
#include "seigh/core/pool.h"

namespace seigh {
namespace {

// A number from a file of one number, or from the line of /proc/meminfo that begins with `key`; -1 if there
// is none.
int64_t number_in(const char* path, const std::string& key = "") {
  std::ifstream file(path);
  std::string word;
  int64_t number = -1;
  if (key.empty()) return file >> number ? number : -1;
  while (file >> word) {
    if (word == key) return file >> number ? number : -1;
  }
  return -1;
}

}  // namespace

Memory::Memory(int64_t ceiling, int sharing) : sharing_(sharing) {
  require(ceiling >= 0, "the memory ceiling must not be negative: ", ceiling);
  account_ = pool::open_account(ceiling);
  if (ceiling == 0) return;
  recount();
  const int64_t others = pool::usage(*account_).others;
  if (ceiling <= others) {
    throw MemoryError(text_of("a memory ceiling of ", format_bytes(ceiling),
                              " is too low: the program itself takes ", format_bytes(others)));
  }
}

int64_t Memory::ceiling() const {
  return pool::usage(*account_).ceiling;
}

int64_t Memory::available() const {
  const pool::Usage u = pool::usage(*account_);
  if (u.ceiling > 0) return std::max<int64_t>(u.ceiling - u.others - u.held, 0);
  // What the pool keeps for later is available too.
  return (machine_memory() + u.idle) / 4 * 3 / sharing_;
}

int64_t machine_memory() {
  int64_t available = number_in("/proc/meminfo", "MemAvailable:") * 1024;
  if (available < 0) available = int64_t{4} << 30;
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max"),
                used = number_in("/sys/fs/cgroup/memory.current");
  return limit > 0 && used >= 0 ? std::min(available, limit - used) : available;
}

int64_t Memory::held() const {
  return pool::usage(*account_).held;
}
int64_t Memory::peak() const {
  return pool::usage(*account_).peak;
}
void Memory::reset_peak() {
  pool::reset_peak(*account_);
}
void Memory::recount() {
  pool::recount(*account_);
}
std::string Memory::obstacle() const {
  return pool::obstacle();
}

Memory::Held::Held(const Memory& memory, int64_t bytes) : account_(memory.account()), bytes_(bytes) {
  pool::hold(*account_, bytes_);
}
Memory::Held::~Held() {
  pool::hold(*account_, -bytes_);
}

int64_t parse_bytes(const std::string& text) {
  size_t end = 0;
  double number = 0;
  try {
    number = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  std::string unit = text.substr(end);
  unit.erase(0, unit.find_first_not_of(' '));
  for (char& c : unit) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  static const std::string prefixes = "KMGT";
  double factor = 1;
  bool known = unit.empty() || unit == "B";
  if (!known) {
    const size_t power = prefixes.find(unit[0]);
    const std::string rest = unit.substr(1);
    known = power != std::string::npos && (rest.empty() || rest == "B" || rest == "IB");
    if (known) factor = std::pow(rest == "B" ? 1000.0 : 1024.0, static_cast<double>(power) + 1);
  }
  require(end > 0 && known && std::isfinite(number) && number > 0 && number * factor < 1e18, "\"", text,
          "\" is no amount of memory; write for example 8G or 512M");
  return static_cast<int64_t>(number * factor);
}

std::string format_bytes(int64_t bytes) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[40];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.3g %s", value, units[unit]);
  return text;
}

}  // namespace seigh
