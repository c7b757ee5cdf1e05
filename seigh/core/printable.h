// Text from outside, as it may be shown on a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace seigh {

/// `text` with control characters, those that turn the direction of writing, and bytes that are no UTF-8 as
/// escapes: \n, \x1b, \xff. Names of files, tensors and attributes may hold them, and a terminal obeys.
/// `keep_lines`: but for line ends and tabs.
std::string printable(std::string_view text, bool keep_lines = false);
/// The same of the beginning of a text that may have any length, at most `most` bytes and "...".
std::string shortened(std::string_view text, size_t most = 100);
/// Up to the first end of a line: what libraries say may have many.
std::string first_line(std::string_view text);

}  // namespace seigh
