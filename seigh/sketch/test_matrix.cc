#include "seigh/sketch/test_matrix.h"

#include "seigh/core/error.h"
#include "seigh/sketch/sparse_sign.h"
#include "seigh/sketch/ssrft.h"

namespace seigh {

std::unique_ptr<TestMatrix> make_test_matrix(const std::string& kind, int64_t rows, int64_t columns,
                                             uint64_t seed, Stream stream, at::ScalarType dtype,
                                             c10::Device device) {
  if (kind == "ssrft") return std::make_unique<Ssrft>(rows, columns, seed, stream, dtype, device);
  if (kind == "sparse") return std::make_unique<SparseSign>(rows, columns, seed, stream, dtype);
  fail("there is no test matrix \"", kind, "\"; the kinds are ssrft and sparse");
}

}  // namespace seigh
