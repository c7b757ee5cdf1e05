#include "seigh/core/pool.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>
#include <new>
#include <set>
#include <unordered_map>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/memory.h"

namespace seigh {

// All numbers are guarded by the pool's mutex.
struct PoolAccount {
  int64_t ceiling = 0, others = 0, held = 0, peak = 0;
};

namespace {

constexpr int64_t kAlignment = 64;    // of vector loads and cache lines
constexpr int64_t kSmall = 64 << 10;  // below, the system's allocator is quick and wastes less
constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kSegment = 64 << 20;  // taken from the kernel at once

thread_local const std::shared_ptr<PoolAccount>* current = nullptr;  // this thread's switch

int64_t round_up(int64_t bytes, int64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// A piece of a segment. Neighbours are linked in the order of addresses.
struct Piece {
  char* data;
  int64_t bytes;
  bool free;
  Piece *before, *after;
  std::shared_ptr<PoolAccount> owner = {};
};

struct BySize {
  bool operator()(const Piece* a, const Piece* b) const {
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->data < b->data;
  }
};

class Pool final : public c10::Allocator {
 public:
  explicit Pool(c10::Allocator* others) : others_(others) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (current == nullptr || bytes < static_cast<size_t>(kSmall)) return others_->allocate(bytes);
    return make(bytes, *current);
  }
  // Of what allocate() gives out, whoever made it: the rare callers that keep a bare pointer.
  c10::DeleterFnPtr raw_deleter() const override {
    return others_->raw_deleter() == nullptr ? nullptr : &Pool::release_any;
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }

  pool::Usage usage(const PoolAccount& a) const {
    const std::lock_guard lock(mutex_);
    return {a.ceiling, a.others, a.held, a.peak, mapped_ - held_};
  }
  void reset_peak(PoolAccount& a) {
    const std::lock_guard lock(mutex_);
    a.peak = a.held;
  }
  void hold(PoolAccount& a, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    a.held += bytes;
    a.peak = std::max(a.peak, a.held);
  }
  void recount(PoolAccount& a) {
    // Libraries, their threads and buffers grow a little after the start.
    constexpr int64_t kReserve = int64_t{100} << 20;
    const int64_t resident = resident_bytes();
    const std::lock_guard lock(mutex_);
    a.others = std::max(a.others, std::max<int64_t>(resident - mapped_, 0) + kReserve);
  }

 private:
  c10::DataPtr make(size_t bytes, const std::shared_ptr<PoolAccount>& account);
  static void release(void* data);
  static void release_any(void* data);
  bool give_back(void* data);
  Piece* find(int64_t bytes, const PoolAccount& account);
  void grow(int64_t bytes, const PoolAccount& account);
  void unmap_idle();
  int64_t room(const PoolAccount& account) const;

  c10::Allocator* const others_;
  mutable std::mutex mutex_;
  std::set<Piece*, BySize> free_;
  std::unordered_map<void*, Piece*> taken_;
  int64_t held_ = 0, mapped_ = 0;  // by all accounts; taken from the kernel
};

// The pool in libtorch's place, or why it is not there.
struct Installed {
  Pool* pool;
  std::string obstacle;
};

const Installed& installed() {
  static const Installed* const one = [] {  // never destroyed: tensors may outlive static objects
    auto* const made = new Installed{new Pool(c10::GetDefaultCPUAllocator()), ""};
#if defined(__SANITIZE_ADDRESS__)
    made->obstacle = "the address sanitizer must see every allocation";
#else
    if (c10::GetCPUAllocator() != c10::GetDefaultCPUAllocator()) {
      made->obstacle = "another allocator is in place";
    } else {
      c10::SetCPUAllocator(made->pool, /*priority=*/100);
      if (c10::GetCPUAllocator() != made->pool)
        made->obstacle = "libtorch refused it";  // one of higher priority
    }
#endif
    return made;
  }();
  return *one;
}

int64_t Pool::room(const PoolAccount& a) const {
  return a.ceiling > 0 ? a.ceiling - a.others - a.held - (mapped_ - held_)
                       : std::numeric_limits<int64_t>::max();
}

// Takes a segment of at least `bytes` from the kernel, and of kSegment where the ceiling leaves room for it.
void Pool::grow(int64_t bytes, const PoolAccount& account) {
  bytes = round_up(bytes, kHugePage);
  if (room(account) < std::max(bytes, kSegment)) unmap_idle();
  if (room(account) < bytes) {
    throw MemoryError(text_of(
        "the memory ceiling of ", format_bytes(account.ceiling),
        " is too low: ", format_bytes(account.others + account.held), " are in use and ", format_bytes(bytes),
        " more are needed; raise it (--memory), or take a smaller block, fewer samples or a smaller k"));
  }
  bytes = std::max(bytes, std::min(kSegment, room(account) / kHugePage * kHugePage));
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
void Pool::unmap_idle() {
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

Piece* Pool::find(int64_t bytes, const PoolAccount& account) {
  Piece wanted{nullptr, bytes, true, nullptr, nullptr};
  auto it = free_.lower_bound(&wanted);
  if (it == free_.end()) {
    grow(bytes, account);
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

c10::DataPtr Pool::make(size_t size, const std::shared_ptr<PoolAccount>& account) {
  if (size > static_cast<size_t>(int64_t{1} << 46)) throw std::bad_alloc();
  const std::lock_guard lock(mutex_);
  Piece* const piece = find(round_up(static_cast<int64_t>(size), kAlignment), *account);
  piece->owner = account;
  taken_.emplace(piece->data, piece);
  held_ += piece->bytes;
  account->held += piece->bytes;
  account->peak = std::max(account->peak, account->held);
  return {piece->data, piece->data, &Pool::release, c10::DeviceType::CPU};
}

void Pool::release(void* data) {
  installed().pool->give_back(data);
}

void Pool::release_any(void* data) {
  if (!installed().pool->give_back(data)) installed().pool->others_->raw_deleter()(data);
}

// Whether it was the pool's.
bool Pool::give_back(void* data) {
  const std::lock_guard lock(mutex_);
  const auto it = taken_.find(data);
  if (it == taken_.end()) return false;
  Piece* piece = it->second;
  taken_.erase(it);
  held_ -= piece->bytes;
  piece->owner->held -= piece->bytes;
  piece->owner.reset();
  piece->free = true;
  const auto absorb = [&](Piece* left, Piece* right) {
    left->bytes += right->bytes;
    left->after = right->after;
    if (right->after != nullptr) right->after->before = left;
    delete right;
    return left;
  };
  if (piece->after != nullptr && piece->after->free) {
    free_.erase(piece->after);
    piece = absorb(piece, piece->after);
  }
  if (piece->before != nullptr && piece->before->free) {
    free_.erase(piece->before);
    piece = absorb(piece->before, piece);
  }
  free_.insert(piece);
  return true;
}

}  // namespace

namespace pool {

std::shared_ptr<PoolAccount> open_account(int64_t ceiling) {
  installed();
  auto account = std::make_shared<PoolAccount>();
  account->ceiling = ceiling;
  return account;
}

std::string obstacle() {
  return installed().obstacle;
}

Usage usage(const PoolAccount& account) {
  return installed().pool->usage(account);
}

void reset_peak(PoolAccount& account) {
  installed().pool->reset_peak(account);
}

void hold(PoolAccount& account, int64_t bytes) {
  installed().pool->hold(account, bytes);
}

std::shared_ptr<PoolAccount> current_account() {
  return current != nullptr ? *current : nullptr;
}

void recount(PoolAccount& account) {
  installed().pool->recount(account);
}

}  // namespace pool

PoolScope::PoolScope(std::shared_ptr<PoolAccount> account) : account_(std::move(account)), before_(current) {
  current = &account_;
}

PoolScope::~PoolScope() {
  current = before_;
}

}  // namespace seigh
