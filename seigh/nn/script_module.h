// Networks and losses made elsewhere: TorchScript modules, as Python's torch.jit.script(...).save() and
// torch.jit.trace(...).save() write them.
#pragma once

#include <memory>

#include "seigh/core/filesystem.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"

namespace seigh {

class ScriptPool;  // copies of a module, one for each concurrent call

/// A TorchScript module whose parameters and floating-point buffers are arguments. forward() may be called
/// from several threads at once; none of them changes what the file held. Parameters that forward does not
/// use have zero derivatives; those that are frozen (requires_grad is false) are buffers. A tensor registered
/// under several names (tied weights) is one parameter, under its first name, the others being aliases;
/// buffers of integers (counters, index tables) stay as they are in the file.
class ScriptModel final : public Model {
 public:
  /// Throws Error saying how to export instead: a missing, damaged or pickled file, a module that needs a
  /// newer libtorch, has no parameters (all constants, or all frozen) or parameters other than float32 and
  /// float64, or whose forward wants more than one input.
  explicit ScriptModel(const fs::path& path);
  ~ScriptModel() override;

  std::string description() const override;
  /// Which parameters are frozen.
  std::vector<std::string> notes() const override;
  /// The module's own values, whatever the seed, in its own precision.
  at::Tensor initial_parameters(uint64_t seed) const override;
  std::vector<at::Tensor> initial_buffers() const override;
  /// As in Model, with floating-point x and buffers converted to the dtype of the parameters; no `buffers`
  /// stands for the module's own. On another device than the CPU the file is loaded once more, with what its
  /// code holds there: constants, and devices that tracing has kept. Throws Error when the module fails or
  /// returns something else than one tensor.
  at::Tensor forward(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                     const at::Tensor& x, bool training = false) const override;

 private:
  std::unique_ptr<ScriptPool> pool_;
};

/// A loss from a TorchScript module with forward(outputs, targets) -> scalar. Its parameters and buffers are
/// constants. Throws Error as ScriptModel does.
std::shared_ptr<const CustomLoss> load_script_loss(const fs::path& path);

}  // namespace seigh
