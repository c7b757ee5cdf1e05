#include "seigh/nn/script_module.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <unordered_set>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/io/file.h"

namespace seigh {
namespace {

using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;

// Tensors that are made while one lives, and kept, are none of torch.func's layers, in which the module may
// be run (curvature/batched_derivatives.h): they end before it does.
class OutsideOfLayers {
 private:
  c10::impl::ExcludeDispatchKeyGuard excluded_{c10::DispatchKeySet(
      {c10::DispatchKey::FuncTorchDynamicLayerFrontMode, c10::DispatchKey::FuncTorchDynamicLayerBackMode})};
};

// The profiling executor's first runs are ten times slower than plain interpretation and buy nothing here,
// where the graph is what counts. The switch is thread-local.
class PlainInterpreter {
 public:
  PlainInterpreter() : before_(torch::jit::getGraphExecutorOptimize()) {
    torch::jit::setGraphExecutorOptimize(false);
  }
  ~PlainInterpreter() { torch::jit::setGraphExecutorOptimize(before_); }
  PlainInterpreter(const PlainInterpreter&) = delete;
  PlainInterpreter& operator=(const PlainInterpreter&) = delete;

 private:
  bool before_;
};

bool contains(const std::string& text, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](const char* word) { return text.find(word) != std::string::npos; });
}

// The line of libtorch's many that says what is wrong.
std::string essence(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  if (contains(text, {"allocate memory", "not enough memory"})) throw std::bad_alloc();
  if (const size_t at = text.rfind("\nRuntimeError: "); at != std::string::npos) text.erase(0, at + 15);
  text.erase(0, text.find_first_not_of(" \n"));
  text.erase(std::min(text.find('\n'), text.size()));
  constexpr size_t kLongest = 200;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

torch::jit::Module load(const fs::path& path, const c10::Device& device = c10::kCPU) {
  const std::string content = read_file(path);  // says why when there is none
  const char* const how = "; export with torch.jit.script(net).save(\"net.pt\")";
  require(content.starts_with("PK"), path.string(), " is no TorchScript file", how);
  try {
    return torch::jit::load(path.string(), device);
  } catch (const std::exception& error) {
    const std::string all = error.what();
    require(!contains(all, {"central directory", "failed reading zip archive"}), path.string(),
            " is damaged or was cut short; save or copy it again");
    require(!contains(all, {"constants.pkl", "not a TorchScript"}), path.string(),
            " holds pickled Python objects (torch.save), not a TorchScript module", how);
    require(!contains(all, {"Unknown builtin op", "maximum supported version"}), path.string(),
            " needs a newer libtorch than this one, ", TORCH_VERSION,
            "; export it with an older PyTorch: ", essence(error));
    fail(path.string(), " cannot be loaded: ", essence(error), how);
  }
}

// Tracing keeps the device that tensors were made on within the network as a constant.
void replace_devices(torch::jit::Block* block, const std::string& device,
                     std::unordered_set<torch::jit::Graph*>& seen);
void replace_devices(torch::jit::Function& function, const std::string& device,
                     std::unordered_set<torch::jit::Graph*>& seen) {
  if (auto* const code = torch::jit::tryToGraphFunction(function);
      code != nullptr && seen.insert(code->graph().get()).second)
    replace_devices(code->graph()->block(), device, seen);
}
void replace_devices(torch::jit::Block* block, const std::string& device,
                     std::unordered_set<torch::jit::Graph*>& seen) {
  for (torch::jit::Node* node : block->nodes()) {
    for (torch::jit::Block* inner : node->blocks()) replace_devices(inner, device, seen);
    if (node->kind() != c10::prim::Constant || node->outputs().size() != 1) continue;
    const c10::TypePtr type = node->output()->type();
    if (const auto function = type->cast<c10::FunctionType>())
      replace_devices(*function->function(), device, seen);
    if (type->kind() == c10::TypeKind::DeviceObjType && node->hasAttribute(c10::attr::value) &&
        node->s(c10::attr::value).starts_with("cpu"))
      node->s_(c10::attr::value, device);
  }
}

// The module with all its tensors on `device`, those within its code too.
torch::jit::Module load_on(const fs::path& path, const c10::Device& device) {
  torch::jit::Module module = load(path, device);
  std::unordered_set<torch::jit::Graph*> seen;
  for (const torch::jit::Module& part : module.modules())
    for (const torch::jit::Method& method : part.get_methods())
      replace_devices(method.function(), device.str(), seen);
  return module;
}

// An attribute, or an element of a list that is one (LSTMs keep their weights a second time, in a list).
struct Slot {
  ObjectPtr object;
  size_t index;
  int64_t element;           // -1: the attribute itself
  std::vector<size_t> path;  // slots that lead from the root to `object`

  at::Tensor get() const {
    const c10::IValue& value = object->getSlot(index);
    return (element < 0 ? value : value.toListRef()[static_cast<size_t>(element)]).toTensor();
  }
  void set(const at::Tensor& tensor) const {
    if (element < 0) {
      object->setSlot(index, tensor);
    } else {
      object->getSlot(index).toList().set(static_cast<size_t>(element), tensor);
    }
  }
};

// One tensor and the places that hold it.
struct Entry {
  std::string name;
  std::vector<Slot> places;
  std::vector<std::string> aliases = {};  // other names it is registered under
};

bool same_tensor(const at::Tensor& a, const at::Tensor& b) {
  return a.is_same(b) || (a.numel() > 0 && a.data_ptr() == b.data_ptr() && a.sizes() == b.sizes() &&
                          a.strides() == b.strides() && a.scalar_type() == b.scalar_type());
}

// The tensors of a module, in registration order. Frozen parameters are among the buffers.
struct Tensors {
  std::vector<Entry> parameters, buffers, attributes;
  std::vector<std::string> frozen;  // their names

  Tensors() = default;
  explicit Tensors(const ObjectPtr& root) {
    collect(root, "", {}, /*registered=*/true);
    collect(root, "", {}, /*registered=*/false);
  }
  // The same places in a copy of the module.
  Tensors in(const ObjectPtr& root) const {
    Tensors result = *this;
    for (std::vector<Entry>* entries : {&result.parameters, &result.buffers, &result.attributes}) {
      for (Entry& entry : *entries) {
        for (Slot& slot : entry.places) {
          slot.object = root;
          for (const size_t step : slot.path) slot.object = slot.object->getSlot(step).toObject();
        }
      }
    }
    return result;
  }

 private:
  static Entry* add_place(std::vector<Entry>& entries, const Slot& slot) {
    for (Entry& entry : entries) {
      if (!same_tensor(entry.places.front().get(), slot.get())) continue;
      entry.places.push_back(slot);
      return &entry;
    }
    return nullptr;
  }
  // Was it new?
  static bool add(std::vector<Entry>& entries, const std::string& name, const Slot& slot) {
    Entry* const known = add_place(entries, slot);
    if (known == nullptr) {
      entries.push_back({name, {slot}});
    } else {
      known->aliases.push_back(name);
    }
    return known == nullptr;
  }
  // What is not registered may be a registered tensor once more.
  void add_attribute(const std::string& name, const Slot& slot) {
    if (add_place(parameters, slot) == nullptr && add_place(buffers, slot) == nullptr)
      add(attributes, name, slot);
  }
  // Parameters and buffers, or else the tensors that are neither.
  void collect(const ObjectPtr& object, const std::string& prefix, const std::vector<size_t>& path,
               bool registered) {
    const auto type = object->type();
    const auto floating = [](const c10::IValue& value) {
      return value.isTensor() && value.toTensor().defined() && value.toTensor().is_floating_point();
    };
    for (size_t i = 0; i < type->numAttributes(); ++i) {
      const c10::IValue& value = object->getSlot(i);
      const std::string name = prefix + type->getAttributeName(i);
      const Slot slot{object, i, -1, path};
      if (value.isTensor() && value.toTensor().defined()) {
        const bool is_parameter = type->is_parameter(i), is_buffer = type->is_buffer(i);
        const bool is_frozen = is_parameter && floating(value) && !value.toTensor().requires_grad();
        if (registered && is_parameter && !is_frozen) add(parameters, name, slot);
        if (registered && is_frozen && add(buffers, name, slot)) frozen.push_back(name);
        if (registered && !is_parameter && is_buffer && floating(value)) add(buffers, name, slot);
        if (!registered && !is_parameter && !is_buffer && floating(value)) add_attribute(name, slot);
      } else if (value.isList() && !registered) {
        for (size_t j = 0; j < value.toListRef().size(); ++j) {
          if (floating(value.toListRef()[j])) add_attribute(name, {object, i, static_cast<int64_t>(j), path});
        }
      } else if (value.isObject() && type->getAttribute(i)->is_module()) {
        std::vector<size_t> longer = path;
        longer.push_back(i);
        collect(value.toObject(), name + ".", longer, registered);
      }
    }
  }
};

}  // namespace

class ScriptPool {
 public:
  explicit ScriptPool(const fs::path& path)
      : path_(path), original_(load(path)), tensors_(original_._ivalue()) {
    require(original_.find_method("forward").has_value(), path.string(),
            " has no method forward; export the network, not only a part of it");
    for (const std::vector<Entry>* entries : {&tensors_.parameters, &tensors_.buffers}) {
      for (const Entry& p : *entries) {
        const at::ScalarType dtype = p.places.front().get().scalar_type();
        const bool parameter = entries == &tensors_.parameters;
        require(!parameter || dtype == at::kFloat || dtype == at::kDouble, path.string(), ": parameter ",
                p.name, " is ", dtype, "; export in float32: net.float()");
        if (parameter) (dtype == at::kFloat ? single_ : double_) = p.name;
      }
    }
  }

  // Throws unless forward can be called with so many inputs.
  void require_inputs(size_t wanted, const char* what) const {
    const auto& arguments = original_.get_method("forward").function().getSchema().arguments();
    size_t needed = 0;
    std::string names;
    for (size_t i = 1; i < arguments.size(); ++i) {  // after self
      names += (i > 1 ? ", " : "") + arguments[i].name();
      if (!arguments[i].default_value()) ++needed;
    }
    require(needed <= wanted && wanted < arguments.size(), path_.string(), ": forward(", names,
            ") takes other inputs than ", what, "; wrap it in a module whose forward takes ", what);
  }
  // float64 where a parameter is.
  at::ScalarType dtype() const { return double_.empty() ? at::kFloat : at::kDouble; }

  const fs::path& path() const { return path_; }
  const Tensors& tensors() const { return tensors_; }

  // Runs forward with the tensors given, of the dtype and on the device `where`, in place of the module's;
  // what the module then writes to its buffers goes to `buffers`.
  c10::IValue run(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& buffers,
                  std::vector<c10::IValue> inputs, const at::TensorOptions& where, bool training) {
    const at::ScalarType dtype = c10::typeMetaToScalarType(where.dtype());
    Copy copy = take(where.device());
    std::vector<at::Tensor> converted;
    for (const at::Tensor& buffer : buffers) converted.push_back(buffer.to(dtype));
    set(copy.tensors.parameters, parameters);
    set(copy.tensors.buffers, converted);
    for (size_t i = 0; i < copy.tensors.attributes.size(); ++i) {
      const OutsideOfLayers outside;
      const at::Tensor own = tensors_.attributes[i].places.front().get().to(where.device(), dtype);
      for (const Slot& slot : copy.tensors.attributes[i].places) slot.set(own);
    }
    c10::IValue result;
    try {
      const PlainInterpreter plain;
      copy.module.train(training);
      result = copy.module.forward(std::move(inputs));
    } catch (const std::exception& error) {
      explain(error, where.device(), dtype);
    }
    keep_buffers(copy.tensors.buffers, converted, buffers, training);
    clear(copy.tensors.parameters);  // an idle copy keeps no graph alive
    clear(copy.tensors.buffers);
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(copy));
    return result;
  }

 private:
  struct Copy {
    torch::jit::Module module;
    Tensors tensors;
    c10::Device device;
  };

  Copy take(const c10::Device& device) {
    const std::lock_guard lock(mutex_);
    const auto idle =
        std::find_if(idle_.rbegin(), idle_.rend(), [&](const Copy& copy) { return copy.device == device; });
    if (idle != idle_.rend()) {
      Copy copy = std::move(*idle);
      idle_.erase(std::prev(idle.base()));
      return copy;
    }
    const at::NoGradGuard no_grad;
    const OutsideOfLayers outside;
    torch::jit::Module module = original_on(device).deepcopy();
    Tensors tensors = tensors_.in(module._ivalue());
    return {std::move(module), std::move(tensors), device};
  }
  const torch::jit::Module& original_on(const c10::Device& device) {
    if (device.is_cpu()) return original_;
    const auto known = elsewhere_.find(device.str());
    if (known != elsewhere_.end()) return known->second;
    return elsewhere_.emplace(device.str(), load_on(path_, device)).first->second;
  }
  static void set(const std::vector<Entry>& entries, const std::vector<at::Tensor>& values) {
    for (size_t i = 0; i < entries.size(); ++i)
      for (const Slot& slot : entries[i].places) slot.set(values[i]);
  }
  static void clear(const std::vector<Entry>& entries) {
    for (const Entry& entry : entries)
      for (const Slot& slot : entry.places) slot.set(at::Tensor());
  }
  void keep_buffers(const std::vector<Entry>& entries, const std::vector<at::Tensor>& converted,
                    const std::vector<at::Tensor>& buffers, bool training) const {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < entries.size(); ++i) {
      const at::Tensor now = entries[i].places.front().get();
      if (now.is_same(buffers[i]) || (now.is_same(converted[i]) && !training)) continue;
      require(training, path_.string(), " changes its buffer ", entries[i].name,
              " in evaluation mode; curvature needs a network that does not change while it is used");
      at::Tensor(buffers[i]).copy_(now);
    }
  }
  [[noreturn]] void explain(const std::exception& error, const c10::Device& device,
                            at::ScalarType dtype) const {
    const std::string message = essence(error);
    // The interpreter passes on only the text.
    TORCH_CHECK_WITH(OutOfMemoryError, device.is_cpu() || !contains(message, {"out of memory"}), message);
    require(device.is_cpu() || contains(message, {"CUDA error", "device-side assert"}) ||
                !contains(message, {"device", "Device"}),
            path_.string(), " does not run on ", device, ": ", message,
            "; give tensors made inside it the device of its inputs (device=x.device) or register them as "
            "buffers, or compute on the CPU (--device cpu)");
    const bool types = contains(message, {"dtype", "scalar type", "Double", "Float"});
    require(!types || single_.empty() || double_.empty(), path_.string(), " holds parameters of float32 (",
            single_, ") and of float64 (", double_,
            "), between which it converts, but it runs in one precision: ", message,
            "; export it in one, without conversions inside: net.double() or net.float()");
    require(dtype != at::kFloat || !types || double_.empty(), path_.string(),
            " does not run in float32: ", message, "; use eigh.dtype = \"float64\", or export net.float()");
    require(dtype != at::kDouble || !types, path_.string(), " does not run in float64: ", message,
            "; make tensors inside it like its inputs (dtype=x.dtype) or register them as buffers, or use "
            "eigh.dtype = \"float32\" and no dense.steps");
    require(!contains(message, {"CUDA", "cuda"}), path_.string(), ": ", message,
            "; export on the CPU: net.cpu()");
    fail(path_.string(), " fails on this input: ", message);
  }

  fs::path path_;
  torch::jit::Module original_;
  std::map<std::string, torch::jit::Module> elsewhere_;  // the same on other devices
  Tensors tensors_;                                      // of original_
  std::string single_, double_;                          // the last parameter in float32, and in float64
  std::mutex mutex_;
  std::vector<Copy> idle_;
};

namespace {

std::vector<at::Tensor> values(const std::vector<Entry>& entries, const at::TensorOptions& where) {
  std::vector<at::Tensor> result;
  for (const Entry& entry : entries)
    result.push_back(entry.places.front().get().detach().to(where, /*non_blocking=*/false, /*copy=*/true));
  return result;
}

// Of tensors like this one.
at::TensorOptions like(const at::Tensor& tensor) {
  return at::TensorOptions().dtype(tensor.scalar_type()).device(tensor.device());
}

// The same, float64 where they are, else float32.
std::vector<at::Tensor> own_values(const std::vector<Entry>& entries) {
  std::vector<at::Tensor> result;
  for (const Entry& entry : entries) {
    const at::Tensor own = entry.places.front().get().detach();
    result.push_back(own.to(own.scalar_type() == at::kDouble ? at::kDouble : at::kFloat,
                            /*non_blocking=*/false, /*copy=*/true));
  }
  return result;
}

std::vector<ParameterSpec> specs(const std::vector<Entry>& entries) {
  std::vector<ParameterSpec> result;
  for (const Entry& entry : entries)
    result.push_back({entry.name, entry.places.front().get().sizes().vec(), entry.aliases});
  return result;
}

// `outputs` plus zero times every parameter that they do not depend on, so that all have derivatives.
at::Tensor depending_on_all(at::Tensor outputs, const std::vector<at::Tensor>& parameters) {
  using torch::autograd::Node;
  if (!outputs.requires_grad()) return outputs;
  std::unordered_set<const Node*> seen;
  std::vector<const Node*> waiting = {outputs.grad_fn().get()};
  while (!waiting.empty()) {
    const Node* node = waiting.back();
    waiting.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    for (const torch::autograd::Edge& edge : node->next_edges()) waiting.push_back(edge.function.get());
  }
  for (const at::Tensor& p : parameters) {
    if (!p.requires_grad() || seen.contains(torch::autograd::impl::gradient_edge(p).function.get())) continue;
    outputs = outputs + (p * 0).sum();
  }
  return outputs;
}

class ScriptLoss final : public CustomLoss {
 public:
  explicit ScriptLoss(const fs::path& path) : pool_(path) { pool_.require_inputs(2, "outputs and targets"); }

  std::string name() const override { return pool_.path().filename().string(); }
  at::Tensor mean(const at::Tensor& outputs, const at::Tensor& targets) const override {
    const at::TensorOptions where = like(outputs);
    const c10::IValue result =
        pool_.run(values(pool_.tensors().parameters, where), values(pool_.tensors().buffers, where),
                  {outputs, targets.is_floating_point() ? targets.to(outputs.scalar_type()) : targets}, where,
                  /*training=*/false);
    require(result.isTensor() && result.toTensor().numel() == 1 && result.toTensor().is_floating_point(),
            pool_.path().string(), ": a loss must return one number, the mean over its samples, not ",
            result.isTensor() ? c10::str("a tensor of shape ", result.toTensor().sizes()) : result.tagKind());
    return result.toTensor().reshape({});
  }

 private:
  mutable ScriptPool pool_;
};

}  // namespace

ScriptModel::ScriptModel(const fs::path& path) : pool_(std::make_unique<ScriptPool>(path)) {
  const Tensors& tensors = pool_->tensors();
  pool_->require_inputs(1, "one tensor x");
  require(!tensors.parameters.empty() || tensors.frozen.empty(), path.string(),
          ": all parameters are frozen (requires_grad=False), so none is left; call net.requires_grad_(True) "
          "before exporting");
  require(!tensors.parameters.empty(), path.string(),
          " has no parameters left: freezing turns them into constants; export the network before "
          "torch.jit.freeze and torch.jit.optimize_for_inference");
  parameters_ = specs(tensors.parameters);
  buffers_ = specs(tensors.buffers);
}

ScriptModel::~ScriptModel() = default;

std::string ScriptModel::description() const {
  return "TorchScript module " + pool_->path().filename().string();
}

std::vector<std::string> ScriptModel::notes() const {
  const std::vector<std::string>& frozen = pool_->tensors().frozen;
  if (frozen.empty()) return {};
  std::string names;
  for (size_t i = 0; i < std::min<size_t>(frozen.size(), 5); ++i) names += (i > 0 ? ", " : "") + frozen[i];
  if (frozen.size() > 5) names += ", ...";
  return {text_of(frozen.size(), " parameter tensors of ", pool_->path().filename().string(),
                  " are frozen (requires_grad=False) and left out of the matrix: ", names)};
}

at::Tensor ScriptModel::initial_parameters(uint64_t /*seed*/) const {
  return flatten(values(pool_->tensors().parameters, at::TensorOptions().dtype(pool_->dtype())));
}

std::vector<at::Tensor> ScriptModel::initial_buffers() const {
  return own_values(pool_->tensors().buffers);
}

at::Tensor ScriptModel::forward(const std::vector<at::Tensor>& parameters,
                                const std::vector<at::Tensor>& buffers, const at::Tensor& x,
                                bool training) const {
  require(parameters.size() == parameters_.size() && (buffers.empty() || buffers.size() == buffers_.size()),
          description(), " has ", parameters_.size(), " parameters and ", buffers_.size(), " buffers, not ",
          parameters.size(), " and ", buffers.size());
  const at::TensorOptions where = like(parameters.front());
  const c10::IValue result =
      pool_->run(parameters, buffers.empty() ? values(pool_->tensors().buffers, where) : buffers,
                 {x.is_floating_point() ? x.to(parameters.front().scalar_type()) : x}, where, training);
  require(result.isTensor(), pool_->path().string(), " returns ", result.tagKind(),
          "; wrap the network so that it returns one tensor, the outputs");
  return depending_on_all(result.toTensor(), parameters);
}

std::shared_ptr<const CustomLoss> load_script_loss(const fs::path& path) {
  return std::make_shared<ScriptLoss>(path);
}

}  // namespace seigh
