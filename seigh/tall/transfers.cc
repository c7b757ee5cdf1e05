#include "seigh/tall/transfers.h"

#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <bit>
#include <exception>
#include <utility>

#include "seigh/core/device_graph.h"
#include "seigh/core/dtype.h"

namespace seigh {
namespace {

// The first bytes of a piece as a block like `like`.
at::Tensor as_block_of(const at::Tensor& bytes, const at::Tensor& like) {
  return bytes.slice(0, 0, static_cast<int64_t>(like.nbytes()))
      .view(like.scalar_type())
      .view({like.size(1), like.size(0)})
      .t();
}

// To a power of two that holds a number of any dtype.
int64_t rounded_down(int64_t bytes) {
  return std::max<int64_t>(
      16, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(bytes, 1)))));
}

// Where what follows ends with an exception, nothing of it is under way any more.
class Waiting {
 public:
  explicit Waiting(const c10::Stream& stream) : stream_(stream) {}
  ~Waiting() {
    if (std::uncaught_exceptions() == before_) return;
    try {
      stream_.synchronize();
    } catch (const std::exception&) {  // what has gone wrong there shows at the next use of the device
    }
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  const c10::Stream& stream_;
  const int before_ = std::uncaught_exceptions();
};

}  // namespace

Transfers::Transfers(c10::Device device, int64_t bytes, const Context& context)
    : device_(device),
      context_(context),
      // A power of two, to which libtorch rounds what it locks.
      bytes_(rounded_down(std::min(bytes, std::max(context.memory().available() / 8, int64_t{1} << 20)))),
      pieces_{Piece(device.type()), Piece(device.type())} {
  if (!device.is_cpu()) stream_ = new_stream(device);
}

void Transfers::lock_memory() {
  if (held_) return;
  const int64_t both = 2 * bytes_;
  held_.emplace(context_.memory(), both);
  try {
    const at::Tensor locked = at::empty({both}, at::TensorOptions(at::kByte).pinned_memory(true));
    for (size_t i = 0; i < 2; ++i)
      pieces_[i].host =
          locked.slice(0, static_cast<int64_t>(i) * bytes_, static_cast<int64_t>(i + 1) * bytes_);
  } catch (const c10::Error&) {  // there is none, or no more of it
    held_.emplace(context_.memory(), 0);
  }
}

// While the device copies one piece, the host copies the one before to where it belongs, or the next one from
// there. Rows of the transposes are contiguous on both sides: libtorch would else copy by way of ordinary
// memory.
void Transfers::copy(const at::Tensor& to, const at::Tensor& from) {
  const bool down = !from.is_cpu();
  const bool across_sides = to.device() != from.device() && to.numel() > 0;
  if (across_sides) lock_memory();
  if (!across_sides || !pieces_[0].host.defined()) {
    to.copy_(from);
    return;
  }
  const c10::Stream work = current_stream(device_);
  c10::Event begun(device_.type());
  begun.record(work);
  begun.block(*stream_);
  const int64_t element = static_cast<int64_t>(to.element_size()), rows = to.size(0), columns = to.size(1);
  const int64_t height = std::min(rows, bytes_ / element),
                width = std::clamp<int64_t>(bytes_ / element / height, 1, columns);
  const int64_t across = (columns + width - 1) / width, all = across * ((rows + height - 1) / height);
  const auto part = [&](const at::Tensor& block, int64_t p) {
    const int64_t i = p / across * height, j = p % across * width;
    return block.slice(0, i, std::min(i + height, rows)).slice(1, j, std::min(j + width, columns)).t();
  };
  const auto by_the_device = [&](const at::Tensor& target, const at::Tensor& source, Piece& piece) {
    const c10::StreamGuard beside(*stream_);
    target.copy_(source, /*non_blocking=*/true);
    piece.arrived.record(*stream_);
  };
  const Waiting none_under_way(*stream_);
  for (int64_t p = 0; p <= all; ++p) {
    context_.check_cancelled();
    if (p < all) {
      Piece& piece = pieces_[static_cast<size_t>(p % 2)];
      piece.arrived.synchronize();  // also of what bring() has put under way
      const at::Tensor between = as_block_of(piece.host, part(to, p).t()).t();
      if (!down) between.copy_(part(from, p));
      down ? by_the_device(between, part(from, p), piece) : by_the_device(part(to, p), between, piece);
    }
    if (down && p > 0) {
      Piece& piece = pieces_[static_cast<size_t>((p - 1) % 2)];
      piece.arrived.synchronize();
      part(to, p - 1).copy_(as_block_of(piece.host, part(to, p - 1).t()).t());
    }
  }
  for (Piece& piece : pieces_) piece.arrived.block(work);
}

// On the device's two streams, b for the block brought, b-1 for the one before:
//   copies:   wait for work on b-2, whose place it takes; copy b; tell
//   work:     on b-1 | wait for the copy of b | on b
at::Tensor Transfers::bring(const at::Tensor& block) {
  const c10::Stream work = current_stream(device_);
  Piece& piece = pieces_[next_];
  Piece& before = pieces_[1 - next_];
  next_ = 1 - next_;
  if (before.there.defined()) before.used.record(work);
  if (!piece.there.defined() || piece.there.storage().use_count() > 1) {
    // Memory that work under way may have been the last to use.
    piece.there = at::empty({bytes_}, at::TensorOptions(at::kByte).device(device_));
    piece.used.record(work);
  }
  lock_memory();
  at::Tensor from = block;
  if (piece.host.defined()) {
    piece.arrived.synchronize();
    from = as_block_of(piece.host, block);
    from.copy_(block);
  }
  const at::Tensor there = as_block_of(piece.there, block);
  piece.used.block(*stream_);
  {
    const c10::StreamGuard beside(*stream_);
    there.copy_(from, /*non_blocking=*/piece.host.defined());
    piece.arrived.record(*stream_);
  }
  piece.arrived.block(work);
  return there;
}

StreamedMatrix::StreamedMatrix(std::shared_ptr<const TallMatrix> host, std::shared_ptr<Transfers> transfers)
    : TallMatrix(host->context()), host_(std::move(host)), transfers_(std::move(transfers)) {}

int64_t StreamedMatrix::panel_rows() const {
  const int64_t row = std::max<int64_t>(1, columns()) * static_cast<int64_t>(c10::elementSize(dtype()));
  return std::max<int64_t>(1, transfers_->bytes() / row);
}

at::Tensor StreamedMatrix::row_range(int64_t begin, int64_t n) const {
  const at::Tensor panel = host_->row_range(begin, n);
  if (n > panel_rows() || static_cast<int64_t>(panel.nbytes()) > transfers_->bytes())
    return panel.to(device());
  return transfers_->bring(panel);
}

at::Tensor StreamedMatrix::select_rows(const at::Tensor& index) const {
  return host_->select_rows(index.cpu()).to(device());
}

int64_t piece_bytes(int64_t whole) {
  return rounded_down(std::min(panel_bytes(c10::DeviceType::CUDA) / 2, whole / 8));
}

}  // namespace seigh
