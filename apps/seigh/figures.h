// Figures for print, of whatever a folder holds, for the command and for Python.
#pragma once

#include "seigh/core/filesystem.h"
#include "seigh/report/figures.h"

namespace seigh::app {

/// Of the run, sweep or synthetic study in `folder`, which is only looked at: no lock, no data, no code of
/// its own. For the root alone. Throws Error as write_run_figures() does, and where results are of another
/// recipe than the folder's.
FiguresWritten write_figures(const fs::path& folder, const fs::path& to);

}  // namespace seigh::app
