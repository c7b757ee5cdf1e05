#include "seigh/curvature/kind.h"

#include "seigh/base/error.h"

namespace seigh {

CurvatureKind parse_curvature(const std::string& name) {
  if (name == "hessian") return CurvatureKind::hessian;
  if (name == "ggn") return CurvatureKind::ggn;
  fail("unknown curvature matrix \"", name, "\"; choose hessian or ggn");
}

}  // namespace seigh
