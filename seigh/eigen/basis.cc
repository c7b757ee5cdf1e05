#include "seigh/eigen/basis.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/io/checksum.h"
#include "seigh/io/hdf5.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

Basis::Basis(int64_t rows, int64_t capacity, at::ScalarType dtype, fs::path folder, bool on_disk,
             Context context, c10::Device device, std::optional<int64_t> there)
    : context_(std::move(context)),
      rows_(rows),
      capacity_(capacity),
      folder_(std::move(folder)),
      stored_(rows, dtype, context_) {
  if (on_disk) return;
  const int64_t first = there.value_or(rows);
  block_ = empty_block(first, capacity, dtype, device);
  if (first == rows) return;
  rest_ = empty_block(rows - first, capacity, dtype);
  transfers_ = std::make_shared<Transfers>(
      device, piece_bytes(static_cast<int64_t>(block_.nbytes() + rest_.nbytes())), context_);
}

at::Tensor Basis::columns(int64_t begin, int64_t count) const {
  if (on_disk()) return stored_.part(begin, count).row_range(0, rows_);
  const at::Tensor some = block_.slice(1, begin, begin + count);
  if (!rest_.defined()) return some;
  const int64_t first = block_.size(0);
  const at::Tensor whole = empty_block(rows_, count, block_.scalar_type(), block_.device());
  whole.slice(0, 0, first).copy_(some);
  transfers_->copy(whole.slice(0, first), rest_.slice(1, begin, begin + count));
  return whole;
}

// In memory.
void Basis::put(int64_t first, const at::Tensor& columns) {
  const int64_t end = first + columns.size(1), there = block_.size(0);
  block_.slice(1, first, end).copy_(columns.slice(0, 0, there));
  if (rest_.defined()) transfers_->copy(rest_.slice(1, first, end), columns.slice(0, there));
}

// The first columns of the rows that the device has no room for.
std::shared_ptr<const TallMatrix> Basis::on_host(int64_t count) const {
  return std::make_shared<StreamedMatrix>(
      std::make_shared<MemoryTallMatrix>(rest_.slice(1, 0, count), context_), transfers_);
}

std::shared_ptr<const TallMatrix> Basis::leading(int64_t count) const {
  if (on_disk()) return std::make_shared<StoredMatrix>(stored_.part(0, count));
  const auto first = std::make_shared<MemoryTallMatrix>(block_.slice(1, 0, count), context_);
  if (!rest_.defined()) return first;
  return std::make_shared<StackedMatrix>(
      std::vector<std::shared_ptr<const TallMatrix>>{first, on_host(count)});
}

// Calls body(rows of V, first row, how many) until all rows have had their turn.
template <typename Body>
void Basis::for_panels(const Body& body) const {
  if (size_ == 0) return;
  const auto by_panels = [&](const TallMatrix& some, int64_t first) {
    seigh::for_panels(
        some, [&](int64_t begin, int64_t n, const at::Tensor& rows) { body(rows, first + begin, n); });
  };
  if (on_disk()) return by_panels(stored_, 0);
  body(block_.slice(1, 0, size_), int64_t{0}, block_.size(0));
  if (rest_.defined()) by_panels(*on_host(size_), block_.size(0));
}

// What is added up stays on the device until the end: to look at it is to wait.
at::Tensor Basis::projections(const at::Tensor& z) const {
  const at::Tensor result = at::zeros({size_, z.size(1)}, z.options().dtype(wide(z.scalar_type())));
  for_panels([&](const at::Tensor& v, int64_t begin, int64_t n) {
    add_projections(result, v, z.slice(0, begin, begin + n));
  });
  return result.cpu();
}

void Basis::subtract(const at::Tensor& z, const at::Tensor& c) const {
  const at::Tensor there = c.to(z.device());
  for_panels([&](const at::Tensor& v, int64_t begin, int64_t n) {
    subtract_product(z.slice(0, begin, begin + n), v, there);
  });
}

at::Tensor Basis::subtract_and_project(const at::Tensor& z, const at::Tensor& c) const {
  const at::Tensor left = at::zeros({size_, z.size(1)}, z.options().dtype(wide(z.scalar_type()))),
                   there = c.to(z.device());
  for_panels([&](const at::Tensor& v, int64_t begin, int64_t n) {
    const at::Tensor part = z.slice(0, begin, begin + n);
    subtract_product(part, v, there);
    // On a device a copy of the basis in float64 takes longer than all else.
    if (z.is_cpu())
      left.add_(transposed_product(v, part));
    else
      add_projections(left, v, part);
  });
  return left.cpu();
}

void Basis::append(const at::Tensor& q) {
  const int64_t count = q.size(1);
  if (on_disk()) {
    write(generation_, size_, q);
    stored_.add(file(generation_, size_), "columns");
    kept_ = size_ + count;
  } else {
    put(size_, q);
  }
  size_ += count;
}

void Basis::truncate(int64_t p) {
  size_ = p;
  if (on_disk()) stored_ = stored_.part(0, p);
}

void Basis::restart(int64_t p, const at::Tensor& y) {
  const int64_t r = y.size(1), rest = size_ - p;
  ++generation_;
  kept_ = 0;
  size_ = r + rest;
  if (!on_disk()) {
    const at::Tensor behind = columns(p, rest).clone();
    times_small_in_place(block_.slice(1, 0, p), y);
    if (rest_.defined()) {
      const auto old = on_host(p);
      const at::Tensor there = y.to(old->device());
      seigh::for_panels(*old, [&](int64_t begin, int64_t n, const at::Tensor& rows) {
        transfers_->copy(rest_.slice(0, begin, begin + n).slice(1, 0, r),
                         panel_times(rows.to(there.scalar_type()), there).to(rest_.scalar_type()));
      });
    }
    put(r, behind);
    return;
  }
  StoredMatrix renewed = stored_.part(0, 0);
  const StoredMatrix old = stored_.part(0, p);
  Hdf5Writer writer(file(generation_, 0));
  writer.create("columns", old.dtype(), {r, rows_}, Vouched::by_caller);
  RunningChecksums sums(r);
  seigh::for_panels(old, [&](int64_t begin, int64_t, const at::Tensor& rows) {
    const at::Tensor rotated = panel_times(rows.to(wide(old.dtype())), y).to(old.dtype()).t().contiguous();
    sums.add(rotated);
    writer.put("columns", {0, begin}, rotated);
  });
  writer.write("crc32", sums.values());
  writer.commit();
  renewed.add(file(generation_, 0), "columns");
  if (rest > 0) {
    write(generation_, r, stored_.part(p, rest).row_range(0, rows_));
    renewed.add(file(generation_, r), "columns");
  }
  stored_ = renewed;
  kept_ = size_;
}

void Basis::keep() {
  const int64_t width = columns_per_file();
  for (int64_t first = kept_; first < size_; first += width)
    write(generation_, first, columns(first, std::min(width, size_ - first)));
  kept_ = size_;
}

// Calls keep(name) for every file of a basis in the folder, and removes those it denies.
template <typename Keep>
void Basis::remove_files_unless(const Keep& keep) const {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    std::error_code none;
    if (name.starts_with("basis_") && !keep(name)) fs::remove(entry.path(), none);
  }
}

void Basis::forget_earlier() const {
  const std::string current = "basis_" + std::to_string(generation_) + "_";  // as in stem()
  remove_files_unless([&](const std::string& name) { return name.starts_with(current); });
}

void Basis::load(int64_t generation, int64_t size, const std::string& remedy) {
  require(size <= capacity_, folder_.string(), " has a basis of ", size, " vectors, there is room for ",
          capacity_, remedy);
  const int64_t width = columns_per_file();
  std::set<std::string> stems;
  for (size_ = 0; size_ < size;) {
    const fs::path path = file(generation, size_);
    std::error_code none;
    require(fs::exists(path, none), path.string(), " is missing", remedy);
    const Hdf5Reader reader = with_remedy(remedy, [&] { return Hdf5Reader(path, Maker::seigh); });
    const std::vector<int64_t> shape = reader.shape("columns");
    require(shape.size() == 2 && shape[0] >= 1 && shape[1] == rows_ && size_ + shape[0] <= size &&
                reader.dtype("columns") == stored_.dtype() && reader.has("crc32"),
            path.string(), " does not fit the state beside it", remedy);
    const at::Tensor sums = reader.read("crc32");
    StoredMatrix part = stored_.part(0, 0);
    part.add(path, "columns");
    for (int64_t first = 0; first < shape[0]; first += width) {
      context_.check_cancelled();
      const int64_t last = std::min(first + width, shape[0]);
      const at::Tensor some = part.part(first, last - first).row_range(0, rows_);
      require(at::equal(sums.slice(0, first, last), crc32_of_rows(some.t())), path.string(),
              ": the checksum does not match what was written", remedy);
      if (!on_disk()) put(size_ + first, some);
    }
    if (on_disk()) stored_.add(path, "columns");
    stems.insert(stem(generation, size_));
    size_ += shape[0];
  }
  generation_ = generation;
  kept_ = size_;

  // All ranks' files have names that differ by the rank alone.
  context_.ranks().wait();
  if (context_.ranks().root())
    remove_files_unless([&](const std::string& name) {
      return std::any_of(stems.begin(), stems.end(), [&](const std::string& s) {
        return name == s + ".h5" || (name.starts_with(s + "_rank_") && name.ends_with(".h5"));
      });
    });
  context_.ranks().wait();
}

int64_t Basis::columns_per_file() const {
  const int64_t column =
      std::max<int64_t>(1, rows_ * static_cast<int64_t>(c10::elementSize(stored_.dtype())));
  return file_bytes(column) / column;  // a rank may have no rows
}

std::string Basis::stem(int64_t generation, int64_t first) const {
  return "basis_" + std::to_string(generation) + "_" + std::to_string(first);
}

fs::path Basis::file(int64_t generation, int64_t first) const {
  const std::string rank =
      context_.ranks().size() > 1 ? "_rank_" + std::to_string(context_.ranks().rank()) : "";
  return folder_ / (stem(generation, first) + rank + ".h5");
}

void Basis::write(int64_t generation, int64_t first, const at::Tensor& columns) const {
  fs::create_directories(folder_);
  Hdf5Writer writer(file(generation, first));
  const at::Tensor rows = columns.t().cpu();
  writer.write("columns", rows, Vouched::by_caller);
  writer.write("crc32", crc32_of_rows(rows));
  writer.commit();
}

}  // namespace seigh
