// Where tall things lie: on the device of the operator, if it is known to have room for them beside the
// products, or on the host.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <memory>
#include <string>

#include "seigh/core/context.h"
#include "seigh/core/full_precision.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

/// Rows from which on a card decomposes a small matrix faster than the CPU.
inline constexpr int64_t kWorthADevice = 512;

/// Bytes that tall things may take on op.device() beside a product of `columns` vectors: what one takes is
/// measured by one, unless `wanted` bytes are few beside what there is. 0 where there are not even `least`,
/// on the CPU, and where nothing is known of the device's memory. Of ranks, which must call it together and
/// each take as much, what the one with the least may take; each has its rows of tall things (`by_rows`), or
/// all of them.
int64_t room_on_device(LinearOperator& op, int64_t columns, int64_t least, int64_t wanted,
                       const Context& context, bool by_rows);

/// op.device() where there is room for `bytes`, and for panels of them in float64; else the CPU. Of ranks,
/// which must call it together, the same on all, each with all rows.
c10::Device place_of(LinearOperator& op, int64_t columns, int64_t bytes, const Context& context);

/// What panels of tall things of so many bytes take on a device, with what is computed from them.
int64_t panels_on_device(int64_t bytes);

/// The matrix itself, or, where it lies on the host and `device`, another one, has room for what its panels
/// take, as seen from there (transfers.h). Ranks that share its rows call it together.
std::shared_ptr<const TallMatrix> seen_from(c10::Device device, std::shared_ptr<const TallMatrix> x);

/// An uninitialised block there, or where the device turns out to have no room for it, on the host.
at::Tensor empty_block_at(c10::Device place, int64_t rows, int64_t columns, at::ScalarType dtype);

/// MemoryError, in one line, of a device that has run out of memory in `work`.
[[noreturn]] void throw_out_of_memory(const std::string& work, const LinearOperator& op,
                                      const c10::OutOfMemoryError& error);

/// What body() gives, in full precision; a device that runs out of memory in it ends it with a MemoryError.
template <typename Body>
auto on_device_of(const LinearOperator& op, const std::string& work, const Body& body) {
  const FullPrecision full(op.device());
  try {
    return body();
  } catch (const c10::OutOfMemoryError& error) {
    throw_out_of_memory(work, op, error);
  }
}

}  // namespace seigh
