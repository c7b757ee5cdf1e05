#include "python/core/sources.h"

#include <algorithm>
#include <chrono>

#include "seigh/core/dtype.h"
#include "seigh/curvature/mlp_curvature.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/mlp.h"

namespace seigh::python {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Whether libtorch has put its own in the place of the parameters, for derivatives in batches.
bool in_batches(const std::vector<at::Tensor>& leaves) {
  return std::any_of(leaves.begin(), leaves.end(), [](const at::Tensor& leaf) {
    return leaf.key_set().has(c10::DispatchKey::FuncTorchGradWrapper);
  });
}

}  // namespace

std::vector<ParameterSpec> specs_of(const py::object& list) {
  std::vector<ParameterSpec> specs;
  for (const py::handle& entry : list) {
    const py::tuple fields = entry.cast<py::tuple>();
    ParameterSpec& spec = specs.emplace_back(
        ParameterSpec{fields[0].cast<std::string>(), fields[1].cast<std::vector<int64_t>>()});
    if (fields.size() < 3) continue;
    spec.parts = fields[2].cast<int64_t>();
    spec.transposed = fields[3].cast<bool>();
  }
  return specs;
}

template <typename R, typename... Arguments>
R PythonSource::ask(const char* method, const Arguments&... arguments) const {
  return with_gil([&] { return source_->attr(method)(arguments...).template cast<R>(); });
}

PythonSource::PythonSource(py::object source) : source_(refer(std::move(source))) {
  parameters_ = specs_of(source_->attr("parameters")());
  dtype_ = parse_dtype(source_->attr("dtype_name").cast<std::string>());
  samples_ = source_->attr("samples").cast<int64_t>();
  batches_ = source_->attr("batches").cast<std::vector<int64_t>>();
}

at::Tensor PythonSource::fixed() const {
  return with_gil([&] {
    const py::object found = source_->attr("fixed")();
    return found.is_none() ? at::Tensor() : found.cast<at::Tensor>();
  });
}
std::vector<at::Tensor> PythonSource::leaves() const {
  return ask<std::vector<at::Tensor>>("leaves");
}
int64_t PythonSource::targets(int64_t begin, int64_t end) const {
  return ask<int64_t>("targets", begin, end);
}
bool PythonSource::supports(CurvatureKind kind) const {
  return ask<bool>("supports", to_string(kind));
}
std::shared_ptr<const GraphSource> PythonSource::again(const at::Tensor& order, at::ScalarType dtype) const {
  return with_gil([&]() -> std::shared_ptr<const GraphSource> {
    py::object other =
        source_->attr("again")(order.defined() ? py::cast(order) : py::none(), dtype_name(dtype));
    if (other.is_none()) return nullptr;
    return std::make_shared<PythonSource>(std::move(other));
  });
}
std::vector<std::string> PythonSource::notes() const {
  return ask<std::vector<std::string>>("notes");
}
int64_t PythonSource::sample_number(int64_t i) const {
  return ask<int64_t>("sample_number", i);
}
void PythonSource::prepare(int64_t begin, int64_t end) const {
  with_gil([&] { source_->attr("prepare")(begin, end); });
}
at::Tensor PythonSource::loss(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const {
  return ask<at::Tensor>(in_batches(leaves) ? "loss_at" : "loss", leaves, begin, end);
}
at::Tensor PythonSource::outputs(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const {
  return ask<at::Tensor>(in_batches(leaves) ? "outputs_at" : "outputs", leaves, begin, end);
}
at::Tensor PythonSource::output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const {
  return ask<at::Tensor>("output_gradient", outputs, begin, end);
}
at::Tensor PythonSource::sampled_output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end,
                                                 uint64_t seed, int64_t draw) const {
  return ask<at::Tensor>("sampled_output_gradient", outputs, begin, end, seed, draw);
}
at::Tensor PythonSource::output_hessian_product(const at::Tensor& outputs, int64_t begin, int64_t end,
                                                const at::Tensor& u) const {
  try {
    return ask<at::Tensor>("output_hessian_product", outputs, begin, end, u);
  } catch (const PythonException& error) {
    // A loss that has no second derivative: its first ones may serve.
    throw std::runtime_error(error.what());
  }
}

std::unique_ptr<CurvatureOperator> PythonSource::faster_operator(const CurvatureOptions& options,
                                                                 const std::string& name,
                                                                 const Context& context) const {
  struct Stack {
    std::vector<int64_t> widths;
    std::string activation, loss;
    std::vector<std::string> chosen;
    double smoothing = 0;
    at::Tensor parameters, x, y;
  };
  const auto stack = with_gil([&]() -> std::optional<Stack> {
    const py::object found = source_->attr("stack")();
    if (found.is_none()) return std::nullopt;
    const auto get = [&](const char* key) { return found[key]; };
    return Stack{get("widths").cast<std::vector<int64_t>>(),
                 get("activation").cast<std::string>(),
                 get("loss").cast<std::string>(),
                 get("chosen").cast<std::vector<std::string>>(),
                 get("smoothing").cast<double>(),
                 get("parameters").cast<at::Tensor>(),
                 get("x").cast<at::Tensor>(),
                 get("y").cast<at::Tensor>()};
  });
  if (!stack) return nullptr;
  const Mlp model(stack->widths, parse_activation(stack->activation));
  const Loss loss(parse_loss(stack->loss), stack->smoothing);
  CurvatureOptions o = options;
  o.loss = loss;
  o.dtype = dtype_;
  o.parameters = stack->chosen;
  return MlpCurvatureOperator::where_possible(
      model, stack->parameters, Dataset{stack->x, stack->y, stack->widths.back()}, o, name, context);
}

CallableOperator::CallableOperator(py::object multiply, int64_t size, at::ScalarType dtype, std::string name)
    : LinearOperator(size, dtype, std::move(name)), multiply_(refer(std::move(multiply))) {}

at::Tensor CallableOperator::apply_impl(const at::Tensor& block) {
  return with_gil([&] { return (*multiply_)(block).cast<at::Tensor>(); });
}

PythonProgress::PythonProgress(py::object watcher) : watcher_(refer(std::move(watcher))) {}

void PythonProgress::begin(std::string_view task, int64_t total, std::string_view unit) {
  waiting_ = 0;
  last_ = now();
  with_gil([&] { watcher_->attr("begin")(std::string(task), total, std::string(unit)); });
}
void PythonProgress::advance(int64_t count) {
  waiting_ += count;
  if (now() - last_ >= 0.1) flush();
}
void PythonProgress::end() {
  flush();
  with_gil([&] { watcher_->attr("end")(); });
}
void PythonProgress::note(std::string_view text) {
  with_gil([&] { watcher_->attr("note")(std::string(text)); });
}
void PythonProgress::flush() {
  last_ = now();
  if (waiting_ == 0) return;
  with_gil([&] { watcher_->attr("advance")(waiting_); });
  waiting_ = 0;
}

}  // namespace seigh::python
