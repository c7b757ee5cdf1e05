#include "seigh/mpi/mpi.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/core/ranks.h"

namespace seigh {
namespace {

// MPI counts in int.
constexpr int64_t kMost = int64_t{1} << 28;

MPI_Datatype datatype(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kComplexFloat:
      return MPI_C_FLOAT_COMPLEX;
    case at::kComplexDouble:
      return MPI_C_DOUBLE_COMPLEX;
    case at::kLong:
      return MPI_INT64_T;
    default:
      fail("ranks cannot add tensors of ", tensor.scalar_type());
  }
}

class MpiRanks final : public Ranks {
 public:
  MpiRanks() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &on_this_machine_);
    MPI_Comm_free(&machine);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int on_this_machine() const override { return on_this_machine_; }

  void sum(const at::Tensor& tensor) override {
    require(tensor.is_non_overlapping_and_dense(), "ranks can only exchange dense tensors");
    wait();
    char* const data = static_cast<char*>(tensor.data_ptr());
    const int64_t total = tensor.numel(), element = static_cast<int64_t>(tensor.element_size());
    for (int64_t begin = 0; begin < total; begin += kMost)
      MPI_Allreduce(MPI_IN_PLACE, data + begin * element, static_cast<int>(std::min(kMost, total - begin)),
                    datatype(tensor), MPI_SUM, MPI_COMM_WORLD);
  }

  void broadcast(void* data, int64_t bytes, int from) override {
    wait();
    for (int64_t begin = 0; begin < bytes; begin += kMost)
      MPI_Bcast(static_cast<char*>(data) + begin, static_cast<int>(std::min(kMost, bytes - begin)), MPI_BYTE,
                from, MPI_COMM_WORLD);
  }

  // MPI's own calls spin while they wait, which takes cores from the ranks that still compute.
  void wait() override {
    using namespace std::chrono_literals;
    MPI_Request request;
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    int done = 0;
    for (auto pause = 1us;; pause = std::min<std::chrono::microseconds>(2 * pause, 2ms)) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done) return;
      std::this_thread::sleep_for(pause);
    }
  }

 private:
  int rank_ = 0, size_ = 1, on_this_machine_ = 1;
};

// Of each MPI there is: Open MPI, MPICH and its kin, SLURM.
bool started_with_others() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}) {
    const char* const value = std::getenv(name);
    if (value != nullptr && std::atoi(value) > 1) return true;
  }
  return false;
}

}  // namespace

std::shared_ptr<Ranks> start_mpi() {
  int running = 0;
  MPI_Initialized(&running);
  if (!running && !started_with_others()) return std::make_shared<Ranks>();
  if (!running) MPI_Init(nullptr, nullptr);
  auto ranks = std::make_shared<MpiRanks>();
  if (ranks->size() == 1) return std::make_shared<Ranks>();  // tasks of SLURM without MPI between them
  return ranks;
}

void stop_mpi(int code) {
  int running = 0, size = 1;
  MPI_Initialized(&running);
  if (!running) return;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (code != 0 && size > 1) MPI_Abort(MPI_COMM_WORLD, code);
  MPI_Finalize();
}

}  // namespace seigh
