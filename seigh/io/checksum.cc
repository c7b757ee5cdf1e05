#include "seigh/io/checksum.h"

#include <ATen/ops/zeros.h>
#include <zlib.h>

#include "seigh/core/parallel.h"

namespace seigh {

int64_t crc32(const at::Tensor& numbers, int64_t before) {
  const at::Tensor bytes = numbers.resolve_conj().contiguous();
  return static_cast<int64_t>(crc32_z(static_cast<uLong>(before),
                                      static_cast<const unsigned char*>(bytes.data_ptr()),
                                      static_cast<size_t>(bytes.nbytes())));
}

at::Tensor crc32_of_rows(const at::Tensor& matrix) {
  RunningChecksums sums(matrix.size(0));
  sums.add(matrix);
  return sums.values();
}

RunningChecksums::RunningChecksums(int64_t rows) : sums_(at::zeros({rows}, at::kLong)) {}

void RunningChecksums::add(const at::Tensor& columns) {
  int64_t* const sum = sums_.data_ptr<int64_t>();
  parallel_for(columns.size(0), [&](int64_t i) { sum[i] = crc32(columns.select(0, i), sum[i]); });
}

}  // namespace seigh
