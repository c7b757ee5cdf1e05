// The report page: one self-contained HTML file.
#pragma once

#include <filesystem>
#include <string>

namespace seigh {

/// Writes the page with `data` (JSON, described in web/README.md) in it; completely or not at all.
void write_report_page(const std::filesystem::path& path, const std::string& title, const std::string& data);
/// The JSON in a page that write_report_page wrote. Throws Error when there is none.
std::string read_report_data(const std::filesystem::path& path);

}  // namespace seigh
