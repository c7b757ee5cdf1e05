// One process, one OpenMP run-time: two would each start threads for every core.
#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/rand.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "seigh/core/context.h"
#include "seigh/core/parallel.h"

namespace seigh {
namespace {

TEST(OpenMp, OneRunTime) {
  // Whatever is loaded late is there once each has been used: seigh's loops, libtorch's and those of BLAS and
  // LAPACK.
  const Context::Scope scope(Context({.threads = 2}));
  parallel_for(4, [](int64_t) {});
  const at::Tensor a = at::rand({300, 300});
  at::linalg_eigh(a.matmul(a.t()));

  std::set<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t slash = line.find('/');
    if (slash == std::string::npos) continue;
    const std::string path = line.substr(slash);
    const std::string file = path.substr(path.rfind('/') + 1);
    for (const char* name : {"libgomp", "libomp", "libiomp", "libmp."}) {
      if (file.compare(0, std::string(name).size(), name) == 0) found.insert(path);
    }
  }
  std::string all;
  for (const std::string& path : found) all += path + "\n";
  EXPECT_EQ(found.size(), 1u) << all;
}

}  // namespace
}  // namespace seigh
