// A network, its loss and its data that somebody else holds (Python): what a run needs of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/curvature/graph_source.h"
#include "seigh/nn/model.h"
#include "seigh/recipe/recipe.h"
#include "seigh/train/checkpoint.h"

namespace seigh {

class Foreign {
 public:
  virtual ~Foreign() = default;

  /// One line for people: "Net, net.py:make".
  virtual std::string description() const = 0;
  virtual std::vector<ParameterSpec> parameters() const = 0;
  virtual std::vector<ParameterSpec> buffers() const = 0;
  /// As of a Model.
  virtual std::vector<HiddenUnits> hidden_units() const = 0;
  /// Of the split of that name. Throws Error where there is none.
  virtual int64_t samples(const std::string& split) const = 0;
  /// Parameters, buffers and loss() at `step`: those of `file`, or its own where that is empty. Throws Error.
  virtual Checkpoint checkpoint(int64_t step, const fs::path& file) const = 0;
  /// On the first thousand training samples.
  virtual double loss(const Checkpoint& checkpoint) const = 0;
  /// The loss at a checkpoint's parameters, over the first `samples` samples of a split.
  virtual std::shared_ptr<const GraphSource> source(const Checkpoint& checkpoint, const std::string& split,
                                                    int64_t samples, at::ScalarType dtype) const = 0;
  /// Numbers that are others where these samples are: inputs and targets, any shapes.
  virtual std::pair<at::Tensor, at::Tensor> digest(const std::string& split, int64_t samples) const = 0;
};

/// Makes what a recipe names (model.python). Empty: this program cannot.
using MakeForeign = std::function<std::shared_ptr<const Foreign>(const Recipe&)>;

/// That of `recipe`, whose curvature.samples = 0 becomes as many as every split has; null where its network
/// is not foreign. Throws Error where it is and `make` is empty.
std::shared_ptr<const Foreign> make_foreign(Recipe& recipe, const MakeForeign& make);

/// Names, shapes and units without the network behind them.
class StoredModel final : public Model {
 public:
  StoredModel(std::string description, std::vector<ParameterSpec> parameters,
              std::vector<ParameterSpec> buffers, std::vector<HiddenUnits> units);
  /// As a checkpoint of seigh's describes it. Throws Error naming the file.
  static std::unique_ptr<Model> of_checkpoint(const fs::path& file);

  std::string description() const override { return description_; }
  std::vector<HiddenUnits> hidden_units() const override { return units_; }
  at::Tensor initial_parameters(uint64_t seed) const override;
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

 private:
  std::string description_;
  std::vector<HiddenUnits> units_;
};

}  // namespace seigh
