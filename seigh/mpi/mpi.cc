#include "seigh/mpi/mpi.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "seigh/core/device.h"
#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/core/ranks.h"

namespace seigh {
namespace {

// MPI counts in int.
constexpr int64_t kMost = int64_t{1} << 28;

// Whether this MPI reads and writes the memory of CUDA devices.
bool knows_cuda() {
#if defined(MPIX_CUDA_AWARE_SUPPORT) && MPIX_CUDA_AWARE_SUPPORT
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

class MpiRanks final : public Ranks {
 public:
  MpiRanks() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &on_this_machine_);
    MPI_Comm same;
    const auto colour = static_cast<int>(std::hash<std::string>()(visible_devices()) & 0x7fffffff);
    MPI_Comm_split(machine, colour, rank_, &same);
    MPI_Comm_size(same, &beside_);
    MPI_Comm_rank(same, &number_);
    MPI_Comm_free(&same);
    MPI_Comm_free(&machine);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int on_this_machine() const override { return on_this_machine_; }

  int beside() const override { return beside_; }
  int number() const override { return number_; }
  bool takes(c10::Device device) const override { return device.is_cpu() || (device.is_cuda() && cuda_); }

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

 protected:
  void exchange_vectors(const std::vector<at::Tensor>& give, const std::vector<at::Tensor>& get) override {
    const c10::OptionalDeviceGuard there(give[0].is_cpu() ? std::optional<c10::Device>()
                                                          : std::optional<c10::Device>(give[0].device()));
    for (const at::Tensor& t : give) finish(t.device());
    for (const at::Tensor& t : get) finish(t.device());
    wait();
    std::vector<MPI_Request> requests;
    const auto each_piece = [&](const at::Tensor& vector, const auto& body) {
      char* const data = static_cast<char*>(vector.data_ptr());
      const auto bytes = static_cast<int64_t>(vector.nbytes());
      for (int64_t begin = 0; begin < bytes; begin += kMost) {
        requests.emplace_back();
        body(data + begin, static_cast<int>(std::min(kMost, bytes - begin)));
      }
    };
    // Every rank begins with the one behind it, so that not all send to the same.
    for (int i = 1; i < size_; ++i) {
      const int to = (rank_ + i) % size_, from = (rank_ + size_ - i) % size_;
      each_piece(get[static_cast<size_t>(from)], [&](char* data, int n) {
        MPI_Irecv(data, n, MPI_BYTE, from, 0, MPI_COMM_WORLD, &requests.back());
      });
      each_piece(give[static_cast<size_t>(to)], [&](char* data, int n) {
        MPI_Isend(data, n, MPI_BYTE, to, 0, MPI_COMM_WORLD, &requests.back());
      });
    }
    MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  }

 private:
  // MPI knows nothing of what libtorch has only asked a device to do.
  static void finish(c10::Device device) {
    if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  }

  int rank_ = 0, size_ = 1, on_this_machine_ = 1, beside_ = 1, number_ = 0;
  const bool cuda_ = knows_cuda();
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
