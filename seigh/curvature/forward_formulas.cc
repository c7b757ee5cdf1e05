#include "seigh/curvature/forward_formulas.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/api/include/torch/jit.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/decomposition_registry.h>

#include <memory>

namespace seigh {
namespace {

// By the operations' own names and arguments. The statistics of layer norm are computed anew, since what is
// saved of them does not say how they change; eps is what they were off by.
constexpr const char* kFormulas = R"(
def _log_softmax_backward_data(g: Tensor, y: Tensor, dim: int, dtype: int):
    return g - torch.exp(y) * torch.sum(g, [dim], True)

def _softmax_backward_data(g: Tensor, y: Tensor, dim: int, dtype: int):
    gy = g * y
    return gy - y * torch.sum(gy, [dim], True)

def native_layer_norm_backward(g: Tensor, x: Tensor, shape: List[int], mean: Tensor, r: Tensor, w: Optional[Tensor],
                               b: Optional[Tensor], mask: List[bool]):
    outer = x.dim() - len(shape)
    inner: List[int] = []
    for d in range(outer, x.dim()):
        inner.append(d)
    centred = x - torch.mean(x, inner, True)
    variance = torch.mean(centred * centred, inner, True)
    scale = torch.rsqrt(variance + (1 / (r * r) - variance).detach())
    normal = centred * scale
    gn = g
    if w is not None:
        gn = g * w
    dx = scale * (gn - torch.mean(gn, inner, True) - normal * torch.mean(gn * normal, inner, True))
    dw = g * normal
    db = g
    if outer > 0:
        rows: List[int] = []
        for d in range(outer):
            rows.append(d)
        dw = torch.sum(dw, rows)
        db = torch.sum(db, rows)
    return dx, dw, db

def native_batch_norm_backward(g: Tensor, x: Tensor, w: Optional[Tensor], mean: Optional[Tensor], variance: Optional[Tensor],
                               saved_mean: Optional[Tensor], saved_r: Optional[Tensor], train: bool, eps: float,
                               mask: List[bool]):
    shape: List[int] = [1, -1]
    rows: List[int] = [0]
    for d in range(2, x.dim()):
        shape.append(1)
        rows.append(d)
    if train:
        centred = x - torch.mean(x, rows, True)
        scale = torch.rsqrt(torch.mean(centred * centred, rows, True) + eps)
    else:
        assert mean is not None and variance is not None
        centred = x - torch.reshape(mean, shape)
        scale = torch.reshape(torch.rsqrt(variance + eps), shape)
    normal = centred * scale
    gn = g
    if w is not None:
        gn = g * torch.reshape(w, shape)
    dx = scale * gn
    if train:
        dx = scale * (gn - torch.mean(gn, rows, True) - normal * torch.mean(gn * normal, rows, True))
    return dx, torch.sum(g * normal, rows), torch.sum(g, rows)
)";

void register_all() {
  const std::shared_ptr<torch::jit::CompilationUnit> unit = torch::jit::compile(kFormulas);
  for (const char* name : {"_log_softmax_backward_data", "_softmax_backward_data",
                           "native_layer_norm_backward", "native_batch_norm_backward"}) {
    const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow((std::string("aten::") + name).c_str(), "");
    if (torch::jit::has_jit_decomposition(op.schema())) continue;
    std::shared_ptr<torch::jit::Graph> graph =
        torch::jit::toGraphFunction(unit->get_function(name)).graph()->copy();
    torch::jit::Inline(*graph);
    torch::jit::RegisterDecomposition(op.schema(), std::move(graph));
  }
}

}  // namespace

void register_forward_formulas() {
  static const bool once = (register_all(), true);
  static_cast<void>(once);
}

}  // namespace seigh
