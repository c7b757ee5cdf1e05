// The processes that work on one problem together: MPI ranks, those of a group of torch.distributed, or this
// one alone.
//
// All ranks run the same program and take the same decisions. What they share out are columns (products of
// an operator), samples (of a large data set) and rows (of tall matrices); the small matrices that come of it
// are summed or sent, so that every rank has them. Files are written by the root alone.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

namespace seigh {

/// A range of rows, columns or samples.
struct Share {
  int64_t begin = 0, count = 0;
  int64_t end() const { return begin + count; }
};

/// This process alone; ranks by MPI derive from it. Every function below that moves numbers must be called by
/// all ranks, in the same order.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  /// How many of them are on this machine, each to take its part of cores and memory.
  virtual int on_this_machine() const { return 1; }
  /// How many of those see the same accelerators, and this one's number among them.
  virtual int beside() const { return 1; }
  virtual int number() const { return 0; }
  /// Whether exchange() reads and writes a device's memory itself; what it does not goes by way of the host.
  virtual bool takes(c10::Device device) const { return device.is_cpu(); }
  /// Replaces `bytes` bytes at `data` by those of rank `from`.
  virtual void broadcast(void* data, int64_t bytes, int from = 0);
  /// Returns when all ranks have called it. Waits without using the processor.
  virtual void wait();

  /// give[r] goes to rank r, whose get[this rank] it fills. Tensors wherever they lie, each contiguous in
  /// some order of its dimensions, of as many numbers and the same dtype on both sides.
  void exchange(const std::vector<at::Tensor>& give, const std::vector<at::Tensor>& get);
  /// The sum, in the order of the ranks, of what all ranks give this one; as large as give[this rank].
  at::Tensor sum_of(const std::vector<at::Tensor>& give);
  /// Replaces a tensor, contiguous in some order of its dimensions, by its sum over all ranks, in their
  /// order: the same bits on all.
  void sum(const at::Tensor& tensor);
  /// Replaces a tensor, contiguous in some order of its dimensions, by the root's.
  void agree_on(const at::Tensor& tensor);
  /// The smallest of all ranks' values.
  int64_t least(int64_t value);
  /// The root's value, on every rank.
  template <typename T>
  T agree(T value) {
    broadcast(&value, sizeof(value));
    return value;
  }

  bool root() const { return rank() == 0; }
  bool alone() const { return size() == 1; }
  /// The part of n things that is `rank`'s: shares differ by at most one.
  Share share(int64_t n, int rank) const;
  Share share(int64_t n) const { return share(n, rank()); }

 protected:
  /// give[r] to get[this rank] of rank r for all others: vectors in one piece, where takes() says yes.
  virtual void exchange_vectors(const std::vector<at::Tensor>& give, const std::vector<at::Tensor>& get);
};

}  // namespace seigh
