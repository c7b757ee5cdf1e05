// The memory of all tensors: kept warm on huge pages, counted, and held under a ceiling.
//
// libtorch frees and allocates every intermediate result. The system's allocator gives large blocks back to
// the kernel, so each product touches all its memory for the first time again, at some 12 us for a page of 4
// KB; most of a convolutional network's time went there. The pool keeps freed blocks, on huge pages
// (madvise), and gives out the smallest free block that fits, splitting and merging neighbours, as caching
// allocators of graphics cards do.
#pragma once

#include <cstdint>
#include <string>

namespace seigh {

/// Makes the pool libtorch's allocator on the CPU, for tensors made from now on; those made before stay
/// valid. Does nothing when called again, under the address sanitizer (which must see every allocation), or
/// when another allocator than libtorch's own is in place.
void use_memory_pool();
/// Why tensors do without the pool, for the user; empty when they use it or nobody has asked for it yet.
std::string memory_pool_obstacle();

/// Bytes held by tensors now, and the most there were since the last reset_peak_tensor_bytes(). Zero without
/// the pool.
int64_t tensor_bytes();
int64_t peak_tensor_bytes();
void reset_peak_tensor_bytes();

/// The ceiling of this process's memory, in bytes: an allocation that would lift the tensors' memory,
/// together with what the process had when the ceiling was set, above it throws Error. 0: none, the start.
void set_memory_ceiling(int64_t bytes);
int64_t memory_ceiling();
/// What tensors may still take: up to the ceiling, or without one, three quarters of the memory that the
/// machine (or the process's control group) has available.
int64_t available_memory();

/// "8G", "1.5GiB" (powers of 1024), "8GB" (of 1000), "2000000" (bytes). Throws Error on anything else.
int64_t parse_bytes(const std::string& text);
/// "1.5 GiB", for people.
std::string format_bytes(int64_t bytes);

}  // namespace seigh
