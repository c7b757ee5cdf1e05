// Work on an accelerator that is recorded once and launched again as a whole, in one call of the host's:
// CUDA's graphs, and what other backends register with libtorch. Of use where kernels are so small that
// launching them takes longer than they do.
//
// A graph is the kernels themselves on the memory they were recorded with: shapes, settings (TF32,
// algorithms) and numbers that the host knew stay what they were, and what lies in that memory is read anew
// each time. What reads a number on the host, draws random numbers or copies between host and device cannot
// be recorded: obstacle_to_recording() says so beforehand, since a recording that CUDA breaks off is not
// undone without traces.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>

#include <functional>
#include <memory>
#include <string>

namespace seigh {

/// For as long as it lives, this thread's work on the device is put on a stream of its own, on which graphs
/// can be recorded; what was begun before is done by then, and what was put on it when it ends.
class SideStream {
 public:
  explicit SideStream(c10::Device device);
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

 private:
  c10::StreamGuard guard_;
};

/// The stream that this thread's work on the device is put on, and another one, for work beside it.
c10::Stream current_stream(c10::Device device);
c10::Stream new_stream(c10::Device device);

/// Runs `work` and says what of it cannot be recorded, the name of an operation; empty where nothing was
/// seen. One caller at a time.
std::string obstacle_to_recording(const std::function<void()>& work);

class DeviceGraph {
 public:
  /// Whether this libtorch, and this build of seigh, can record what is done there.
  static bool supported(c10::Device device);

  /// Records `work` instead of doing it: within a SideStream, in which it has run before, so that libraries
  /// have what they allocate once. Throws what `work` throws, and c10::Error on what cannot be recorded.
  DeviceGraph(c10::Device device, const std::function<void()>& work);
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  /// Does it, on the current stream.
  void replay();

  class Recording;  // a backend's

 private:
  std::unique_ptr<Recording> recording_;
};

}  // namespace seigh
