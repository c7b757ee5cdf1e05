// Measurements on disk: the D x k matrix Y of a sketch, larger than memory, and the small matrices beside it.
//
//   FOLDER/plan.h5               D, k, s, seed, test matrix, columns of a shard: what all processes agree on
//   FOLDER/columns_000012.h5     shard 12: columns 12 w .. 12 w + w - 1 of every measurement
//       outer        [c, D]      rows are the columns y_i with i < k, none in the last shards
//       scale        [c]         float16 storage only: what outer is to be multiplied by, powers of two
//       inner        [c', s]     Psi^T y_i, float64 (complex128 of complex columns)
//       omega_outer  [c, s]      Omega^T y_i, the same
//       crc32        [c + 2]     zlib's CRC-32 of each row of outer, of inner and of omega_outer
//   FOLDER/claims                which shards are being measured, as locks on its bytes
//
// A shard is written once and completely: under another name, flushed to disk, renamed. Any process anywhere
// may make any shard, and copying files joins their work. Only what SEIGH's streaming form needs is kept: of
// s columns the first k, 4 D k bytes in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "seigh/linop/tall_matrix.h"

namespace seigh {

struct SketchPlan {
  std::string operator_name;
  int64_t rows = 0;                   ///< D
  int64_t k = 0, s = 0;               ///< outer and all columns
  uint64_t seed = 0;                  ///< of both test matrices
  std::string test_matrix = "ssrft";  ///< their kind
  at::ScalarType dtype = at::kFloat;
  /// "full": outer columns in dtype; "float16": rounded to 11 bits and scaled to their largest entry, in half
  /// the bytes. Psi^T y and Omega^T y are those of the rounded columns.
  std::string storage = "full";
  int64_t width = 0;  ///< columns of a shard; 0: about 512 MB of them, at most 64

  /// `width`, or what stands for 0.
  int64_t shard_width() const;
  int64_t shards() const { return (s + width - 1) / width; }
  /// Bytes of one number of an outer column on disk.
  int64_t stored_bytes() const;
  /// Bytes of all shards.
  int64_t bytes() const;
  /// Throws Error unless 1 <= k <= s <= D and the storage is known.
  void validate() const;
};

/// The columns of a block as they will be read again from storage "float16".
at::Tensor rounded_to_float16(const at::Tensor& y);

class SketchStore {
 public:
  /// Opens the store in `folder`, or makes it there. Throws Error when the one that is there has another
  /// plan, or when the disk has too little room for the shards still to come, saying how much is needed and
  /// free.
  SketchStore(std::filesystem::path folder, SketchPlan plan);
  /// The same on all ranks of world(): the root makes it, with shards small enough to go round.
  static SketchStore together(const std::filesystem::path& folder, SketchPlan plan);
  /// Opens an existing store.
  explicit SketchStore(std::filesystem::path folder);
  ~SketchStore();
  SketchStore(SketchStore&& other) noexcept;
  SketchStore(const SketchStore&) = delete;
  SketchStore& operator=(const SketchStore&) = delete;

  const SketchPlan& plan() const { return plan_; }
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path shard_file(int64_t shard) const;
  bool finished(int64_t shard) const;
  /// Shards that are there, ascending.
  std::vector<int64_t> finished() const;

  /// Reserves a shard for this process, until it ends or releases it; false when it is finished or another
  /// process has it.
  bool claim(int64_t shard);
  void release(int64_t shard);
  /// Writes a shard: products y, block [D, c'], its Psi^T y, float64 [s, c'], and Omega^T of its outer
  /// columns, float64 [s, c].
  void write(int64_t shard, const at::Tensor& y, const at::Tensor& inner, const at::Tensor& omega_outer);

  /// Reads a shard through and compares its checksums. Throws Error naming the file.
  void verify(int64_t shard) const;

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
  std::filesystem::path folder_;
  SketchPlan plan_;
  int claims_ = -1;
};

}  // namespace seigh
