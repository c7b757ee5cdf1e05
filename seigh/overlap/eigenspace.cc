#include "seigh/overlap/eigenspace.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"

namespace seigh {

at::Tensor checked_rows(const Eigenspace& space, int64_t begin, int64_t n) {
  at::Tensor rows = space.row_range(begin, n);
  require(rows.dim() == 2 && rows.size(0) == n && rows.size(1) == space.count(),
          "rows of the eigenspace have shape ", rows.sizes(), ", not [", n, ", ", space.count(), "]");
  require(rows.scalar_type() == at::kFloat || rows.scalar_type() == at::kDouble,
          "rows of the eigenspace must be float32 or float64, got ", rows.scalar_type());
  return rows;
}

void for_rows(const Eigenspace& space, int64_t piece, const std::string& task, const Context& context,
              const std::function<void(const at::Tensor& rows, int64_t begin)>& take) {
  const int64_t d = space.dimension();
  const Share mine = space.divided() ? context.ranks().share(d) : Share{0, d};
  context.progress().begin(task, mine.count, "rows");
  for (int64_t begin = mine.begin; begin < mine.end(); begin += piece) {
    context.check_cancelled();
    const int64_t n = std::min(piece, mine.end() - begin);
    at::Tensor rows = checked_rows(space, begin, n).cpu();
    if (rows.stride(0) != 1) rows = rows.t().contiguous().t();
    take(rows, begin);
    context.progress().advance(n);
  }
  context.progress().end();
}

DenseEigenspace::DenseEigenspace(at::Tensor vectors) : vectors_(std::move(vectors)) {
  require(vectors_.dim() == 2 && vectors_.size(1) >= 1 && vectors_.size(1) <= vectors_.size(0),
          "eigenvectors are the columns of a matrix [D, K], 1 <= K <= D, got shape ", vectors_.sizes());
  require(vectors_.scalar_type() == at::kFloat || vectors_.scalar_type() == at::kDouble,
          "eigenvectors must be float32 or float64, got ", vectors_.scalar_type());
}

at::Tensor DenseEigenspace::rows(const at::Tensor& index) const {
  return vectors_.index_select(0, index.to(vectors_.device()));
}

at::Tensor DenseEigenspace::row_range(int64_t begin, int64_t n) const {
  return vectors_.narrow(0, begin, n);
}

std::unique_ptr<const Eigenspace> copy_on_device(const Eigenspace& space, const Context& context) {
  const c10::Device device = context.device();
  if (device.is_cpu() || !space.device().is_cpu() || space.divided() || !context.ranks().alone())
    return nullptr;
  DeviceMemory memory(device, context.device_memory());
  const int64_t d = space.dimension(), k = space.count();
  const at::ScalarType dtype = space.row_range(0, 1).scalar_type();
  const int64_t bytes = d * k * static_cast<int64_t>(c10::elementSize(dtype));
  if (!memory.obstacle().empty() || bytes > memory.available() / 2) return nullptr;
  try {
    const at::Tensor vectors = at::empty({d, k}, at::TensorOptions(dtype).device(device));
    constexpr int64_t kPiece = int64_t{64} << 20;
    for_rows(
        space, std::clamp<int64_t>(kPiece / (8 * k), 1, d), "eigenvectors to the device", context,
        [&](const at::Tensor& rows, int64_t begin) { vectors.narrow(0, begin, rows.size(0)).copy_(rows); });
    return std::make_unique<DenseEigenspace>(vectors);
  } catch (const c10::OutOfMemoryError&) {
    memory.release();
    return nullptr;
  }
}

}  // namespace seigh
