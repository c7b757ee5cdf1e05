// What Python objects are to the library: a network with its loss and data, a matrix, a watcher.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "python/core/gil.h"
#include "seigh/core/progress.h"
#include "seigh/curvature/graph_source.h"
#include "seigh/linop/linear_operator.h"

namespace seigh::python {

/// Of a list of (name, shape) or (name, shape, parts, transposed). With the lock.
std::vector<ParameterSpec> specs_of(const py::object& list);

/// The methods are those of seigh._source.Source, which says what they do.
class PythonSource final : public GraphSource {
 public:
  /// With the lock.
  explicit PythonSource(py::object source);

  const std::vector<ParameterSpec>& parameters() const override { return parameters_; }
  at::Tensor fixed() const override;
  std::vector<at::Tensor> leaves() const override;
  at::ScalarType dtype() const override { return dtype_; }
  int64_t samples() const override { return samples_; }
  std::vector<int64_t> batches() const override { return batches_; }
  int64_t targets(int64_t begin, int64_t end) const override;
  /// Graphs of one module are built one after the other.
  bool concurrent() const override { return false; }
  bool supports(CurvatureKind kind) const override;
  std::shared_ptr<const GraphSource> again(const at::Tensor& order, at::ScalarType dtype) const override;
  std::vector<std::string> notes() const override;
  int64_t sample_number(int64_t i) const override;
  void prepare(int64_t begin, int64_t end) const override;
  at::Tensor loss(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const override;
  at::Tensor outputs(const std::vector<at::Tensor>& leaves, int64_t begin, int64_t end) const override;
  at::Tensor output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end) const override;
  at::Tensor sampled_output_gradient(const at::Tensor& outputs, int64_t begin, int64_t end, uint64_t seed,
                                     int64_t draw) const override;
  at::Tensor output_hessian_product(const at::Tensor& outputs, int64_t begin, int64_t end,
                                    const at::Tensor& u) const override;
  /// Stacked products where the module is a stack of linear layers.
  std::unique_ptr<CurvatureOperator> faster_operator(const CurvatureOptions& options, const std::string& name,
                                                     const Context& context) const override;

 private:
  template <typename R, typename... Arguments>
  R ask(const char* method, const Arguments&... arguments) const;

  Reference source_;
  std::vector<ParameterSpec> parameters_;
  std::vector<int64_t> batches_;
  at::ScalarType dtype_;
  int64_t samples_;
};

/// A V by a callable of a block [D, b].
class CallableOperator final : public LinearOperator {
 public:
  /// With the lock.
  CallableOperator(py::object multiply, int64_t size, at::ScalarType dtype, std::string name);

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;

 private:
  Reference multiply_;
};

/// Tells an object with begin(task, total, unit), advance(count), end() and note(text), some ten times a
/// second at most.
class PythonProgress final : public Progress {
 public:
  /// With the lock.
  explicit PythonProgress(py::object watcher);
  void begin(std::string_view task, int64_t total, std::string_view unit) override;
  void advance(int64_t count) override;
  void end() override;
  void note(std::string_view text) override;

 private:
  void flush();
  Reference watcher_;
  int64_t waiting_ = 0;
  double last_ = 0;
};

}  // namespace seigh::python
