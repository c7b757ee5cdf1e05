// The report page: one self-contained HTML file.
#pragma once

#include <string>

#include "seigh/core/filesystem.h"

namespace seigh {

/// The page with `data` in it, JSON as web/README.md describes it.
std::string report_page(const std::string& title, const std::string& data);
/// Writes it, completely or not at all.
void write_report_page(const fs::path& path, const std::string& title, const std::string& data);
/// The JSON in a page that write_report_page wrote. Throws Error when there is none.
std::string read_report_data(const fs::path& path);

}  // namespace seigh
