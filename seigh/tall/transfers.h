// Blocks on their way between the host and a device: by pieces, through page-locked memory, which a card
// reads and writes by itself, several times as fast as the host's other memory and while it computes.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "seigh/core/context.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

/// Two pieces of memory on either side, taken when they are first needed. Not for several threads at once.
class Transfers {
 public:
  /// Of `bytes` at a time, or of less where the context has little memory left.
  Transfers(c10::Device device, int64_t bytes, const Context& context);

  c10::Device device() const { return device_; }
  int64_t bytes() const { return bytes_; }  ///< of a piece
  /// What they take of a device for pieces of so many bytes.
  static int64_t on_device(int64_t bytes) { return 3 * bytes; }  // and what libtorch copies by way of

  /// to.copy_(from), for blocks of one dtype of which either may lie on the host or on the device.
  void copy(const at::Tensor& to, const at::Tensor& from);
  /// A copy of a block on the host, of at most bytes(): block on the device, which is written over by the
  /// second call from now, unless somebody still holds it. The device copies it while it works on what it was
  /// given before, and what it is given next waits for it.
  at::Tensor bring(const at::Tensor& block);

 private:
  struct Piece {
    explicit Piece(c10::DeviceType type) : arrived(type), used(type) {}
    at::Tensor host, there;    // bytes; `host` undefined where there is no page-locked memory
    c10::Event arrived, used;  // the last copy made with it; the work that was given what it brought
  };
  void lock_memory();

  c10::Device device_;
  Context context_;
  int64_t bytes_;
  std::optional<c10::Stream> stream_;
  std::array<Piece, 2> pieces_;
  size_t next_ = 0;
  std::optional<Memory::Held> held_;  // page-locked, once that has been tried
};

/// A tall matrix of the host's, in memory or in files, as seen from a device: its panels are brought there
/// one after the other.
class StreamedMatrix final : public TallMatrix {
 public:
  StreamedMatrix(std::shared_ptr<const TallMatrix> host, std::shared_ptr<Transfers> transfers);
  int64_t rows() const override { return host_->rows(); }
  int64_t columns() const override { return host_->columns(); }
  at::ScalarType dtype() const override { return host_->dtype(); }
  at::Tensor row_range(int64_t begin, int64_t n) const override;
  at::Tensor select_rows(const at::Tensor& index) const override;
  c10::Device device() const override { return transfers_->device(); }
  c10::Device home() const override { return host_->home(); }
  int64_t panel_rows() const override;
  bool divided() const override { return host_->divided(); }
  const std::shared_ptr<const TallMatrix>& host() const { return host_; }

 private:
  std::shared_ptr<const TallMatrix> host_;
  std::shared_ptr<Transfers> transfers_;
};

/// Bytes of a piece for the panels of a matrix of so many bytes: two of them are little beside it.
int64_t piece_bytes(int64_t whole);

}  // namespace seigh
