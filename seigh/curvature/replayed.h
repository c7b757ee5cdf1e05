// Products with blocks of one width that are recorded once and replayed (seigh/core/device_graph.h): one
// launch instead of hundreds, where those are what a product waits for.
//
// What is recorded reads the network's parameters and data where they lie, and what a retained graph keeps as
// it was: parameters that are changed in place afterwards make it stale(), and products are to be launched.
// Memory: a product's for as long as it lives, on top of what its graph keeps; it counts as taken
// (DeviceMemory).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/device_graph.h"
#include "seigh/core/device_memory.h"

namespace seigh {

class ReplayedProduct {
 public:
  /// Writes the products with `vectors` to `products`, blocks [D, width] on the device.
  using Multiply = std::function<void(const at::Tensor& vectors, const at::Tensor& products)>;

  /// Runs `recorded` a few times on another stream, records it there, and compares what is replayed with
  /// `launched`. A graph that it goes back through has to be built by it: backward passes run on the stream
  /// of their forward pass. Throws Error, with the reason, where it cannot be recorded or gives something
  /// else, and what the two throw.
  ReplayedProduct(const Multiply& recorded, const Multiply& launched, at::IntArrayRef block,
                  const at::TensorOptions& options, const std::vector<at::Tensor>& parameters,
                  const Context& context);
  ~ReplayedProduct();
  ReplayedProduct(const ReplayedProduct&) = delete;
  ReplayedProduct& operator=(const ReplayedProduct&) = delete;

  /// Of any number of columns.
  void multiply(const at::Tensor& vectors, const at::Tensor& products, const Context& context);
  int64_t width() const { return vectors_.size(1); }
  /// Whether parameters have been changed in place since.
  bool stale() const;

  /// Seconds of a block, launched and replayed.
  double launched() const { return launched_; }
  double replayed() const { return replayed_; }

 private:
  void compare(const Multiply& launched);
  double seconds(const std::function<void()>& work) const;
  void wait_for_other_streams();

  DeviceMemory memory_;
  at::Tensor vectors_, products_;                           // what is recorded reads and writes
  std::vector<std::pair<at::Tensor, int64_t>> parameters_;  // and their versions
  std::optional<DeviceGraph> graph_;
  std::optional<DeviceMemory::Reserved> pool_;
  std::optional<c10::Stream> last_;  // on which it was replayed
  double launched_ = 0, replayed_ = 0;
};

}  // namespace seigh
