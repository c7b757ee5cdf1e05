// The processes that work on one problem together: MPI ranks, or this one alone.
//
// All ranks run the same program and take the same decisions. What they share out are columns (products of
// an operator), samples (of a large data set) and rows (of tall matrices); the small matrices that come of it
// are summed or sent, so that every rank has them. Files are written by the root alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seigh {

/// A range of rows, columns or samples.
struct Share {
  int64_t begin = 0, count = 0;
  int64_t end() const { return begin + count; }
};

/// This process alone; ranks by MPI derive from it. Every function below must be called by all ranks, in the
/// same order.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  /// How many of them are on this machine, each to take its part of cores and memory.
  virtual int on_this_machine() const { return 1; }
  /// Replaces a tensor of vectors' numbers (dtype.h) or int64 on the CPU, contiguous in some order of its
  /// dimensions, by its sum over all ranks.
  virtual void sum(const at::Tensor& tensor);
  /// Replaces `bytes` bytes at `data` by those of rank `from`.
  virtual void broadcast(void* data, int64_t bytes, int from = 0);
  /// Returns when all ranks have called it. Waits without using the processor.
  virtual void wait();

  bool root() const { return rank() == 0; }
  bool alone() const { return size() == 1; }
  /// The part of n things that is `rank`'s: shares differ by at most one.
  Share share(int64_t n, int rank) const;
  Share share(int64_t n) const { return share(n, rank()); }
  /// The root's value, on every rank.
  template <typename T>
  T agree(T value) {
    broadcast(&value, sizeof(value));
    return value;
  }
  /// Replaces a tensor, contiguous in some order of its dimensions, by the root's.
  void agree_on(const at::Tensor& tensor);
};

}  // namespace seigh
