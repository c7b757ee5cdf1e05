// Ranks by MPI: mpirun -n 4 seigh run recipe.toml.
#pragma once

namespace seigh {

/// Joins the other ranks when this process was started by mpirun or srun with others: world() is then made of
/// all, and each rank gets its part of its machine's cores (what set_threads(0) means) and memory.
void start_mpi();
/// Ends MPI, where it was started. With another code than 0 all ranks are ended, at once.
void stop_mpi(int code);

}  // namespace seigh
