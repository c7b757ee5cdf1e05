#include "seigh/results/finished.h"

#include <ATen/ops/isfinite.h>

#include <string>
#include <utility>

#include "seigh/core/error.h"

namespace seigh {
namespace {

template <typename Read>
auto mendable(const fs::path& path, const Read& read) {
  try {
    return read();
  } catch (const Error& error) {
    const std::string message = error.what(), name = path.string();
    const bool named = message.find(name) != std::string::npos;
    fail(named ? "" : name + ": ", message, "; delete ", named ? "the file" : name,
         " and continue with seigh run --resume");
  }
}

}  // namespace

Checkpoint finished_checkpoint(const RunFolder& folder, const Model& model, int64_t step) {
  const fs::path path = folder.checkpoint(step);
  return mendable(path, [&] {
    Checkpoint checkpoint = read_checkpoint(path, model);
    require(checkpoint.step == step, path.string(), ": holds step ", checkpoint.step, ", not ", step);
    require(checkpoint.parameters.isfinite().all().item<bool>(), path.string(), ": holds NaN or infinity");
    return checkpoint;
  });
}

EigenFile finished_eigen(const fs::path& path, int64_t parameters, Vectors vectors, const Context& context) {
  return mendable(path, [&] {
    EigenFile file = read_eigen_file(path, vectors, context);
    require(parameters == 0 || file.info.parameters == parameters, path.string(), ": is of ",
            file.info.parameters, " parameters, this run of ", parameters);
    const at::Tensor& values = file.result.eigenvalues;
    require(values.dim() == 1 && values.numel() == file.result.rank, path.string(),
            ": eigenvalues have shape ", values.sizes(), ", not [", file.result.rank, "]");
    require(values.isfinite().all().item<bool>(), path.string(), ": eigenvalues hold NaN or infinity");
    return file;
  });
}

namespace {

// Of curves of `points` values each.
void check_nulls(const fs::path& path, const OverlapNulls& nulls, int64_t points) {
  for (const NullCurve* null : {&nulls.uniform, &nulls.layer, &nulls.output_unit, &nulls.input_unit}) {
    for (const at::Tensor* curve : {&null->mean, &null->deviation, &null->free})
      require(curve->dim() == 1 && curve->numel() == points, path.string(), ": a null has shape ", curve->sizes(),
              ", not [", points, "]");
  }
  const TwoWayNull& t = nulls.two_way;
  const int64_t n = t.sizes.numel();
  for (const at::Tensor* values : {&t.sizes, &t.overlap, &t.mean, &t.deviation, &t.free, &t.samples,
                                   &t.acceptance, &t.autocorrelation, &t.effective, &t.p}) {
    require(n >= 1 && values->dim() == 1 && values->numel() == n, path.string(),
            ": the two-way null has shape ", values->sizes(), ", not [", n, "]");
  }
}

void check_curves(const fs::path& path, const OverlapCurves& curves, int64_t k) {
  for (const at::Tensor* curve : {&curves.magnitude, &curves.best, &curves.chance}) {
    require(k >= 1 && curve->dim() == 1 && curve->numel() == k && curve->scalar_type() == at::kDouble,
            path.string(), ": a curve has shape ", curve->sizes(), ", not float64 [", k, "]");
  }
  if (!curves.nulls.defined()) return;
  check_nulls(path, curves.nulls, k);
  const at::Tensor& sizes = curves.nulls.two_way.sizes;
  require(sizes.min().item<int64_t>() >= 1 && sizes.max().item<int64_t>() <= k, path.string(),
          ": the two-way null is of sizes beyond 1 to ", k);
}

}  // namespace

OverlapStudy finished_study(const fs::path& path) {
  return mendable(path, [&] {
    OverlapStudy study = read_overlap_file(path);
    const int64_t tensors = static_cast<int64_t>(study.tensors.size());
    for (const OverlapStudy::Mask& mask : study.masks) {
      check_curves(path, mask.curves, mask.curves.magnitude.numel());
      if (mask.fixed.defined()) check_nulls(path, mask.fixed, mask.fixed.two_way.sizes.numel());
      if (!mask.anatomy.defined()) continue;
      const MaskAnatomy& a = mask.anatomy;
      const int64_t n = a.sizes.numel();
      require(a.counts.dim() == 2 && a.counts.size(1) == n && a.within.sizes() == a.counts.sizes() &&
                  a.ceiling_layer.numel() == n && a.ceiling_output_unit.numel() == n &&
                  a.ceiling_input_unit.numel() == n && a.by_size.dim() == 2 &&
                  a.by_size.size(0) == a.mask_sizes.numel() && a.by_size.size(1) == n &&
                  a.by_size_layer.sizes() == a.by_size.sizes() &&
                  (tensors == 0 || a.counts.size(0) == tensors),
              path.string(), ": what it says of tensors and sizes does not fit together");
    }
    require(
        !study.space.defined() || (study.space.energy.dim() == 2 && study.space.participation.dim() == 1 &&
                                   study.space.energy.size(1) == study.space.participation.numel() &&
                                   (tensors == 0 || study.space.energy.size(0) == tensors)),
        path.string(), ": what it says of tensors does not fit together");
    return study;
  });
}

OverlapCurves finished_overlap(const fs::path& path) {
  return std::move(finished_study(path).masks.front().curves);
}

}  // namespace seigh
