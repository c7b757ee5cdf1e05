#include "seigh/curvature/graph_source.h"

#include "seigh/core/error.h"

namespace seigh {
namespace {

[[noreturn]] void no_outputs() {
  fail("this network gives its loss alone; a matrix other than the Hessian needs its outputs");
}

}  // namespace

at::Tensor GraphSource::outputs(const std::vector<at::Tensor>&, int64_t, int64_t) const {
  no_outputs();
}
at::Tensor GraphSource::output_gradient(const at::Tensor&, int64_t, int64_t) const {
  no_outputs();
}
at::Tensor GraphSource::sampled_output_gradient(const at::Tensor&, int64_t, int64_t, uint64_t,
                                                int64_t) const {
  no_outputs();
}
at::Tensor GraphSource::output_hessian_product(const at::Tensor&, int64_t, int64_t, const at::Tensor&) const {
  no_outputs();
}

std::shared_ptr<const GraphSource> GraphSource::again(const at::Tensor&, at::ScalarType) const {
  return nullptr;
}

std::unique_ptr<CurvatureOperator> GraphSource::faster_operator(const CurvatureOptions&, const std::string&,
                                                                const Context&) const {
  return nullptr;
}

}  // namespace seigh
