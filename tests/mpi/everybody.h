// What the tests of several ranks have in common.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh::test {

/// The context of all ranks; made by main(), once they have found each other.
extern const Context* everybody;
extern std::shared_ptr<Ranks> ranks;

inline Ranks& world() {
  return everybody->ranks();
}

/// The same folder for all ranks, fresh.
inline fs::path common_folder(const std::string& name) {
  const std::string job = "seigh-ranks-" + std::to_string(world().agree(getpid()));
  return fs::temp_directory_path() / job / name;
}

/// My rows of a block.
inline at::Tensor mine(const at::Tensor& block) {
  const Share share = world().share(block.size(0));
  return as_block(block.slice(0, share.begin, share.end()));
}

inline void expect_same(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  ASSERT_EQ(a.sizes(), b.sizes());
  if (a.numel() == 0) return;
  EXPECT_LE((a - b).abs().max().item<double>(), tolerance);
}

/// Eigenpairs up to sign.
inline void expect_same_pairs(const EigenResult& a, const EigenResult& b, double tolerance) {
  expect_same(a.eigenvalues, b.eigenvalues, tolerance);
  const at::Tensor cosines = (a.eigenvectors.all().conj() * b.eigenvectors.all()).sum(0).abs();
  EXPECT_GE(cosines.min().item<double>(), 1 - tolerance);
}

}  // namespace seigh::test
