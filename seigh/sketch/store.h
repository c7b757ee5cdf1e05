// Measurements on disk: the D x k matrix Y of a sketch, larger than memory, and the small matrices beside it.
//
//   FOLDER/plan.h5               D, k, s, seed, test matrix, columns of a shard: what all processes agree on
//   FOLDER/columns_000012.h5     shard 12: columns 12 w .. 12 w + w - 1 of every measurement
//       outer        [c, D]      rows are the columns y_i with i < k, none in the last shards
//       scale        [c]         16-bit storage only: what outer is to be multiplied by, powers of two
//       inner        [c', s]     Psi^T y_i, float64 (complex128 of complex columns)
//       omega_outer  [c, s]      Omega^T y_i, the same
//       crc32        [c + 2]     zlib's CRC-32 of each row of outer, of inner, of omega_outer, and of scale
//                                ([c + 3]) where there is one
//       attributes operator, seed and column, the first one's number, tell it from other measurements' shards
//   FOLDER/claims                which shards are being measured, as locks on its bytes
//
// A shard is written once and completely: under another name, flushed to disk, renamed. Any process anywhere
// may make any shard, and copying files joins their work. Only what SEIGH's streaming form needs is kept: of
// s columns the first k, 4 D k bytes in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

class StoredMatrix;

struct SketchPlan {
  std::string operator_name;
  int64_t rows = 0;                   ///< D
  int64_t k = 0, s = 0;               ///< outer and all columns
  uint64_t seed = 0;                  ///< of both test matrices
  std::string test_matrix = "ssrft";  ///< their kind
  at::ScalarType dtype = at::kFloat;
  /// "full": outer columns in dtype; "float16", "bfloat16": scaled to their largest entry and rounded to 11
  /// or 8 bits, two bytes a number. Psi^T y and Omega^T y are those of the rounded columns.
  std::string storage = "full";
  std::string fingerprint = {};  ///< of the operator (core/fingerprint.h), once it is known
  int64_t width = 0;             ///< columns of a shard; 0: about 512 MB of them, at most 64

  /// `width`, or what stands for 0.
  int64_t shard_width() const;
  int64_t shards() const { return (s + width - 1) / width; }
  /// The columns of a shard: the first one's number, how many, and how many outer ones.
  struct Columns {
    int64_t begin, all, outer;
  };
  Columns columns_of(int64_t shard) const;
  /// Of the outer columns on disk.
  at::ScalarType stored_dtype() const;
  bool scaled() const { return stored_dtype() != dtype; }
  /// Bytes of shards with so many columns, and so many outer ones among them.
  int64_t bytes(int64_t columns, int64_t outer) const;
  /// Bytes of all shards.
  int64_t bytes() const { return bytes(s, k); }
  /// Throws Error unless 1 <= k <= s <= D and the storage is known.
  void validate() const;
};

/// The columns of a block as they will be read again, stored in a dtype of 16 bits.
at::Tensor rounded(const at::Tensor& y, at::ScalarType stored);

class SketchStore {
 public:
  /// Opens the store in `folder`, or makes it there. Throws Error when the one that is there has another
  /// plan, or when the disk has too little room for the shards still to come, saying how much is needed and
  /// free.
  SketchStore(fs::path folder, SketchPlan plan, Context context = Context());
  /// The same on all ranks: the root makes it, with shards small enough to go round.
  static SketchStore together(const fs::path& folder, SketchPlan plan, const Context& context);
  /// Opens an existing store.
  explicit SketchStore(fs::path folder, Context context = Context());
  ~SketchStore();
  SketchStore(SketchStore&& other) noexcept;
  SketchStore(const SketchStore&) = delete;
  SketchStore& operator=(const SketchStore&) = delete;

  /// Writes the operator's fingerprint (core/fingerprint.h) into a plan that has none. Throws Error when it
  /// has another.
  void tie_to(const std::string& fingerprint);

  const SketchPlan& plan() const { return plan_; }
  const fs::path& folder() const { return folder_; }
  fs::path shard_file(int64_t shard) const;
  bool finished(int64_t shard) const;
  /// Shards that are there, ascending.
  std::vector<int64_t> finished() const;
  /// Columns in them.
  int64_t finished_columns() const;

  /// Reserves a shard for this process, until it ends or releases it; false when it is finished or another
  /// process has it. Throws Error where the folder cannot be written or its file system has no locks.
  bool claim(int64_t shard);
  void release(int64_t shard);
  /// Writes a shard: products y, block [D, c'], its Psi^T y, float64 [s, c'], and Omega^T of its outer
  /// columns, float64 [s, c].
  void write(int64_t shard, const at::Tensor& y, const at::Tensor& inner, const at::Tensor& omega_outer);

  /// Reads a shard through: is it of this plan, and do its checksums agree? Throws Error naming the file.
  void verify(int64_t shard) const;
  /// Removes a shard that verify() refuses, unless another process is making it anew: whether it did.
  bool remove_damaged(int64_t shard);

  /// What the finished shards hold: the columns' numbers, int64; Psi^T y, float64 [s, n], and of the outer
  /// ones Omega^T y, float64 [s, m].
  struct Small {
    at::Tensor columns, outer_columns, inner, omega_outer;
  };
  Small read_small() const;
  /// The outer columns of the finished shards, in order, read by panels of about `panel_bytes`; 0:
  /// StoredMatrix::panel_bytes() of the memory there is.
  std::shared_ptr<TallMatrix> outer(int64_t panel_bytes = 0) const;

 private:
  void open_claims();
  void write_plan() const;
  bool set_lock(int64_t shard, short type);
  void add_outer(int64_t shard, StoredMatrix& matrix) const;
  fs::path folder_;
  Context context_;
  SketchPlan plan_;
  int claims_ = -1;
};

}  // namespace seigh
