#pragma once

#include "seigh/core/filesystem.h"

namespace seigh::app {

/// Prints a run folder: its result, which stages are finished, its files. Throws Error when it is none.
void show_run(const fs::path& path);

}  // namespace seigh::app
