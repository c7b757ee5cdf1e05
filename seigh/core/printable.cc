#include "seigh/core/printable.h"

#include <cstdint>
#include <cstdio>

namespace seigh {
namespace {

struct Character {
  uint32_t code = 0;
  size_t bytes = 0;  // 0: no UTF-8
};

// The first character of a text.
Character first_of(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
  uint32_t code = lead & (0x7fU >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};  // shorter ones are another's long spelling
  if (code < kLeast[bytes] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return {};
  return {code, bytes};
}

bool turns_direction(uint32_t code) {
  return code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

std::string printable(std::string_view text, bool keep_lines) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const Character c = first_of(text);
    const size_t bytes = c.bytes > 0 ? c.bytes : 1;
    const bool line = c.code == '\n' || c.code == '\t';
    if (c.bytes > 0 && ((line && keep_lines) ||
                        (c.code >= 0x20 && (c.code < 0x7f || c.code >= 0xa0) && !turns_direction(c.code)))) {
      result += text.substr(0, bytes);
    } else if (c.bytes > 0 && line) {
      result += c.code == '\n' ? "\\n" : "\\t";
    } else {
      for (size_t i = 0; i < bytes; ++i) {
        char escape[8];
        std::snprintf(escape, sizeof(escape), "\\x%02x", static_cast<unsigned>(text[i]) & 0xffU);
        result += escape;
      }
    }
    text.remove_prefix(bytes);
  }
  return result;
}

std::string shortened(std::string_view text, size_t most) {
  if (text.size() <= most) return printable(text);
  return printable(text.substr(0, most)) + "...";
}

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace seigh
