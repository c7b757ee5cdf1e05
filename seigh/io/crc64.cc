#include "seigh/io/crc64.h"

#include <array>
#include <bit>
#include <cstdio>
#include <cstring>

namespace seigh {
namespace {

static_assert(std::endian::native == std::endian::little);

using Tables = std::array<std::array<uint64_t, 256>, 8>;

// tables[k][b]: the checksum of byte b with k zero bytes behind it, so that eight bytes take eight look-ups
// that do not wait for each other (Kounavis and Berry 2008, "slicing by 8").
constexpr Tables make_tables() {
  constexpr uint64_t kPolynomial = 0xC96C5795D7870F42;
  Tables tables{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t sum = byte;
    for (int bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ ((sum & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = sum;
  }
  for (size_t k = 1; k < 8; ++k)
    for (size_t byte = 0; byte < 256; ++byte)
      tables[k][byte] = (tables[k - 1][byte] >> 8) ^ tables[0][tables[k - 1][byte] & 255];
  return tables;
}
constexpr Tables kTables = make_tables();

}  // namespace

uint64_t crc64(const void* data, size_t size, uint64_t before) {
  const auto* at = static_cast<const unsigned char*>(data);
  uint64_t sum = ~before;
  for (; size >= 8; size -= 8, at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, 8);
    sum ^= word;
    uint64_t next = 0;
    for (size_t k = 0; k < 8; ++k) next ^= kTables[7 - k][(sum >> (8 * k)) & 255];
    sum = next;
  }
  for (; size > 0; --size, ++at) sum = (sum >> 8) ^ kTables[0][(sum ^ *at) & 255];
  return ~sum;
}

std::string hexadecimal(uint64_t number) {
  char text[20];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(number));
  return text;
}

}  // namespace seigh
