// The processes of a torch.distributed group as ranks.
#pragma once

#include <vector>

#include "python/core/gil.h"
#include "seigh/core/ranks.h"

namespace seigh::python {

/// The methods are those of seigh._distributed.Group, which says what they do.
class GroupRanks final : public Ranks {
 public:
  /// With the lock.
  explicit GroupRanks(py::object group);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int on_this_machine() const override { return on_this_machine_; }
  int beside() const override { return beside_; }
  int number() const override { return number_; }
  bool takes(c10::Device device) const override;
  void broadcast(void* data, int64_t bytes, int from) override;
  void wait() override;

 protected:
  void exchange_vectors(const std::vector<at::Tensor>& give, const std::vector<at::Tensor>& get) override;

 private:
  Reference group_;
  int rank_, size_, on_this_machine_, beside_, number_;
};

}  // namespace seigh::python
