#include "tests/support/pretended_device.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/GraphImplInterface.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/record_function.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace seigh::test {
namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
constexpr int64_t kPage = 4096;

std::atomic<int64_t> held = 0;

// Addresses of the device are those of a range that nobody may read or write; what they stand for lies at the
// same place of another one. Of memory that is given out the first MiB holds NaN.
class Memory {
 public:
  void* take(size_t bytes) {
    void* data = nullptr;
    {
      const std::lock_guard guard(mutex_);
      std::vector<void*>& free = free_[bytes];
      if (!free.empty()) {
        data = free.back();
        free.pop_back();
      } else {
        TORCH_CHECK(end_ + bytes <= kBytes, "no memory for the pretended device");
        data = seen_ + end_;
        end_ += bytes;
      }
    }
    std::memset(real(data), 0xff, std::min(bytes, kFilled));
    return data;
  }
  void give_back(void* data, size_t bytes) {
    if (bytes > kFilled) madvise(real(data), bytes, MADV_DONTNEED);
    const std::lock_guard guard(mutex_);
    free_[bytes].push_back(data);
  }
  void* real(void* data) const { return real_ + (static_cast<char*>(data) - seen_); }

 private:
  static constexpr size_t kBytes = size_t{1} << 38, kFilled = size_t{1} << 20;
  static char* map(int protection) {
    void* const data = mmap(nullptr, kBytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(data != MAP_FAILED, "no addresses for the pretended device");
    return static_cast<char*>(data);
  }
  char* const seen_ = map(PROT_NONE);
  char* const real_ = map(PROT_READ | PROT_WRITE);
  std::mutex mutex_;
  size_t end_ = 0;
  std::map<size_t, std::vector<void*>> free_;  // by size
};

Memory& memory() {
  static auto* const one = new Memory;  // tensors may outlive what is static
  return *one;
}

struct Piece {
  void* data;
  size_t bytes;
  int64_t wanted;
};

std::atomic<int64_t> most = 0, limit = int64_t{1} << 40;

struct Pretended final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t n) override {
    const auto wanted = static_cast<int64_t>(n);
    TORCH_CHECK_WITH(OutOfMemoryError, held + wanted <= limit, "the pretended device is out of memory: of ",
                     limit.load(), " bytes ", held.load(), " are taken; ", wanted, " more were asked for");
    const size_t bytes = std::max<size_t>((n + kPage - 1) / kPage, 1) * kPage;
    void* const data = memory().take(bytes);
    held += wanted;
    most = std::max(most.load(), held.load());
    return {data, new Piece{data, bytes, wanted}, &release, c10::Device(kType, 0)};
  }
  static void release(void* context) {
    auto* const piece = static_cast<Piece*>(context);
    memory().give_back(piece->data, piece->bytes);
    held -= piece->wanted;
    delete piece;
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, std::size_t) const override { TORCH_CHECK(false, "copy_data"); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    for (auto* const bytes : {&stats.allocated_bytes, &stats.reserved_bytes}) {
      (*bytes)[0].current = held;
      (*bytes)[0].peak = most;
    }
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { most = held.load(); }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override {
    return {static_cast<size_t>(limit - held), static_cast<size_t>(limit)};
  }
};

Pretended allocator;
std::atomic<int64_t> most_page_locked = std::numeric_limits<int64_t>::max();

thread_local c10::StreamId current_stream = 0;

// Copies on another stream than the default one that nobody has to wait for are done as late as can be: when
// somebody waits for an event after them, or for the stream. What should have waited, and did not, sees what
// was there before.
class LateCopies {
 public:
  void put_off(c10::StreamId stream, std::function<void()> copy) {
    const std::lock_guard guard(mutex_);
    streams_[stream].waiting.push_back(std::move(copy));
  }
  /// How many copies have been put on the stream so far.
  int64_t mark(c10::StreamId stream) {
    const std::lock_guard guard(mutex_);
    return streams_[stream].done + static_cast<int64_t>(streams_[stream].waiting.size());
  }
  void run(c10::StreamId stream, int64_t until = std::numeric_limits<int64_t>::max()) {
    const std::lock_guard guard(mutex_);
    Queue& queue = streams_[stream];
    while (queue.done < until && !queue.waiting.empty()) {
      queue.waiting.front()();
      queue.waiting.pop_front();
      ++queue.done;
    }
  }

 private:
  struct Queue {
    std::deque<std::function<void()>> waiting;
    int64_t done = 0;
  };
  std::mutex mutex_;
  std::map<c10::StreamId, Queue> streams_;
};

LateCopies& late() {
  static LateCopies copies;
  return copies;
}

struct Event {
  c10::StreamId stream;
  int64_t mark;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device) const override { return getDevice(); }
  c10::Device getDevice() const override { return {kType, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(current_stream); }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override {
    static std::atomic<c10::StreamId> last = 0;
    return stream(last++ % 8 + 1);
  }
  c10::Stream exchangeStream(c10::Stream to) const override {
    return stream(std::exchange(current_stream, to.id()));
  }
  static c10::Stream stream(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, {kType, 0}, id); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  void record(void** event, const c10::Stream& on, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    if (*event == nullptr) *event = new Event;
    *static_cast<Event*>(*event) = {on.id(), late().mark(on.id())};
  }
  void block(void* event, const c10::Stream&) const override { synchronizeEvent(event); }
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeEvent(void* event) const override {
    if (const auto* const one = static_cast<Event*>(event)) late().run(one->stream, one->mark);
  }
  void synchronizeStream(const c10::Stream& one) const override { late().run(one.id()); }
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};

// Of the host, as far as it is not refused.
struct PageLocked final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    TORCH_CHECK(bytes <= static_cast<size_t>(most_page_locked), "no more page-locked memory");
    return c10::GetDefaultCPUAllocator()->allocate(bytes);
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static PageLocked one;
    return &one;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

// The same memory, as a tensor of the host.
at::Tensor host_view(const at::Tensor& t) {
  const at::Tensor view = at::from_blob(memory().real(t.data_ptr()), t.sizes(), t.strides(),
                                        t.options().device(at::kCPU).requires_grad(false));
  const at::Tensor conjugate = t.is_conj() ? view.conj() : view;
  return t.is_neg() ? conjugate._neg_view() : conjugate;
}

// What a kernel of the device does within is no work of the caller's.
thread_local int within = 0;
struct Within {
  Within() { ++within; }
  ~Within() { --within; }
  at::DisableRecordFunctionGuard unseen;
};

void copy_memory(const at::Tensor& from, const at::Tensor& to) {
  if (to.numel() == 0) return;
  const at::Tensor source = from.is_cpu() ? from : host_view(from);
  at::Tensor target = to.is_cpu() ? to : host_view(to);
  const at::NoGradGuard no_grad;
  target.copy_(source.expand(target.sizes()));
}

// Whether products or convolutions of CUDA would have rounded to TF32, had this been such a device.
std::atomic<bool> rounded = false;

// What was launched on one stream between its beginning and its end, with the tensors it was launched on.
class Recorded final : public at::GraphImplInterface {
 public:
  explicit Recorded(const at::GraphImplArgs&) {}
  ~Recorded() override {
    left_open = left_open || now == this;  // which CUDA would not forget
    reset();
  }

  void capture_begin(at::MempoolId_t, at::GraphCaptureMode) override {
    TORCH_CHECK(current_stream != 0, "graphs are recorded on another stream than the default one");
    TORCH_CHECK(!left_open, "a recording was never ended");
    TORCH_CHECK(now == nullptr && kernels_.empty(), "a graph is being recorded, or has been");
    stream_ = current_stream;
    failed_ = false;
    now = this;
  }
  void capture_end() override {
    TORCH_CHECK(now == this && current_stream == stream_, "no graph is being recorded on this stream");
    now = nullptr;
    TORCH_CHECK(!failed_, "the recording was broken off");
    // Nothing has been computed yet.
    for (const at::Tensor& result : results_) {
      if (result.storage().nbytes() > 0)
        std::memset(memory().real(result.storage().data_ptr().get()), 0xff, result.storage().nbytes());
    }
  }
  void replay() override {
    TORCH_CHECK(now == nullptr, "a graph is being recorded");
    if (rounds_) rounded = true;
    const Within kernel;
    const at::NoGradGuard no_grad;
    for (const auto& run : kernels_) run();
  }
  void reset() override {
    if (now == this) now = nullptr;
    kernels_.clear();
    results_.clear();
  }
  void instantiate() override {}
  at::MempoolId_t pool() const override { return {0, 0}; }
  void enable_debug_mode() override {}
  void debug_dump(const std::string&) override {}

  /// The one that work of this thread goes into, if any.
  static Recorded* here() {
    Recorded* const one = now;
    return one != nullptr && within == 0 && current_stream == one->stream_ ? one : nullptr;
  }
  static void refuse(const char* what) {
    if (Recorded* const one = here()) {
      one->failed_ = true;
      TORCH_CHECK(false, what, " while a graph is recorded");
    }
  }
  void rounds() { rounds_ = true; }
  void made(const at::Tensor& tensor) { results_.push_back(tensor); }
  void add(std::function<void()> kernel, const std::vector<at::Tensor>& results) {
    kernels_.push_back(std::move(kernel));
    results_.insert(results_.end(), results.begin(), results.end());
  }

 private:
  static inline std::atomic<Recorded*> now = nullptr;
  static inline bool left_open = false;
  c10::StreamId stream_ = 0;
  bool failed_ = false, rounds_ = false;
  std::vector<std::function<void()>> kernels_;
  std::vector<at::Tensor> results_;  // whose memory is their own
};

// A tensor that stays as it is, whatever becomes of this one's sizes.
at::Tensor frozen(const at::Tensor& t) {
  if (!t.defined()) return t;
  return at::Tensor(t.unsafeGetTensorImpl()->shallow_copy_and_detach(/*version_counter=*/0, false));
}

std::optional<at::Tensor> frozen(const std::optional<at::Tensor>& t) {
  return t ? std::optional(frozen(*t)) : t;
}

// What kernel() makes; again into the same memory whenever a graph that is being recorded is replayed.
template <typename Kernel>
auto launched(const Kernel& kernel) {
  auto made = [&] {
    const Within inside;
    return kernel();
  }();
  if (Recorded* const graph = Recorded::here()) {
    std::vector<at::Tensor> to;
    for (const at::Tensor& t : made) to.push_back(frozen(t));
    std::vector<at::Tensor> results;
    for (const at::Tensor& t : to)
      if (t.defined()) results.push_back(t);
    graph->add(
        [kernel, to] {
          const auto again = kernel();
          for (size_t i = 0; i < to.size(); ++i)
            if (to[i].defined()) copy_memory(again[i], to[i]);
        },
        results);
  }
  return made;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (from.device() != to.device()) Recorded::refuse("a copy between host and device");
  if (non_blocking && from.is_cpu() != to.is_cpu() && current_stream != 0) {
    late().put_off(current_stream, [from = frozen(from), to = frozen(to)] { copy_memory(from, to); });
    return to;
  }
  copy_memory(from, to);
  if (Recorded* const graph = Recorded::here())
    graph->add([from = frozen(from), to = frozen(to)] { copy_memory(from, to); }, {});
  return to;
}

at::Tensor allocated(at::Tensor tensor) {
  if (Recorded* const graph = Recorded::here()) graph->made(frozen(tensor));
  return tensor;
}
at::Tensor new_tensor(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                      std::optional<at::Device>, std::optional<bool>,
                      std::optional<at::MemoryFormat> format) {
  return allocated(at::detail::empty_generic(size, &allocator,
                                             c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                             c10::dtype_or_default(dtype), format));
}
at::Tensor new_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                       std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return allocated(at::detail::empty_strided_generic(size, stride, &allocator,
                                                     c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                                     c10::dtype_or_default(dtype)));
}
const at::Tensor& resized(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  const int64_t bytes = c10::multiply_integers(size) * static_cast<int64_t>(self.element_size());
  if (static_cast<int64_t>(self.storage().nbytes()) < bytes) {
    self.storage().set_data_ptr_noswap(allocator.allocate(static_cast<size_t>(bytes)));
    self.storage().set_nbytes(static_cast<size_t>(bytes));
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes()) resized(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}
at::Tensor& set_to(at::Tensor& self, c10::Storage source, int64_t offset, at::IntArrayRef size,
                   at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, std::move(source), offset, size, stride);
}

at::Tensor& set_to_whole(at::Tensor& self, c10::Storage source) {
  const int64_t n = static_cast<int64_t>(source.nbytes() / self.element_size());
  return at::native::set_storage_cpu_(self, std::move(source), 0, {n}, {1});
}

void look_at_precision() {
  for (const at::Float32Op op : {at::Float32Op::CONV, at::Float32Op::MATMUL}) {
    if (at::globalContext().float32Precision(at::Float32Backend::CUDA, op) == at::Float32Precision::IEEE)
      continue;
    rounded = true;
    if (Recorded* const graph = Recorded::here()) graph->rounds();
  }
}

at::Tensor here(const at::Tensor& t) {
  return t.defined() ? t.cpu() : t;
}
std::optional<at::Tensor> here(const std::optional<at::Tensor>& t) {
  return t && t->defined() ? std::optional(t->cpu()) : std::nullopt;
}

// Convolutions of other devices have operators of their own.
at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                       bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  look_at_precision();
  return launched([=, x = frozen(x), w = frozen(w), bias = frozen(bias), s = stride.vec(), p = padding.vec(),
                   d = dilation.vec(), o = output_padding.vec()] {
    return std::array{
        at::convolution(here(x), here(w), here(bias), s, p, d, transposed, o, groups).to(x.device())};
  })[0];
}
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& g, const at::Tensor& x, const at::Tensor& w, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
    int64_t groups, std::array<bool, 3> mask) {
  look_at_precision();
  const auto all = launched([=, g = frozen(g), x = frozen(x), w = frozen(w), s = stride.vec(),
                             p = padding.vec(), d = dilation.vec(), o = output_padding.vec()] {
    const auto [of_x, of_w, of_b] = at::convolution_backward(
        here(g), here(x), here(w), at::IntArrayRef({w.size(transposed ? 1 : 0) * (transposed ? groups : 1)}),
        s, p, d, transposed, o, groups, mask);
    const auto there = [&](const at::Tensor& t) { return t.defined() ? t.to(x.device()) : t; };
    return std::array{there(of_x), there(of_w), there(of_b)};
  });
  return {all[0], all[1], all[2]};
}

// Changes its running statistics, which its schema does not say and the fallback therefore not know.
std::tuple<at::Tensor, at::Tensor, at::Tensor> batch_norm(const at::Tensor& x,
                                                          const std::optional<at::Tensor>& weight,
                                                          const std::optional<at::Tensor>& bias,
                                                          const std::optional<at::Tensor>& mean,
                                                          const std::optional<at::Tensor>& variance,
                                                          bool training, double momentum, double eps) {
  const auto all = launched([=, x = frozen(x), weight = frozen(weight), bias = frozen(bias)] {
    const auto mean_here = here(mean), variance_here = here(variance);
    const auto [y, saved_mean, saved_scale] = at::native_batch_norm(
        here(x), here(weight), here(bias), mean_here, variance_here, training, momentum, eps);
    if (training && mean_here) copy_memory(*mean_here, *mean);
    if (training && variance_here) copy_memory(*variance_here, *variance);
    return std::array{y.to(x.device()), saved_mean.to(x.device()), saved_scale.to(x.device())};
  });
  return {all[0], all[1], all[2]};
}

// The fallback does not know TorchScript's lists of indices.
at::Tensor index(const at::Tensor& x, const c10::List<std::optional<at::Tensor>>& indices) {
  for (const std::optional<at::Tensor>& i : indices.vec())
    if (i && i->defined() && i->scalar_type() == at::kBool) Recorded::refuse("counting a mask");
  return launched([x = frozen(x), given = indices.vec()] {
    c10::List<std::optional<at::Tensor>> of;
    for (const std::optional<at::Tensor>& i : given) of.push_back(here(i));
    return std::array{at::index(here(x), of).to(x.device())};
  })[0];
}

// Like CUDA's operators, of which only those that take an index let it lie on the host, and all a single
// number.
void expect_one_device(const std::string& name, const c10::IValue& argument) {
  if (argument.isTensor()) {
    const at::Tensor& t = argument.toTensor();
    TORCH_CHECK(!t.defined() || !t.is_cpu() || t.dim() == 0, name,
                ": expected all tensors on one device, and found one on the CPU");
  } else if (argument.isTensorList()) {
    for (const at::Tensor& t : argument.toTensorVector()) expect_one_device(name, t);
  }
}

// An argument as it is now.
c10::IValue kept(const c10::IValue& argument) {
  if (argument.isTensor()) return frozen(argument.toTensor());
  if (!argument.isTensorList()) return argument;
  c10::List<at::Tensor> list;
  for (const at::Tensor& t : argument.toTensorVector()) list.push_back(frozen(t));
  return list;
}

void collect(const c10::IValue& value, std::vector<at::Tensor>& into) {
  if (value.isTensor()) {
    into.push_back(frozen(value.toTensor()));
  } else if (value.isTensorList()) {
    for (const at::Tensor& t : value.toTensorVector()) into.push_back(frozen(t));
  }
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const std::string& name = op.operator_name().name;
  const size_t count = op.schema().arguments().size();
  if (name != "aten::index" && name.find("index_put") == std::string::npos) {
    for (const c10::IValue& argument : torch::jit::last(*stack, count)) expect_one_device(name, argument);
  }
  if (name.find("mm") != std::string::npos) look_at_precision();
  if (name.starts_with("aten::cumsum") && torch::jit::peek(*stack, 0, count).toTensor().is_floating_point())
    at::globalContext().alertNotDeterministic("cumsum_cuda_kernel");
  if (op.hasTag(at::Tag::data_dependent_output) || op.hasTag(at::Tag::dynamic_output_shape))
    Recorded::refuse(name.c_str());
  Recorded* const graph = Recorded::here();
  torch::jit::Stack arguments;
  if (graph != nullptr)
    for (const c10::IValue& argument : torch::jit::last(*stack, count)) arguments.push_back(kept(argument));
  {
    const Within inside;
    at::native::cpu_fallback(op, stack);
  }
  if (graph == nullptr) return;
  std::vector<at::Tensor> before, made, own;
  for (const c10::IValue& argument : arguments) collect(argument, before);
  for (const c10::IValue& result : torch::jit::last(*stack, op.schema().returns().size()))
    collect(result, made);
  for (at::Tensor& t : made) {
    const bool given = !t.defined() || std::any_of(before.begin(), before.end(), [&](const at::Tensor& b) {
      return b.defined() && b.has_storage() && b.storage().is_alias_of(t.storage());
    });
    if (given) t = at::Tensor();  // written in place
    if (t.defined()) own.push_back(t);
  }
  graph->add(
      [op, arguments, made] {
        torch::jit::Stack again = arguments;
        at::native::cpu_fallback(op, &again);
        std::vector<at::Tensor> results;
        for (const c10::IValue& result : again) collect(result, results);
        for (size_t i = 0; i < made.size(); ++i)
          if (made[i].defined()) copy_memory(results[i], made[i]);
      },
      own);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", new_tensor);
  m.impl("empty_strided", new_strided);
  m.impl("resize_", resized);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("set_.source_Storage_storage_offset", set_to);
  m.impl("set_.source_Storage", set_to_whole);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
  m.impl("native_batch_norm", batch_norm);
  m.impl("index.Tensor", index);
}
// Copies resolve what else would be resolved by copies.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}
TORCH_LIBRARY(pretended, m) {  // for Python
  m.def("set_limit", [](int64_t bytes) { limit = bytes; });
  m.def("held", []() -> int64_t { return held; });
}
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

}  // namespace
}  // namespace seigh::test

namespace at {
using RecordedOnPretended = seigh::test::Recorded;
REGISTER_GRAPH_IMPL(PRETENDED, RecordedOnPretended)
}  // namespace at

namespace seigh::test {
namespace {

// Also for a process that only loads this library.
[[maybe_unused]] const bool registered = [] {
  c10::register_privateuse1_backend("pretended");
  c10::SetAllocator(kType, &allocator);
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace

c10::Device PretendedDevice::device() {
  return {kType, 0};
}
int64_t PretendedDevice::held_at_rest() {
  int64_t last = held();
  for (int same = 0; same < 30; ++same) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (const int64_t now = held(); now != last) {
      last = now;
      same = 0;
    }
  }
  return last;
}
int64_t PretendedDevice::held() {
  return seigh::test::held;
}
void PretendedDevice::set_page_locked(int64_t bytes) {
  most_page_locked = bytes;
}

void PretendedDevice::set_limit(int64_t bytes) {
  limit = bytes;
}
bool PretendedDevice::rounded_to_tf32() {
  return rounded.exchange(false);
}

}  // namespace seigh::test
