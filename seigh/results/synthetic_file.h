// The synthetic study of the metrics on disk (docs/file_format.md): every pair's values and their quantiles.
#pragma once

#include <cstdint>
#include <string>

#include "seigh/core/filesystem.h"
#include "seigh/overlap/synthetic.h"

namespace seigh {

struct SyntheticFile {
  SyntheticStudy study;
  std::string recipe;  ///< the keys that decided it (seigh/recipe/synthetic.h: record)
  double seconds = 0;
};

/// Written completely or not at all.
void write_synthetic_file(const fs::path& path, const SyntheticFile& file);
/// Throws Error on what is damaged or another file.
SyntheticFile read_synthetic_file(const fs::path& path);

}  // namespace seigh
