#include "seigh/curvature/replayed.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <exception>
#include <limits>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {
namespace {

double length_of(const at::Tensor& t) {
  return t.norm(2, at::kDouble).item<double>();
}

}  // namespace

ReplayedProduct::ReplayedProduct(const Multiply& recorded, const Multiply& launched, at::IntArrayRef block,
                                 const at::TensorOptions& options, const std::vector<at::Tensor>& parameters,
                                 const Context& context)
    : memory_(options.device(), context.device_memory()) {
  const c10::Device device = options.device();
  for (const at::Tensor& p : parameters)
    if (!p.is_inference()) parameters_.emplace_back(p.detach(), p._version());
  const auto new_block = [&] {
    return empty_block(block[0], block[1], c10::typeMetaToScalarType(options.dtype()), device).fill_(1);
  };
  vectors_ = new_block();
  products_ = new_block();
  {
    const SideStream side(device);
    const auto work = [&] { recorded(vectors_, products_); };
    work();
    const std::string obstacle = obstacle_to_recording(work);
    require(obstacle.empty(), obstacle, " cannot be recorded");
    work();
    memory_.release();
    const int64_t before = memory_.kept();
    graph_.emplace(device, work);
    memory_.release();
    pool_.emplace(device, std::max<int64_t>(memory_.kept() - before, 0));
  }
  compare(launched);
  launched_ = seconds([&] { launched(vectors_, products_); });
  replayed_ = seconds([&] { graph_->replay(); });
}

ReplayedProduct::~ReplayedProduct() {
  try {
    wait_for_other_streams();
    if (last_) last_->synchronize();
  } catch (const std::exception&) {  // what has gone wrong there shows at the next use of the device
  }
}

// Two different ones: what is not read anew, or not written, shows.
void ReplayedProduct::compare(const Multiply& launched) {
  // The same kernels on the same numbers: rounding is left, where atomic additions have another order.
  const double same = 1000 * epsilon(vectors_.scalar_type());
  for (const uint64_t seed : {1, 2}) {
    const at::Tensor v =
        random_gaussian(seed, Stream::check, vectors_.size(0), 0, vectors_.size(1), vectors_.scalar_type())
            .to(vectors_.device());
    const at::Tensor expected = at::zeros_like(products_);
    launched(v, expected);
    vectors_.copy_(v);
    products_.fill_(std::numeric_limits<double>::quiet_NaN());
    graph_->replay();
    const double off = length_of(products_ - expected), length = length_of(expected);
    require(off <= same * length, "what is replayed differs from what is launched by ",
            100 * off / std::max(length, std::numeric_limits<double>::min()), " %");
  }
}

// The best of a few.
double ReplayedProduct::seconds(const std::function<void()>& work) const {
  const c10::Stream stream = current_stream(vectors_.device());
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 3; ++i) {
    stream.synchronize();
    const Timer timer;
    work();
    stream.synchronize();
    best = std::min(best, timer.seconds());
  }
  return best;
}

// Which may still read and write the recorded blocks.
void ReplayedProduct::wait_for_other_streams() {
  const c10::Stream now = current_stream(vectors_.device());
  if (last_ && *last_ != now) last_->synchronize();
  last_ = now;
}

void ReplayedProduct::multiply(const at::Tensor& vectors, const at::Tensor& products,
                               const Context& context) {
  wait_for_other_streams();
  for (int64_t begin = 0; begin < vectors.size(1); begin += width()) {
    context.check_cancelled();
    const int64_t n = std::min(width(), vectors.size(1) - begin);
    // Beyond them are other vectors of before: no column's product knows of the others.
    vectors_.narrow(1, 0, n).copy_(vectors.narrow(1, begin, n));
    graph_->replay();
    products.narrow(1, begin, n).copy_(products_.narrow(1, 0, n));
  }
}

bool ReplayedProduct::stale() const {
  return std::any_of(parameters_.begin(), parameters_.end(),
                     [](const auto& p) { return static_cast<int64_t>(p.first._version()) != p.second; });
}

}  // namespace seigh
