// The memory of an accelerator, as libtorch's allocator of it counts it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace c10 {
struct DeviceAllocator;
}

namespace seigh {

/// A handle. Beside the process's other work on the same device its figures are of both.
class DeviceMemory {
 public:
  /// `ceiling`: bytes that tensors may hold there; 0: what the device has.
  explicit DeviceMemory(c10::Device device, int64_t ceiling = 0);

  /// What may still be taken: nine tenths of what the device has free, and what the allocator keeps for
  /// later.
  int64_t available() const;
  /// Bytes of tensors that are there, the most there were since the last reset_peak(), whoever called that,
  /// and since this object's own last one.
  int64_t held() const;
  int64_t peak() const;
  int64_t most() const;
  void reset_peak();  ///< of the whole process: torch.cuda.max_memory_allocated() begins anew too
  /// Gives back to the device what the allocator keeps for later.
  void release();
  /// Bytes that the allocator keeps and does not count as held.
  int64_t kept() const;

  /// While one lives, so many of those are not there to be taken, for the whole process.
  class Reserved {
   public:
    Reserved(c10::Device device, int64_t bytes);
    ~Reserved();
    Reserved(const Reserved&) = delete;
    Reserved& operator=(const Reserved&) = delete;

   private:
    c10::Device device_;
    int64_t bytes_;
  };

  /// Why nothing of this is known (all figures are then 0), for the user; empty when it is.
  const std::string& obstacle() const { return obstacle_; }

 private:
  c10::Device device_;
  int64_t ceiling_;
  c10::DeviceAllocator* allocator_ = nullptr;  // libtorch's own
  std::string obstacle_;
  int64_t begun_ = 0;  // which of the device's peaks was the first after the last reset_peak()
};

}  // namespace seigh
