// The checksum that files of columns carry.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seigh {

/// zlib's CRC-32 of a tensor's numbers in C order, as they lie in memory, behind others whose checksum is
/// `before`.
int64_t crc32(const at::Tensor& numbers, int64_t before = 0);
/// The same of each row: int64 [rows].
at::Tensor crc32_of_rows(const at::Tensor& matrix);

/// crc32_of_rows() of a matrix that comes by ranges of columns.
class RunningChecksums {
 public:
  explicit RunningChecksums(int64_t rows);
  /// The next columns of all rows: [rows, n].
  void add(const at::Tensor& columns);
  const at::Tensor& values() const { return sums_; }

 private:
  at::Tensor sums_;
};

}  // namespace seigh
