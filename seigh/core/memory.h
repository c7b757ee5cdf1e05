// The memory of a computation: asked for, counted, and kept under a ceiling.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace seigh {

struct PoolAccount;  // pool.h

/// What one Context may hold. Safe to use from several threads at once.
class Memory {
 public:
  /// A ceiling in bytes of what this process may hold, what it holds already included; 0: none. `sharing`:
  /// processes that share this machine's memory. Throws MemoryError on a ceiling below what is held already.
  explicit Memory(int64_t ceiling, int sharing = 1);

  int64_t ceiling() const;
  /// What may still be taken: up to the ceiling, or without one, three quarters of the memory that the
  /// machine (or the process's control group) has available, and this process's part of it.
  int64_t available() const;
  /// Bytes of the tensors made in this context's scopes that are still there, and the most there were since
  /// the last reset_peak(). Those below 64 KB are not counted. Zero where there is no pool.
  int64_t held() const;
  int64_t peak() const;
  void reset_peak();
  /// Counts anew what the process holds besides the pool (buffers of libraries, tensors of others), for the
  /// ceiling: to be called after a trial of the work to come.
  void recount();
  /// Why there is no pool, for the user; empty when there is one.
  std::string obstacle() const;

  const std::shared_ptr<PoolAccount>& account() const { return account_; }

  /// While one lives, so many bytes are held that the pool knows nothing of: what a device's library takes of
  /// the host.
  class Held {
   public:
    Held(const Memory& memory, int64_t bytes);
    ~Held();
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

   private:
    std::shared_ptr<PoolAccount> account_;
    int64_t bytes_;
  };

 private:
  std::shared_ptr<PoolAccount> account_;
  int sharing_;
};

/// What the machine, or the process's control group, has available to all its processes.
int64_t machine_memory();
/// "8G", "1.5GiB" (powers of 1024), "8GB" (of 1000), "2000000" (bytes). Throws Error on anything else.
int64_t parse_bytes(const std::string& text);
/// "1.5 GiB", for people.
std::string format_bytes(int64_t bytes);

}  // namespace seigh
