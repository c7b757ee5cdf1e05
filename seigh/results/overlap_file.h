// Overlap curves on disk: RUN/overlap/*.h5 (docs/file_format.md).
#pragma once

#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/eigen/result.h"
#include "seigh/nn/model.h"
#include "seigh/overlap/anatomy.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/eigenspace.h"

namespace seigh {

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

/// Masks against the eigenspaces of one decomposition.
struct OverlapStudy {
  struct Mask {
    std::string score = "magnitude";  ///< a name of score_names(), or of a file
    std::string population = "all";   ///< which parameters it may hold: "all", "chosen", "weights"
    OverlapCurves curves;
    MaskAnatomy anatomy;
    /// Of a mask of a size of its own (zeros and ones from a file): its nulls against spaces of any k.
    int64_t ones = 0;
    OverlapNulls fixed;
    /// "snip", "magnitude@weights"
    std::string label() const { return population == "all" ? score : score + "@" + population; }
  };
  std::vector<Mask> masks;  ///< at least one; the first is the recipe's headline
  SpaceAnatomy space;
  std::vector<ParameterSpec> tensors;  ///< the rows of the space's and the masks' anatomy
};

/// recipe: the keys that decided it (record()). Written completely or not at all.
void write_overlap_file(const fs::path& path, const OverlapStudy& study, const OverlapOptions& options,
                        const std::string& recipe = {});
/// What files of earlier versions lack stays undefined. Throws Error naming the file when something is
/// missing or damaged.
OverlapStudy read_overlap_file(const fs::path& path);

}  // namespace seigh
