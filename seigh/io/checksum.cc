#include "seigh/io/checksum.h"

#include <ATen/ops/empty.h>
#include <zlib.h>

#include "seigh/base/parallel.h"

namespace seigh {

int64_t crc32(const at::Tensor& numbers) {
  const at::Tensor bytes = numbers.contiguous();
  return static_cast<int64_t>(
      crc32_z(0, static_cast<const unsigned char*>(bytes.data_ptr()), static_cast<size_t>(bytes.nbytes())));
}

at::Tensor crc32_of_rows(const at::Tensor& matrix) {
  at::Tensor sums = at::empty({matrix.size(0)}, at::kLong);
  int64_t* const sum = sums.data_ptr<int64_t>();
  parallel_for(matrix.size(0), [&](int64_t i) { sum[i] = crc32(matrix.select(0, i)); });
  return sums;
}

}  // namespace seigh
