#include "python/core/group.h"

#include <ATen/ops/from_blob.h>

#include <utility>

namespace seigh::python {

GroupRanks::GroupRanks(py::object group)
    : rank_(group.attr("rank").cast<int>()),
      size_(group.attr("size").cast<int>()),
      on_this_machine_(group.attr("on_this_machine").cast<int>()),
      beside_(group.attr("beside").cast<int>()),
      number_(group.attr("number").cast<int>()) {
  group_ = refer(std::move(group));
}

bool GroupRanks::takes(c10::Device device) const {
  return device.is_cpu() || with_gil([&] {
           return group_->attr("takes")(c10::DeviceTypeName(device.type(), true)).cast<bool>();
         });
}

void GroupRanks::broadcast(void* data, int64_t bytes, int from) {
  const at::Tensor there = at::from_blob(data, {bytes}, at::kByte);
  with_gil([&] { group_->attr("broadcast")(there, from); });
}

void GroupRanks::wait() {
  with_gil([&] { group_->attr("wait")(); });
}

void GroupRanks::exchange_vectors(const std::vector<at::Tensor>& give, const std::vector<at::Tensor>& get) {
  with_gil([&] { group_->attr("exchange")(give, get); });
}

}  // namespace seigh::python
