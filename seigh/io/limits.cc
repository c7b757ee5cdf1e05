#include "seigh/io/limits.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <memory>

#include "seigh/core/error.h"
#include "seigh/core/memory.h"
#include "seigh/core/pool.h"

namespace seigh {

int64_t room() {
  if (const std::shared_ptr<PoolAccount> account = pool::current_account()) {
    const pool::Usage u = pool::usage(*account);
    if (u.ceiling > 0) return std::max<int64_t>(u.ceiling - u.others - u.held, 0);
  }
  return machine_memory();
}

void require_room(const std::string& what, int64_t bytes) {
  const int64_t left = room();
  if (bytes > left)
    throw MemoryError(text_of(what, " is too large for this computer's memory: it takes ",
                              format_bytes(bytes), ", ", format_bytes(left), " are left"));
}

at::Tensor empty_for(const std::string& what, at::IntArrayRef shape, at::ScalarType dtype) {
  constexpr size_t kMostDimensions = 64;
  require(shape.size() <= kMostDimensions, what, " has ", shape.size(), " dimensions; at most ",
          kMostDimensions, " can be read");
  // Zero sizes count as ones: strides of [0, huge] must not overflow either.
  int64_t bytes = static_cast<int64_t>(c10::elementSize(dtype)), numbers = 1;
  bool fits = true;
  for (const int64_t size : shape) {
    require(size >= 0, what, " has a negative size");
    fits = fits && !__builtin_mul_overflow(bytes, std::max<int64_t>(1, size), &bytes);
    numbers = size == 0 ? 0 : numbers;
  }
  if (!fits) throw MemoryError(what + " is too large for this computer's memory");
  // A ceiling is kept by the allocator, which says by how much it is too low.
  if (numbers > 0 && bytes > machine_memory()) require_room(what, bytes);
  return at::empty(shape, at::TensorOptions().dtype(dtype));
}

void require_plain_toml(std::string_view text, const std::string& where) {
  require(static_cast<int64_t>(text.size()) <= kMostRecipeBytes, where, " is no recipe: it has ", text.size(),
          " bytes, a recipe at most ", kMostRecipeBytes);
  // The dots of a dotted key, or of the name of a table. Within strings and comments there are none.
  int64_t dots = 0, line = 1;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') ++line;
    if (c == '"' || c == '\'') {
      const std::string_view three = text.substr(at, 3);
      const bool multiline = three == (c == '"' ? "\"\"\"" : "'''");
      for (at += multiline ? 3 : 1; at < text.size(); ++at) {
        if (text[at] == '\n') ++line;
        if (c == '"' && text[at] == '\\') {
          ++at;
        } else if (multiline ? text.substr(at, 3) == three : text[at] == c || text[at] == '\n') {
          at += multiline ? 2 : 0;
          break;
        }
      }
    } else if (c == '#') {
      at = std::min(text.find('\n', at), text.size()) - 1;
    } else if (c == '.') {
      require(++dots <= kMostDots, where, ":", line, ": a key of more than ", kMostDots + 1,
              " parts; the keys of a recipe have at most two");
    } else if (std::string_view("=,[]{}\n").find(c) != std::string_view::npos) {
      dots = 0;
    }
  }
}

void require_plain_json(std::string_view text, const std::string& where) {
  constexpr int64_t kMostDepth = 64;
  // What a parser makes of it: at least a comma or bracket stands for each value of some 40 bytes.
  int64_t depth = 0, values = 1;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"') {
      for (++at; at < text.size() && text[at] != '"'; ++at)
        if (text[at] == '\\') ++at;
    } else if (c == '[' || c == '{') {
      require(++depth <= kMostDepth, where, ": its JSON nests deeper than ", kMostDepth, " levels");
      ++values;
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',') {
      ++values;
    }
  }
  constexpr int64_t kValueBytes = 100;
  require_room(where, values * kValueBytes + static_cast<int64_t>(text.size()));
}

}  // namespace seigh
