// Ranks by MPI: mpirun -n 4 seigh run recipe.toml.
#pragma once

#include <memory>

#include "seigh/core/ranks.h"

namespace seigh {

/// All ranks when this process was started by mpirun or srun with others, else this process alone.
std::shared_ptr<Ranks> start_mpi();
/// Ends MPI, where it was started. With another code than 0 all ranks are ended, at once.
void stop_mpi(int code);

}  // namespace seigh
