// Runs from Python: recipes whose network is Python's, and the command in Python's process.
#pragma once

#include "python/core/gil.h"
#include "seigh/run/foreign.h"

namespace seigh::python {

/// A network, loss and data in Python; the methods are those of seigh._run.Problem.
class PythonForeign final : public Foreign {
 public:
  /// With the lock.
  explicit PythonForeign(py::object problem) : problem_(refer(std::move(problem))) {}
  std::string description() const override;
  std::vector<ParameterSpec> parameters() const override;
  std::vector<ParameterSpec> buffers() const override;
  std::vector<HiddenUnits> hidden_units() const override;
  int64_t samples(const std::string& split) const override;
  Checkpoint checkpoint(int64_t step, const fs::path& file) const override;
  double loss(const Checkpoint& checkpoint) const override;
  std::shared_ptr<const GraphSource> source(const Checkpoint& checkpoint, const std::string& split,
                                            int64_t samples, at::ScalarType dtype) const override;
  std::pair<at::Tensor, at::Tensor> digest(const std::string& split, int64_t samples) const override;

 private:
  Reference problem_;
};

void define_runs(py::module_& m);

/// Asked by every thread at work, a few times a second each: has Python's main thread had a signal?
bool interrupted();

}  // namespace seigh::python
