// The seal of a file that seigh wrote: checksums in its first 512 bytes, which HDF5 leaves to the user, so
// that what is damaged is known before libhdf5 looks at it.
//
//   seigh seal 1
//   bytes <size of the file>
//   rest <CRC-64 of all behind the seal but the parts>
//   part <offset> <bytes> <CRC-64>          numbers of a large data set, checked when they are read
//   part <offset> <bytes> in the file       the same, of which a data set beside it holds checksums
//   seal <CRC-64 of the lines before>
//
// and zeros up to its end. Checking the rest reads a file but for its parts once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "seigh/core/filesystem.h"

namespace seigh {

constexpr int64_t kSealBytes = 512;

/// Who has made a file that is read: anybody, or seigh, so that it must have a seal.
enum class Maker { anybody, seigh };

struct Seal {
  struct Part {
    int64_t offset = 0, bytes = 0;
    std::optional<uint64_t> sum;  ///< none: its checksums are in the file
  };
  static constexpr size_t kMostParts = 6;
  std::vector<Part> parts;  ///< ascending, apart from each other
};

/// Computes the checksums and writes the seal over the first 512 bytes of `path`; of the parts (at most
/// kMostParts) all but the sums are given, and a sum where one is wanted. One pass. Throws FileError when the
/// file cannot be read or written.
void write_seal(const fs::path& path, Seal seal);
/// The seal of a file, none where it does not begin with one. Throws FileError when the seal or what it
/// vouches for, the parts apart, is not what was written.
std::optional<Seal> checked_seal(const fs::path& path);
/// Throws FileError when a part with a sum is not what was written: reads it once.
void check_part(const fs::path& path, const Seal::Part& part);

}  // namespace seigh
