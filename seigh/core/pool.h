// libtorch's tensors on the CPU: kept warm on huge pages, counted, and held under a ceiling, in seigh's own
// work.
//
// libtorch frees and allocates every intermediate result. The system's allocator gives large blocks back to
// the kernel, so each product touches all its memory for the first time again, at some 12 us for a page of 4
// KB; most of a convolutional network's time went there (bench/README.md says what it still pays). The pool
// keeps freed blocks, on huge pages (madvise), and gives out the smallest free block that fits, splitting and
// merging neighbours, as caching allocators of graphics cards do.
//
// It is one allocator for the process, and a switch of each thread: within a PoolScope, tensors of 64 KB and
// more come from the pool; everything else is handed on to libtorch's own allocator, as if the pool were not
// there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace seigh {

/// What one user of the pool has of it, and may have.
struct PoolAccount;

namespace pool {

/// A new account; the pool becomes libtorch's allocator with the first. A ceiling of 0 is none.
std::shared_ptr<PoolAccount> open_account(int64_t ceiling);
/// Why tensors do without the pool: the address sanitizer, which must see every allocation, or another
/// allocator that is in libtorch's place; empty when they do not.
std::string obstacle();

struct Usage {
  int64_t ceiling;  ///< in bytes, 0: none
  int64_t others;   ///< what the process holds besides the pool, as of the last recount()
  int64_t held;     ///< of the pool, by this account
  int64_t peak;     ///< the most of it since reset_peak()
  int64_t idle;     ///< of the pool, by nobody
};
Usage usage(const PoolAccount& account);
void reset_peak(PoolAccount& account);
/// Counts bytes that are not the pool's as held by the account; negative ones as given back.
void hold(PoolAccount& account, int64_t bytes);
/// That of the calling thread's scope; null outside of one.
std::shared_ptr<PoolAccount> current_account();
/// Sets `others` to what the process holds now, and a reserve for what libraries take later; never lower.
void recount(PoolAccount& account);

}  // namespace pool

/// While it lives, allocations of this thread are on `account`. Scopes nest.
class PoolScope {
 public:
  explicit PoolScope(std::shared_ptr<PoolAccount> account);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;

 private:
  std::shared_ptr<PoolAccount> account_;
  const std::shared_ptr<PoolAccount>* before_;
};

}  // namespace seigh
