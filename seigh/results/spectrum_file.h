// Diagonals and densities on disk (docs/file_format.md).
#pragma once

#include <cstdint>
#include <string>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/results/eigen_file.h"
#include "seigh/spectrum/density.h"
#include "seigh/spectrum/diagonal.h"

namespace seigh {

/// Of .npy only the diagonal; otherwise HDF5. Written completely or not at all, by the root.
void write_diagonal_file(const fs::path& path, const EigenFileInfo& info, const DiagonalResult& result,
                         uint64_t seed, const Context& context = Context());

/// What is drawn of a density.
struct DensityCurves {
  at::Tensor grid;  ///< float64 [points]
  double width;     ///< of the Gaussian
  Curve density, cumulative;
};

/// HDF5, in the same way.
void write_density_file(const fs::path& path, const EigenFileInfo& info, const Density& result,
                        const DensityCurves& curves, uint64_t seed, const Context& context = Context());

/// One line of what a file would hold, as JSON; the diagonal itself is left to the file.
std::string diagonal_json(const EigenFileInfo& info, const DiagonalResult& result, uint64_t seed);
std::string trace_json(const EigenFileInfo& info, const TraceResult& result, uint64_t seed);
std::string density_json(const EigenFileInfo& info, const Density& result, const DensityCurves& curves,
                         uint64_t seed);

}  // namespace seigh
