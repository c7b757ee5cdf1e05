#include "apps/seigh/matrix_file.h"

#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/io/hdf5.h"
#include "seigh/io/npy.h"

namespace seigh::app {
namespace {

at::Tensor read(const fs::path& path, const std::string& dataset) {
  if (path.extension() == ".npy") {
    require(dataset.empty(), path.string(), ": --dataset is for .h5 files; leave it out");
    return read_npy(path);
  }
  if (path.extension() != ".h5" && path.extension() != ".hdf5") {
    fail(path.string(), ": a matrix is read from .npy or .h5 files, not from \"", path.extension().string(),
         "\"");
  }
  const Hdf5Reader file(path);
  const std::vector<std::string> names = file.names();
  require(!dataset.empty() || !names.empty(), path.string(),
          " holds no data set in its root group; name one with --dataset");
  require(!dataset.empty() || names.size() == 1, path.string(), " holds ", names.size(),
          " data sets; name one with --dataset");
  return file.read(dataset.empty() ? names[0] : dataset);
}

}  // namespace

std::unique_ptr<MatrixOperator> read_matrix(const std::string& file, const std::string& dataset) {
  at::Tensor matrix = read(file, dataset);
  if (!is_vector_dtype(matrix.scalar_type()))
    matrix = matrix.to(at::kDouble);  // integer matrices are welcome
  auto op = std::make_unique<MatrixOperator>(matrix, file);
  const double largest = matrix.abs().max().item<double>();
  require(largest < 1e100, file, ": its entries reach ", largest,
          ", whose squares overflow; scale the matrix down");
  return op;
}

void require_another_file(const std::string& out, const std::string& matrix) {
  std::error_code none;
  require(!fs::equivalent(out, matrix, none), out, " is the matrix itself; choose another file with --out");
}

}  // namespace seigh::app
