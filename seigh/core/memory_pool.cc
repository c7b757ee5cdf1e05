#include "seigh/core/memory_pool.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>
#include <new>
#include <set>
#include <unordered_map>

#include "seigh/core/error.h"
#include "seigh/core/parallel.h"

namespace seigh {
namespace {

constexpr int64_t kAlignment = 64;    // of vector loads and cache lines
constexpr int64_t kSmall = 64 << 10;  // below, the system's allocator is quick and wastes less
constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kSegment = 64 << 20;  // taken from the kernel at once

int64_t round_up(int64_t bytes, int64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// A piece of a segment. Neighbours are linked in the order of addresses.
struct Piece {
  char* data;
  int64_t bytes;
  bool free;
  Piece *before, *after;
};

struct BySize {
  bool operator()(const Piece* a, const Piece* b) const {
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->data < b->data;
  }
};

class MemoryPool final : public c10::Allocator {
 public:
  // One of the two overrides libtorch's, which is const before 2.3 and not const after.
  c10::DataPtr allocate(size_t bytes) const { return const_cast<MemoryPool*>(this)->make(bytes); }
  c10::DataPtr allocate(size_t bytes) { return make(bytes); }
  c10::DeleterFnPtr raw_deleter() const override { return &MemoryPool::release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }

  int64_t used() const {
    const std::lock_guard lock(mutex_);
    return used_;
  }
  int64_t peak() const {
    const std::lock_guard lock(mutex_);
    return peak_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = used_;
  }
  int64_t ceiling() const {
    const std::lock_guard lock(mutex_);
    return ceiling_;
  }
  // `others` is what the process holds besides tensors.
  void set_ceiling(int64_t bytes, int64_t others) {
    const std::lock_guard lock(mutex_);
    ceiling_ = bytes;
    others_ = others;
  }
  int64_t below_ceiling() const {
    const std::lock_guard lock(mutex_);
    return ceiling_ - others_ - used_;
  }
  int64_t mapped() const {
    const std::lock_guard lock(mutex_);
    return mapped_;
  }

 private:
  c10::DataPtr make(size_t bytes);
  static void release(void* data);
  Piece* find(int64_t bytes);
  void grow(int64_t bytes);
  void give_back();
  int64_t room() const;

  mutable std::mutex mutex_;
  std::set<Piece*, BySize> free_;
  std::unordered_map<void*, Piece*> taken_;
  int64_t used_ = 0, peak_ = 0, mapped_ = 0, small_bytes_ = 0, ceiling_ = 0, others_ = 0;
};

MemoryPool* pool() {
  static MemoryPool* const one = new MemoryPool;  // never destroyed: tensors may outlive static objects
  return one;
}

bool installed = false;
std::string obstacle;

int64_t MemoryPool::room() const {
  return ceiling_ > 0 ? ceiling_ - others_ - mapped_ - small_bytes_ : std::numeric_limits<int64_t>::max();
}

// Takes a segment of at least `bytes` from the kernel, and of kSegment where the ceiling leaves room for it.
void MemoryPool::grow(int64_t bytes) {
  bytes = round_up(bytes, kHugePage);
  if (room() < std::max(bytes, kSegment)) give_back();
  if (room() < bytes) {
    fail("the memory ceiling of ", format_bytes(ceiling_), " is too low: ", format_bytes(others_ + used_),
         " are in use and ", format_bytes(bytes),
         " more are needed; raise it (--memory), or take a smaller block, fewer samples or a smaller k");
  }
  bytes = std::max(bytes, std::min(kSegment, room() / kHugePage * kHugePage));
  // One huge page more, so that the segment can start at one.
  void* const raw = mmap(nullptr, static_cast<size_t>(bytes + kHugePage), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  char* const data = reinterpret_cast<char*>(round_up(reinterpret_cast<int64_t>(raw), kHugePage));
  const int64_t head = data - static_cast<char*>(raw);
  if (head > 0) munmap(raw, static_cast<size_t>(head));
  if (head < kHugePage) munmap(data + bytes, static_cast<size_t>(kHugePage - head));
  madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // where the kernel has none, small pages serve
  mapped_ += bytes;
  free_.insert(new Piece{data, bytes, true, nullptr, nullptr});
}

// Unmaps the segments that are wholly free.
void MemoryPool::give_back() {
  for (auto it = free_.begin(); it != free_.end();) {
    Piece* const piece = *it;
    if (piece->before != nullptr || piece->after != nullptr) {
      ++it;
      continue;
    }
    it = free_.erase(it);
    munmap(piece->data, static_cast<size_t>(piece->bytes));
    mapped_ -= piece->bytes;
    delete piece;
  }
}

Piece* MemoryPool::find(int64_t bytes) {
  Piece wanted{nullptr, bytes, true, nullptr, nullptr};
  auto it = free_.lower_bound(&wanted);
  if (it == free_.end()) {
    grow(bytes);
    it = free_.lower_bound(&wanted);
  }
  Piece* const piece = *it;
  free_.erase(it);
  piece->free = false;
  if (piece->bytes - bytes >= kSmall) {
    Piece* const rest = new Piece{piece->data + bytes, piece->bytes - bytes, true, piece, piece->after};
    if (piece->after != nullptr) piece->after->before = rest;
    piece->after = rest;
    piece->bytes = bytes;
    free_.insert(rest);
  }
  return piece;
}

c10::DataPtr MemoryPool::make(size_t size) {
  if (size == 0) return {nullptr, nullptr, &MemoryPool::release, c10::DeviceType::CPU};
  if (size > static_cast<size_t>(int64_t{1} << 46)) throw std::bad_alloc();
  const int64_t bytes = round_up(static_cast<int64_t>(size), kAlignment);
  void* data = nullptr;
  const std::lock_guard lock(mutex_);
  if (bytes < kSmall) {
    if (posix_memalign(&data, kAlignment, static_cast<size_t>(bytes)) != 0) throw std::bad_alloc();
    const int64_t taken = static_cast<int64_t>(malloc_usable_size(data));
    small_bytes_ += taken;
    used_ += taken;
  } else {
    Piece* const piece = find(bytes);
    data = piece->data;
    taken_.emplace(data, piece);
    used_ += piece->bytes;
  }
  peak_ = std::max(peak_, used_);
  return {data, data, &MemoryPool::release, c10::DeviceType::CPU};
}

void MemoryPool::release(void* data) {
  if (data == nullptr) return;
  MemoryPool& self = *pool();
  const std::lock_guard lock(self.mutex_);
  const auto it = self.taken_.find(data);
  if (it == self.taken_.end()) {
    const int64_t given = static_cast<int64_t>(malloc_usable_size(data));
    self.used_ -= given;
    self.small_bytes_ -= given;
    std::free(data);
    return;
  }
  Piece* piece = it->second;
  self.taken_.erase(it);
  self.used_ -= piece->bytes;
  piece->free = true;
  const auto absorb = [&](Piece* left, Piece* right) {
    left->bytes += right->bytes;
    left->after = right->after;
    if (right->after != nullptr) right->after->before = left;
    delete right;
    return left;
  };
  if (piece->after != nullptr && piece->after->free) {
    self.free_.erase(piece->after);
    piece = absorb(piece, piece->after);
  }
  if (piece->before != nullptr && piece->before->free) {
    self.free_.erase(piece->before);
    piece = absorb(piece->before, piece);
  }
  self.free_.insert(piece);
}

// A number from a file of one number, or from the line of /proc/meminfo that begins with `key`; -1 if there
// is none.
int64_t number_in(const char* path, const std::string& key = "") {
  std::ifstream file(path);
  std::string word;
  int64_t number = -1;
  if (key.empty()) return file >> number ? number : -1;
  while (file >> word) {
    if (word == key) return file >> number ? number : -1;
  }
  return -1;
}

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace

void use_memory_pool() {
  static const bool once = [] {
#if defined(__SANITIZE_ADDRESS__)
    obstacle = "the address sanitizer must see every allocation";
    return false;
#else
    if (c10::GetCPUAllocator() != c10::GetDefaultCPUAllocator()) {
      obstacle = "another allocator is in place";
      return false;
    }
    c10::SetCPUAllocator(pool(), /*priority=*/100);
    installed = c10::GetCPUAllocator() == pool();
    if (!installed) obstacle = "libtorch refused it";  // one of higher priority was set before
    return installed;
#endif
  }();
  static_cast<void>(once);
}

std::string memory_pool_obstacle() {
  return obstacle;
}

int64_t tensor_bytes() {
  return installed ? pool()->used() : 0;
}

int64_t peak_tensor_bytes() {
  return installed ? pool()->peak() : 0;
}

void reset_peak_tensor_bytes() {
  if (installed) pool()->reset_peak();
}

void set_memory_ceiling(int64_t bytes) {
  require(bytes >= 0, "the memory ceiling must not be negative: ", bytes);
  // Libraries, their threads and buffers grow a little after the start.
  constexpr int64_t kReserve = int64_t{100} << 20;
  const int64_t others = std::max<int64_t>(resident_bytes() - pool()->mapped(), 0) + kReserve;
  require(bytes == 0 || bytes > others, "a memory ceiling of ", format_bytes(bytes),
          " is too low: the program itself takes ", format_bytes(others));
  pool()->set_ceiling(bytes, others);
}

int64_t memory_ceiling() {
  return pool()->ceiling();
}

int64_t available_memory() {
  if (memory_ceiling() > 0) return std::max<int64_t>(pool()->below_ceiling(), 0);
  int64_t available = number_in("/proc/meminfo", "MemAvailable:") * 1024;
  if (available < 0) available = int64_t{4} << 30;
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max"),
                used = number_in("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) available = std::min(available, limit - used);
  // What the pool keeps for later is available too.
  if (installed) available += pool()->mapped() - pool()->used();
  return available / 4 * 3 / processes_on_machine();
}

int64_t parse_bytes(const std::string& text) {
  size_t end = 0;
  double number = 0;
  try {
    number = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  std::string unit = text.substr(end);
  unit.erase(0, unit.find_first_not_of(' '));
  for (char& c : unit) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  static const std::string prefixes = "KMGT";
  double factor = 1;
  bool known = unit.empty() || unit == "B";
  if (!known) {
    const size_t power = prefixes.find(unit[0]);
    const std::string rest = unit.substr(1);
    known = power != std::string::npos && (rest.empty() || rest == "B" || rest == "IB");
    if (known) factor = std::pow(rest == "B" ? 1000.0 : 1024.0, static_cast<double>(power) + 1);
  }
  require(end > 0 && known && std::isfinite(number) && number > 0 && number * factor < 1e18, "\"", text,
          "\" is no amount of memory; write for example 8G or 512M");
  return static_cast<int64_t>(number * factor);
}

std::string format_bytes(int64_t bytes) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[40];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.3g %s", value, units[unit]);
  return text;
}

}  // namespace seigh
