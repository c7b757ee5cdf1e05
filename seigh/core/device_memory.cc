#include "seigh/core/device_memory.h"

#include <c10/util/Exception.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "seigh/core/error.h"

// Older ones say it of CUDA alone, and not through what a CPU build has.
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 11)
#include <c10/core/CachingDeviceAllocator.h>
#define SEIGH_COUNTS_DEVICE_MEMORY 1
#endif

namespace seigh {

namespace {

std::atomic<int64_t>& reserved(c10::Device device) {
  static std::array<std::atomic<int64_t>, 64> bytes = {};
  return bytes[static_cast<size_t>(std::max<int>(device.index(), 0)) % bytes.size()];
}

}  // namespace

DeviceMemory::Reserved::Reserved(c10::Device device, int64_t bytes) : device_(device), bytes_(bytes) {
  reserved(device_) += bytes_;
}

DeviceMemory::Reserved::~Reserved() {
  reserved(device_) -= bytes_;
}

#ifdef SEIGH_COUNTS_DEVICE_MEMORY

namespace {

using Stats = c10::CachingDeviceAllocator::DeviceStats;

int64_t current(const c10::CachingAllocator::StatArray& of) {
  return of[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].current;
}

// Peaks that reset_peak() has ended, by device.
std::mutex peaks_mutex;
std::map<std::string, std::vector<int64_t>>& peaks() {
  static std::map<std::string, std::vector<int64_t>> all;
  return all;
}

}  // namespace

DeviceMemory::DeviceMemory(c10::Device device, int64_t ceiling) : device_(device), ceiling_(ceiling) {
  if (!device_.has_index()) device_.set_index(0);
  allocator_ = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device_.type()));
  try {
    if (allocator_ != nullptr) allocator_->getMemoryInfo(device_.index());
  } catch (const c10::Error&) {
    allocator_ = nullptr;
  }
  if (allocator_ == nullptr) obstacle_ = text_of("libtorch does not say what memory ", device_, " has");
}

int64_t DeviceMemory::available() const {
  if (allocator_ == nullptr) return 0;
  const Stats stats = allocator_->getDeviceStats(device_.index());
  const auto free = static_cast<int64_t>(allocator_->getMemoryInfo(device_.index()).first);
  const int64_t held = current(stats.allocated_bytes) + reserved(device_),
                has = free / 10 * 9 + current(stats.reserved_bytes) - held;
  return std::max<int64_t>(ceiling_ > 0 ? std::min(has, ceiling_ - held) : has, 0);
}

int64_t DeviceMemory::held() const {
  return allocator_ == nullptr ? 0 : current(allocator_->getDeviceStats(device_.index()).allocated_bytes);
}

int64_t DeviceMemory::peak() const {
  if (allocator_ == nullptr) return 0;
  const Stats stats = allocator_->getDeviceStats(device_.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

int64_t DeviceMemory::most() const {
  const std::lock_guard lock(peaks_mutex);
  int64_t all = peak();
  const std::vector<int64_t>& ended = peaks()[device_.str()];
  for (auto i = static_cast<size_t>(begun_); i < ended.size(); ++i) all = std::max(all, ended[i]);
  return all;
}

void DeviceMemory::reset_peak() {
  if (allocator_ == nullptr) return;
  const std::lock_guard lock(peaks_mutex);
  std::vector<int64_t>& ended = peaks()[device_.str()];
  ended.push_back(peak());
  begun_ = static_cast<int64_t>(ended.size());
  allocator_->resetPeakStats(device_.index());
}

void DeviceMemory::release() {
  if (allocator_ != nullptr) allocator_->emptyCache();
}

int64_t DeviceMemory::kept() const {
  if (allocator_ == nullptr) return 0;
  const Stats stats = allocator_->getDeviceStats(device_.index());
  return current(stats.reserved_bytes) - current(stats.allocated_bytes);
}

#else

DeviceMemory::DeviceMemory(c10::Device device, int64_t ceiling)
    : device_(device), ceiling_(ceiling), obstacle_("this libtorch does not say what memory a device has") {}
int64_t DeviceMemory::available() const {
  return 0;
}
int64_t DeviceMemory::held() const {
  return 0;
}
int64_t DeviceMemory::peak() const {
  return 0;
}
int64_t DeviceMemory::most() const {
  return 0;
}
void DeviceMemory::reset_peak() {}
void DeviceMemory::release() {}
int64_t DeviceMemory::kept() const {
  return 0;
}

#endif

}  // namespace seigh
