// One decomposition on disk: RUN/eigen/*.h5 (docs/file_format.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/eigen/result.h"
#include "seigh/nn/model.h"

namespace seigh {

/// What was decomposed, beside the result itself.
struct EigenFileInfo {
  std::string matrix;  ///< "hessian", or "matrix" for one read from a file
  std::string split;   ///< "train", "validation", "test"; empty for a matrix from a file
  int64_t step = 0;
  int64_t parameters = 0;     ///< D
  int64_t samples = 0;        ///< 0 for a matrix from a file
  int64_t k = 0;              ///< eigenpairs asked for
  int64_t s = 0;              ///< measurements; D for dense
  std::string dtype;          ///< of the products (dtype_name())
  at::Tensor sample_indices;  ///< int64 [samples] within the split; undefined for a matrix from a file
  /// Dense beside a sketch of the same matrix only: the sketch's true error ||H - H^||_F.
  std::optional<double> sketch_error;
  std::string fingerprint = {};  ///< of the matrix (core/fingerprint.h); empty where it is not known
  /// The parameter tensors that the rows are, in their order; empty for a matrix from a file, and where their
  /// names are too long for an attribute.
  std::vector<ParameterSpec> tensors = {};
  std::string recipe = {};  ///< the keys that decided it (record()); empty for a matrix from a file
};

struct EigenFile {
  EigenFileInfo info;
  EigenResult result;  ///< without eigenvectors when the file has none
  bool has_vectors = false;
};

/// Written completely or not at all.
void write_eigen_file(const fs::path& path, const EigenFileInfo& info, const EigenResult& result,
                      bool with_vectors, const Context& context = Context());
/// How the eigenvectors of a file are wanted: not at all; by panels, as they are needed; or in memory, if
/// they are small beside it.
enum class Vectors { none, by_panels, if_small };
/// Throws Error naming the file when it is damaged or no decomposition.
EigenFile read_eigen_file(const fs::path& path, Vectors vectors = Vectors::none,
                          const Context& context = Context());

}  // namespace seigh
