#include "seigh/tall/stored_matrix.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/parallel.h"
#include "seigh/io/checksum.h"
#include "seigh/io/hdf5.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {
namespace {

// What a checksum reads at a time: enough for the disk's speed, in every thread.
constexpr int64_t kPieceBytes = int64_t{4} << 20;

}  // namespace

struct StoredMatrix::File {
  explicit File(fs::path p) : path(std::move(p)), descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    require_file(path, descriptor >= 0, "cannot read ", path.string(), ": ", std::strerror(errno));
  }
  ~File() { ::close(descriptor); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void read(char* to, int64_t bytes, int64_t offset) const {
    while (bytes > 0) {
      const ssize_t count = ::pread(descriptor, to, static_cast<size_t>(bytes), offset);
      if (count < 0 && errno == EINTR) continue;
      require_file(path, count > 0, "cannot read ", path.string(), ": ",
                   count < 0 ? std::strerror(errno) : "the file is truncated");
      to += count;
      bytes -= count;
      offset += count;
    }
  }

  fs::path path;
  int descriptor;
};

StoredMatrix::StoredMatrix(int64_t rows, at::ScalarType dtype, Context context, int64_t bytes, bool divided)
    : TallMatrix(std::move(context)),
      rows_(rows),
      dtype_(dtype),
      panel_bytes_(bytes > 0 ? bytes : panel_bytes(this->context().memory().available())),
      divided_(divided) {}

void StoredMatrix::add(const fs::path& path, const std::string& data_set, const at::Tensor& scales) {
  const Hdf5Reader reader(path);
  const std::vector<int64_t> shape = reader.shape(data_set);
  require(shape.size() == 2 && shape[1] == rows_ && (!scales.defined() || scales.numel() == shape[0]),
          path.string(), ": data set '", data_set, "' does not hold columns of ", rows_, " numbers");
  if (shape[0] == 0) return;
  const at::ScalarType stored = !scales.defined()                              ? dtype_
                                : reader.in_one_piece(data_set, at::kBFloat16) ? at::kBFloat16
                                                                               : at::kHalf;
  const int64_t first = reader.offset(data_set, stored),
                column = rows_ * static_cast<int64_t>(c10::elementSize(stored));
  const auto file = std::make_shared<const File>(path);
  for (int64_t i = 0; i < shape[0]; ++i)
    columns_.push_back({file, first + i * column, stored, scales.defined() ? scales[i].item<double>() : 1.0});
}

StoredMatrix StoredMatrix::part(int64_t begin, int64_t count) const {
  StoredMatrix result(rows_, dtype_, context(), panel_bytes_, divided_);
  result.columns_.assign(columns_.begin() + begin, columns_.begin() + begin + count);
  return result;
}

int64_t StoredMatrix::panel_bytes(int64_t memory) {
  return std::clamp<int64_t>(memory / 16, int64_t{8} << 20, int64_t{256} << 20);
}

int64_t StoredMatrix::panel_rows() const {
  const int64_t row = static_cast<int64_t>(c10::elementSize(dtype_)) * std::max<int64_t>(columns(), 1);
  return std::clamp<int64_t>(panel_bytes_ / row, 1, rows_);
}

at::Tensor StoredMatrix::row_range(int64_t begin, int64_t n) const {
  at::Tensor panel = empty_block(n, columns(), dtype_);
  const int64_t ahead = std::min(n, share().end() - begin - n);
  // Several requests at a time keep the disk busy; the next panel is asked for ahead.
  parallel_for(columns(), [&](int64_t j) {
    const Column& c = columns_[static_cast<size_t>(j)];
    const at::Tensor column = panel.select(1, j);
    const at::Tensor numbers = c.stored == dtype_ ? column : at::empty({n}, c.stored);
    c.file->read(static_cast<char*>(numbers.data_ptr()), n * c.bytes(), c.offset + begin * c.bytes());
    if (c.stored != dtype_) column.copy_(numbers).mul_(c.scale);
    if (ahead > 0)
      ::posix_fadvise(c.file->descriptor, c.offset + (begin + n) * c.bytes(), ahead * c.bytes(),
                      POSIX_FADV_WILLNEED);
  });
  return panel;
}

at::Tensor StoredMatrix::checksums() const {
  const at::Tensor sums = at::zeros({columns()}, at::kLong);
  int64_t* const sum = sums.data_ptr<int64_t>();
  parallel_for(columns(), [&](int64_t j) {
    const Column& c = columns_[static_cast<size_t>(j)];
    const at::Tensor piece = at::empty({std::min(rows_, kPieceBytes / c.bytes())}, c.stored);
    for (int64_t begin = 0; begin < rows_; begin += piece.numel()) {
      const at::Tensor numbers = piece.slice(0, 0, std::min(piece.numel(), rows_ - begin));
      c.file->read(static_cast<char*>(numbers.data_ptr()), numbers.numel() * c.bytes(),
                   c.offset + begin * c.bytes());
      sum[j] = crc32(numbers, sum[j]);
    }
  });
  return sums;
}

at::Tensor StoredMatrix::select_rows(const at::Tensor& index) const {
  const auto [sorted, order] = index.sort();
  at::Tensor result = at::zeros({index.numel(), columns()}, dtype_);
  const int64_t* const rows = sorted.data_ptr<int64_t>();
  const Share mine = share();
  const int64_t step = panel_rows(), total = std::lower_bound(rows, rows + sorted.numel(), mine.end()) - rows;
  for (int64_t first = std::lower_bound(rows, rows + total, mine.begin) - rows; first < total;) {
    context().check_cancelled();
    const int64_t begin = std::max(rows[first] / step * step, mine.begin),
                  n = std::min(step, mine.end() - begin);
    const int64_t last = std::lower_bound(rows + first, rows + total, begin + n) - rows;
    const at::Tensor panel = row_range(begin, n);
    result.index_copy_(0, order.slice(0, first, last),
                       panel.index_select(0, sorted.slice(0, first, last) - begin));
    first = last;
  }
  if (divided()) context().ranks().sum(result);
  return result;
}

}  // namespace seigh
