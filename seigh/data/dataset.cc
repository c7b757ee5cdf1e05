#include "seigh/data/dataset.h"

#include <ATen/ops/empty.h>

#include <vector>

#include "seigh/core/error.h"

namespace seigh {

Dataset Dataset::select(const at::Tensor& index) const {
  return {x.index_select(0, index), y.index_select(0, index), classes,
          numbers.defined() ? numbers.index_select(0, index) : index};
}

at::Tensor balanced_subset(const at::Tensor& labels, int64_t classes, int64_t count) {
  require(labels.dim() == 1 && labels.scalar_type() == at::kLong, "labels must be int64 of rank 1");
  require(classes >= 1, "a balanced subset needs at least one class, not ", classes);
  require(count >= 0, "a subset cannot have ", count, " samples");
  std::vector<int64_t> wanted, missing;
  for (int64_t c = 0; c < classes; ++c) wanted.push_back(count / classes + (c < count % classes ? 1 : 0));
  missing = wanted;

  const at::Tensor dense = labels.cpu().contiguous();
  const int64_t* label = dense.data_ptr<int64_t>();
  at::Tensor index = at::empty({count}, at::TensorOptions().dtype(at::kLong));
  int64_t* out = index.data_ptr<int64_t>();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    require(label[i] >= 0 && label[i] < classes, "label ", label[i], " of sample ", i, " is not among the ",
            classes, " classes 0..", classes - 1);
    if (missing[label[i]] == 0) continue;
    --missing[label[i]];
    *out++ = i;
  }
  for (int64_t c = 0; c < classes; ++c)
    require(missing[c] == 0, "a balanced subset of ", count, " samples needs ", wanted[c], " of class ", c,
            " but only ", wanted[c] - missing[c], " are there; ask for fewer samples");
  return index;
}

}  // namespace seigh
