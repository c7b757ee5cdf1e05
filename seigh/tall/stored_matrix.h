// A tall matrix in files: HDF5 data sets of a few columns each, read by panels of rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

class StoredMatrix final : public TallMatrix {
 public:
  /// Without columns yet. `dtype` (core/dtype.h): of what is given out. Panels have about `panel_bytes`;
  /// 0: panel_bytes() of the memory there is. `divided`: all ranks read the same files, each its share.
  StoredMatrix(int64_t rows, at::ScalarType dtype, Context context, int64_t panel_bytes = 0,
               bool divided = false);
  /// Adds columns: the rows of a data set [c, D] of dtype(), or of float16 or bfloat16 to be multiplied by
  /// `scales`, float64 [c]. The file stays open, so that it can be read even when it has been removed. Throws
  /// Error when the data set has another shape or dtype or is not stored in one piece.
  void add(const fs::path& path, const std::string& data_set, const at::Tensor& scales = {});
  /// Columns [begin, begin + count), of the same open files.
  StoredMatrix part(int64_t begin, int64_t count) const;

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return static_cast<int64_t>(columns_.size()); }
  at::ScalarType dtype() const override { return dtype_; }
  bool divided() const override { return divided_; }
  int64_t panel_rows() const override;
  at::Tensor row_range(int64_t begin, int64_t n) const override;
  /// One pass over the panels that hold any of the rows.
  at::Tensor select_rows(const at::Tensor& index) const override;
  /// crc32() (io/checksum.h) of each column as it is stored, all its rows: int64 [columns].
  at::Tensor checksums() const;

  /// Bytes of a panel for so much memory: work with one takes about four times that. Larger ones than 256 MB
  /// are no faster.
  static int64_t panel_bytes(int64_t memory);

 private:
  struct File;
  // Where a column stands, in which numbers, and what those are to be multiplied by if they are not dtype_'s.
  struct Column {
    std::shared_ptr<const File> file;
    int64_t offset;
    at::ScalarType stored;
    double scale;
    int64_t bytes() const { return static_cast<int64_t>(c10::elementSize(stored)); }  // of a number
  };

  int64_t rows_;
  at::ScalarType dtype_;
  int64_t panel_bytes_;
  bool divided_;
  std::vector<Column> columns_;
};

}  // namespace seigh
