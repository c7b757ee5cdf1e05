// libtorch's deterministic algorithms, for a while.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace seigh {

/// For as long as one that is wanted lives, libtorch takes deterministic algorithms alone, in the whole
/// process: it has one setting for all threads, and ends operations that have none with an error. What it was
/// is put back when the last one goes. cuBLAS is deterministic with a workspace of its own only
/// (CUBLAS_WORKSPACE_CONFIG), which it looks for once: it is set here, unless it is already, for a `device`
/// that is CUDA's.
class Deterministic {
 public:
  Deterministic(bool wanted, c10::Device device);
  ~Deterministic();
  Deterministic(const Deterministic&) = delete;
  Deterministic& operator=(const Deterministic&) = delete;

 private:
  bool active_;
};

/// Puts the running sums along `dim` in the place of x [.., n, ..]: cumsum on the CPU, of which CUDA has no
/// deterministic algorithm. There in some 2 sqrt(n) launches, added up in one order.
void add_up(const at::Tensor& x, int64_t dim);

}  // namespace seigh
