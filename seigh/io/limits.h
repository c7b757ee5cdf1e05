// What a file may ask for: the one place that decides it. A few bytes can claim any size, so sizes that come
// from outside are held against the memory there is before anything is made of them, and what is nested is
// refused before anything recursive reads it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace seigh {

/// Bytes that may still be taken: under the ceiling of the calling thread's scope or, where it has none, what
/// the machine has available.
int64_t room();
/// Throws MemoryError, beginning with `what`, unless there is room for so many bytes.
void require_room(const std::string& what, int64_t bytes);
/// A contiguous CPU tensor of sizes that a file has claimed. Throws MemoryError, beginning with `what`, where
/// there is no room for it, and Error on negative sizes and more than 64 dimensions.
at::Tensor empty_for(const std::string& what, at::IntArrayRef shape, at::ScalarType dtype);

/// Recipes, which a parser that recurses reads, are at most so long, and names within them so deep.
constexpr int64_t kMostRecipeBytes = int64_t{8} << 20;
constexpr int64_t kMostDots = 16;
/// Throws Error, beginning with `where`, on TOML that is longer, or has keys of more parts.
void require_plain_toml(std::string_view text, const std::string& where);

/// Throws Error, beginning with `where`, on JSON that nests deeper than 64 levels, or whose values would not
/// fit into the memory there is. Linear in the text.
void require_plain_json(std::string_view text, const std::string& where);

}  // namespace seigh
