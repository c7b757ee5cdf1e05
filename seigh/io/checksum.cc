#include "seigh/io/checksum.h"

#include <ATen/ops/zeros.h>
#include <zlib.h>

#include "seigh/base/parallel.h"

namespace seigh {
namespace {

// crc32 of what has been summed up and the numbers behind it.
int64_t extended(int64_t sum, const at::Tensor& numbers) {
  const at::Tensor bytes = numbers.resolve_conj().contiguous();
  return static_cast<int64_t>(crc32_z(static_cast<uLong>(sum),
                                      static_cast<const unsigned char*>(bytes.data_ptr()),
                                      static_cast<size_t>(bytes.nbytes())));
}

}  // namespace

int64_t crc32(const at::Tensor& numbers) {
  return extended(0, numbers);
}

at::Tensor crc32_of_rows(const at::Tensor& matrix) {
  RunningChecksums sums(matrix.size(0));
  sums.add(matrix);
  return sums.values();
}

RunningChecksums::RunningChecksums(int64_t rows) : sums_(at::zeros({rows}, at::kLong)) {}

void RunningChecksums::add(const at::Tensor& columns) {
  int64_t* const sum = sums_.data_ptr<int64_t>();
  parallel_for(columns.size(0), [&](int64_t i) { sum[i] = extended(sum[i], columns.select(0, i)); });
}

}  // namespace seigh
