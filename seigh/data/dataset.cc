#include "seigh/data/dataset.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>

#include <vector>

#include "seigh/core/error.h"
#include "seigh/core/random.h"

namespace seigh {

Dataset Dataset::select(const at::Tensor& index) const {
  return {x.index_select(0, index.to(x.device())), y.index_select(0, index.to(y.device())), classes,
          numbers.defined() ? numbers.index_select(0, index) : index};
}

Dataset Dataset::on(const c10::Device& device) const {
  const auto there = [&](const at::Tensor& t) { return t.defined() ? t.to(device) : t; };
  return {there(x), there(y), classes, numbers};
}

at::Tensor balanced_subset(const at::Tensor& labels, int64_t classes, int64_t count, int64_t subset) {
  require(labels.dim() == 1 && labels.scalar_type() == at::kLong, "labels must be int64 of rank 1");
  require(classes >= 1, "a balanced subset needs at least one class, not ", classes);
  require(count >= 0, "a subset cannot have ", count, " samples");
  require(0 <= subset && subset <= labels.numel(), "there is no disjoint subset number ", subset, " of ",
          labels.numel(), " samples");
  std::vector<int64_t> wanted, missing;
  for (int64_t c = 0; c < classes; ++c) wanted.push_back(count / classes + (c < count % classes ? 1 : 0));
  missing = wanted;
  std::vector<int64_t> passed(wanted.size(), 0);  // of each class, by the subsets before

  const at::Tensor dense = labels.cpu().contiguous();
  const int64_t* label = dense.data_ptr<int64_t>();
  at::Tensor index = at::empty({count}, at::TensorOptions().dtype(at::kLong));
  int64_t* out = index.data_ptr<int64_t>();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    require(label[i] >= 0 && label[i] < classes, "label ", label[i], " of sample ", i, " is not among the ",
            classes, " classes 0..", classes - 1);
    if (missing[label[i]] == 0 || passed[label[i]]++ < subset * wanted[label[i]]) continue;
    --missing[label[i]];
    *out++ = i;
  }
  for (int64_t c = 0; c < classes; ++c)
    require(missing[c] == 0,
            subset == 0 ? text_of("a balanced subset of ", count, " samples needs ", wanted[c])
                        : text_of("disjoint balanced subsets 0 to ", subset, " of ", count, " samples need ",
                                  (subset + 1) * wanted[c]),
            " of class ", c, " but only ", passed[c], " are there; ask for fewer samples",
            subset == 0 ? "" : " or subsets");
  return index;
}

at::Tensor noisy_labels(const at::Tensor& labels, int64_t classes, double share, uint64_t seed) {
  require(0 <= share && share <= 1, "the share of labels to replace must lie between 0 and 1, not ", share);
  require(classes >= 2, "labels of ", classes, " class cannot be replaced by another");
  const int64_t n = labels.numel();
  const at::Tensor chosen = random_uniform(seed, Stream::label_noise, n, 0) < share;
  // 1 to classes - 1 further, so never the same.
  const at::Tensor further =
      (random_uniform(seed, Stream::label_noise, n, 1) * static_cast<double>(classes - 1)).floor() + 1;
  return at::where(chosen, (labels + further.to(at::kLong)).remainder(classes), labels);
}

}  // namespace seigh
