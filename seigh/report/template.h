// The report page without its data: what web/ holds, joined into one HTML text when the program is built
// (cmake/EmbedWeb.cmake).
#pragma once

#include <string_view>

namespace seigh {

/// The HTML page, UTF-8, valid for the life of the program. It still holds two markers, each exactly once:
/// <!--SEIGH:TITLE-->, to be replaced by HTML-escaped text, and <!--SEIGH:DATA-->, to be replaced by the
/// report's JSON (web/README.md) in which every "<" is written \u003c, since it stands inside a <script>
/// element.
std::string_view report_template();

}  // namespace seigh
