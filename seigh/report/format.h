// printf's patterns for the short texts of results.
#pragma once

#include <string>

namespace seigh {

/// At most 299 bytes; what is longer is cut.
std::string format(const char* pattern, ...);

}  // namespace seigh
