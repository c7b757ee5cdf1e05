// Overlap curves on disk: RUN/overlap/*.h5 (docs/file_format.md).
#pragma once

#include "seigh/core/filesystem.h"
#include "seigh/eigen/result.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/eigenspace.h"

namespace seigh {

/// With the keys of the recipe that decided them (record()), if any. Written completely or not at all.
void write_overlap_file(const fs::path& path, const OverlapCurves& curves, const OverlapOptions& options,
                        const std::string& recipe = "");
/// Throws Error naming the file when it is damaged or holds no overlap curves.
OverlapCurves read_overlap_file(const fs::path& path);

/// A solver's eigenvectors as the overlap study sees them.
class ResultEigenspace final : public Eigenspace {
 public:
  /// `vectors` must outlive the eigenspace.
  explicit ResultEigenspace(const Eigenvectors& vectors) : vectors_(vectors) {}
  int64_t dimension() const override { return vectors_.dimension(); }
  int64_t count() const override { return vectors_.count(); }
  at::Tensor rows(const at::Tensor& index) const override { return vectors_.rows(index); }
  at::Tensor row_range(int64_t begin, int64_t n) const override { return vectors_.rough_row_range(begin, n); }
  bool divided() const override { return vectors_.divided(); }

 private:
  const Eigenvectors& vectors_;
};

}  // namespace seigh
