// The orthonormal columns of a Krylov iteration, this rank's rows of them: in memory, the host's, a device's
// or the last rows on the host and all others on a device, or, where memory is too little, in files.
//
//   FOLDER/basis_<generation>_<first column>.h5     (..._rank_<r>.h5 where there are several ranks)
//       columns      [c, D]      some columns of the basis, its rows
//       crc32        [c]         zlib's CRC-32 of each
//
// each written once: under another name, flushed to disk, renamed. A restart, which changes all columns,
// begins a new generation, whose rotated columns are one file. In memory, the same files keep what keep() is
// asked to keep; in files, they are the basis. A basis begun in one way can be continued in the other.
//
// Cost of a pass in files: what there is of the basis is read once, by panels of rows. Rows on the host
// beside a device are brought there once (tall/transfers.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "seigh/core/filesystem.h"
#include "seigh/tall/stored_matrix.h"
#include "seigh/tall/transfers.h"

namespace seigh {

class Basis {
 public:
  /// No columns, and room for `capacity` of `rows` rows. `folder` may be empty for a basis in memory that is
  /// not kept; `device`: whose memory, of all rows or the first `there`. Blocks given and got lie there,
  /// small matrices on the CPU.
  Basis(int64_t rows, int64_t capacity, at::ScalarType dtype, fs::path folder, bool on_disk, Context context,
        c10::Device device = at::kCPU, std::optional<int64_t> there = {});

  int64_t rows() const { return rows_; }
  int64_t capacity() const { return capacity_; }
  int64_t size() const { return size_; }
  int64_t generation() const { return generation_; }  ///< restarts so far
  bool on_disk() const { return !block_.defined(); }

  /// Columns [begin, begin + count): block [rows, count]; a view of those that lie in one memory.
  at::Tensor columns(int64_t begin, int64_t count) const;
  /// The first `count` columns, without copying them.
  std::shared_ptr<const TallMatrix> leading(int64_t count) const;
  /// V^T Z in float64 (complex128) for a block Z of this rank's rows: one pass.
  at::Tensor projections(const at::Tensor& z) const;
  /// Z -= V C for C float64: one pass.
  void subtract(const at::Tensor& z, const at::Tensor& c) const;
  /// The same, and V^T Z of what is left, its sums in float64 (on a device, of panels): still one pass.
  at::Tensor subtract_and_project(const at::Tensor& z, const at::Tensor& c) const;

  /// Adds the columns of a block.
  void append(const at::Tensor& q);
  /// Drops all columns but the first p.
  void truncate(int64_t p);
  /// The first p columns become V_p Y, Y float64 [p, r] with r <= p; those behind them follow. One pass.
  void restart(int64_t p, const at::Tensor& y);

  /// Writes what the folder does not have yet, some columns at a time, on the host.
  void keep();
  /// Bytes of those, of columns of so many: large enough for the disk's full speed and small enough for
  /// memory.
  static int64_t file_bytes(int64_t column) { return std::max(int64_t{256} << 20, column); }
  /// Removes the files of earlier generations; for the root.
  void forget_earlier() const;
  /// Takes the first `size` columns of a generation from the folder, and removes what a killed process may
  /// have left beside them. Throws Error, ending in `remedy`, when they are missing or damaged.
  void load(int64_t generation, int64_t size, const std::string& remedy);

 private:
  int64_t columns_per_file() const;
  template <typename Keep>
  void remove_files_unless(const Keep& keep) const;
  std::string stem(int64_t generation, int64_t first) const;
  fs::path file(int64_t generation, int64_t first) const;
  void write(int64_t generation, int64_t first, const at::Tensor& columns) const;
  void put(int64_t first, const at::Tensor& columns);
  template <typename Body>
  void for_panels(const Body& body) const;
  std::shared_ptr<const TallMatrix> on_host(int64_t count) const;

  Context context_;
  int64_t rows_, capacity_;
  fs::path folder_;
  int64_t size_ = 0, generation_ = 0;
  int64_t kept_ = 0;  // columns in the folder
  at::Tensor block_;  // in memory: [rows, capacity], or the rows that are on the device
  at::Tensor rest_;   // the other ones, on the host, if there are any
  std::shared_ptr<Transfers> transfers_;
  StoredMatrix stored_;  // in files
};

}  // namespace seigh
