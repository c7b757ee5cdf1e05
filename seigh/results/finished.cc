#include "seigh/results/finished.h"

#include <ATen/ops/isfinite.h>

#include <string>

#include "seigh/core/error.h"
#include "seigh/results/overlap_file.h"

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

OverlapCurves finished_overlap(const fs::path& path) {
  return mendable(path, [&] {
    OverlapCurves curves = read_overlap_file(path);
    const int64_t k = curves.magnitude.numel();
    for (const at::Tensor* curve :
         {&curves.magnitude, &curves.best, &curves.random_mean, &curves.random_std,
          &curves.random_by_layer_mean, &curves.random_by_layer_std, &curves.chance}) {
      require(k >= 1 && curve->dim() == 1 && curve->numel() == k && curve->scalar_type() == at::kDouble,
              path.string(), ": a curve has shape ", curve->sizes(), ", not float64 [", k, "]");
    }
    if (curves.nulls.defined()) {
      const OverlapNulls& nulls = curves.nulls;
      for (const NullCurve* null : {&nulls.uniform, &nulls.layer, &nulls.output_unit, &nulls.input_unit}) {
        for (const at::Tensor* curve : {&null->mean, &null->deviation, &null->free})
          require(curve->dim() == 1 && curve->numel() == k, path.string(), ": a null has shape ",
                  curve->sizes(), ", not [", k, "]");
      }
      const TwoWayNull& t = nulls.two_way;
      const int64_t n = t.sizes.numel();
      for (const at::Tensor* values : {&t.sizes, &t.overlap, &t.mean, &t.deviation, &t.free, &t.samples,
                                       &t.acceptance, &t.autocorrelation, &t.effective, &t.p}) {
        require(n >= 1 && values->dim() == 1 && values->numel() == n, path.string(),
                ": the two-way null has shape ", values->sizes(), ", not [", n, "]");
      }
      require(t.sizes.min().item<int64_t>() >= 1 && t.sizes.max().item<int64_t>() <= k, path.string(),
              ": the two-way null is of sizes beyond 1 to ", k);
    }
    return curves;
  });
}

}  // namespace seigh
