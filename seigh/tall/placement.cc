#include "seigh/tall/placement.h"

#include <algorithm>
#include <string>

#include "seigh/core/device_memory.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/tall/divided.h"
#include "seigh/tall/tall_matrix.h"
#include "seigh/tall/transfers.h"

namespace seigh {

int64_t room_on_device(LinearOperator& op, int64_t columns, int64_t least, int64_t wanted,
                       const Context& context, bool by_rows) {
  if (op.device().is_cpu()) return 0;
  Ranks& ranks = context.ranks();
  DeviceMemory memory(op.device(), context.device_memory());
  const int64_t available = ranks.least(memory.obstacle().empty() ? memory.available() : 0);
  if (available < least) return 0;
  // The operator leaves a tenth itself.
  constexpr int64_t kFew = 12;
  if (wanted <= available / kFew) return available;
  const int64_t count = std::clamp<int64_t>(op.preferred_block(), 1, std::max<int64_t>(columns, 1));
  const Share rows = by_rows ? ranks.share(op.size()) : Share{0, op.size()};
  const auto multiply = [&](const at::Tensor& some) {
    by_rows ? apply_rows(op, some, context) : op.apply(some);
  };
  // Not of zeros, for which no difference can be taken.
  at::Tensor block =
      random_gaussian(0, Stream::check, op.size(), 0, 1, op.dtype()).slice(0, rows.begin, rows.end());
  int64_t room = 0;
  try {
    block = as_block(block.to(op.device()).expand({rows.count, count}));
    if (op.products() == 0) multiply(block);  // for what it keeps from the first on
    memory.reset_peak();
    const int64_t before = memory.held();
    multiply(block);
    const int64_t product = memory.peak() - before;
    room = std::max<int64_t>(memory.available() + static_cast<int64_t>(block.nbytes()) - product / 4 * 5, 0);
  } catch (const c10::OutOfMemoryError&) {
    // The others wait for this rank's product.
    if (!ranks.alone()) throw;
    memory.release();
  }
  return ranks.least(room);
}

int64_t panels_on_device(int64_t bytes) {
  // Of float32 the copy is twice as large as the original.
  return 3 * std::min(2 * bytes, panel_bytes(c10::DeviceType::CUDA));
}

c10::Device place_of(LinearOperator& op, int64_t columns, int64_t bytes, const Context& context) {
  const int64_t wanted = bytes + panels_on_device(bytes);
  return wanted <= room_on_device(op, columns, wanted, wanted, context, /*by_rows=*/false)
             ? op.device()
             : c10::Device(at::kCPU);
}

std::shared_ptr<const TallMatrix> seen_from(c10::Device device, std::shared_ptr<const TallMatrix> x) {
  // Ranks that each have all of it are to find the same.
  const bool same = x->divided() || x->context().ranks().alone();
  if (device.is_cpu() || !x->device().is_cpu() || !same) return x;
  const int64_t columns = x->columns(),
                whole = x->share().count * columns * static_cast<int64_t>(c10::elementSize(x->dtype())),
                piece = piece_bytes(whole), small = 3 * columns * columns * wide_bytes(x->dtype());
  const DeviceMemory memory(device, x->context().device_memory());
  int64_t left = memory.available() - panels_on_device(whole) - Transfers::on_device(piece) - small;
  if (x->divided()) left = x->context().ranks().least(left);
  if (!memory.obstacle().empty() || left < 0) return x;
  return std::make_shared<StreamedMatrix>(x, std::make_shared<Transfers>(device, piece, x->context()));
}

at::Tensor empty_block_at(c10::Device place, int64_t rows, int64_t columns, at::ScalarType dtype) {
  try {
    return empty_block(rows, columns, dtype, place);
  } catch (const c10::OutOfMemoryError&) {
    if (place.is_cpu()) throw;
  }
  DeviceMemory(place).release();
  return empty_block(rows, columns, dtype);
}

void throw_out_of_memory(const std::string& work, const LinearOperator& op,
                         const c10::OutOfMemoryError& error) {
  const std::string what = error.what_without_backtrace();
  throw MemoryError(text_of(work, ": ", op.device(), " has run out of memory (",
                            what.substr(0, what.find('\n')),
                            "); lower k or the block, or with --device-memory what may be taken there: then "
                            "what is large stays on the host"));
}

}  // namespace seigh
