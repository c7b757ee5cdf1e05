#include "seigh/sketch/store.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/fingerprint.h"
#include "seigh/io/checksum.h"
#include "seigh/io/hdf5.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/tall/stored_matrix.h"

namespace seigh {
namespace {

// Per column the power of two that brings its largest entry to 2^13 .. 2^14, where half precision has room on
// both sides: float64 [c]. Columns that have been rounded to `stored` once lose nothing by a second time.
at::Tensor scales_of(const at::Tensor& y, at::ScalarType stored) {
  const double half_ulp = stored == at::kHalf ? 0x1p-11 : 0x1p-8;
  at::Tensor scales = at::ones({y.size(1)}, at::kDouble);
  const at::Tensor largest =
      at::cat({y.abs(), at::zeros({1, y.size(1)}, y.options())}).amax(0).cpu().to(at::kDouble);
  for (int64_t j = 0; j < y.size(1); ++j) {
    const double most = largest[j].item<double>();
    if (!(most > 0)) continue;
    int exponent = 0;
    std::frexp(most * (1 + half_ulp), &exponent);  // an entry just below a power of two is rounded up to it
    scales[j] = std::ldexp(1.0, exponent - 14);
  }
  return scales;
}

// What tells a shard from those of other measurements.
std::map<std::string, Hdf5Attribute> identity_of(const SketchPlan& plan, int64_t shard) {
  return {{"operator", plan.operator_name},
          {"seed", static_cast<int64_t>(plan.seed)},
          {"column", plan.columns_of(shard).begin}};
}

}  // namespace

at::Tensor rounded(const at::Tensor& y, at::ScalarType stored) {
  const at::Tensor scales = scales_of(y, stored).to(y.device(), y.scalar_type());
  return as_block((y / scales).to(stored).to(y.scalar_type()) * scales);
}

at::ScalarType SketchPlan::stored_dtype() const {
  return storage == "float16" ? at::kHalf : storage == "bfloat16" ? at::kBFloat16 : dtype;
}

int64_t SketchPlan::bytes(int64_t columns, int64_t outer) const {
  return outer * rows * static_cast<int64_t>(c10::elementSize(stored_dtype())) +
         wide_bytes(dtype) * s * (columns + outer);
}

SketchPlan::Columns SketchPlan::columns_of(int64_t shard) const {
  const int64_t begin = shard * width, all = std::min(width, s - begin);
  return {begin, all, std::clamp<int64_t>(k - begin, 0, all)};
}

int64_t SketchPlan::shard_width() const {
  constexpr int64_t kShardBytes = int64_t{512} << 20;
  return width > 0 ? width
                   : std::clamp<int64_t>(kShardBytes / (rows * static_cast<int64_t>(c10::elementSize(dtype))),
                                         4, 64);
}

void SketchPlan::validate() const {
  require(k >= 1, "k must be at least 1, not ", k);
  require(s >= k, "s must be at least k: s = ", s, ", k = ", k, " (the usual choice is s = 2 k)");
  require(s <= rows, "s must not exceed the number of parameters: s = ", s, ", D = ", rows);
  require(width >= 0, "a shard cannot have ", width, " columns");
  require(storage == "full" || scaled(), "there is no storage \"", storage,
          "\"; the kinds are full, float16 and bfloat16");
  require(storage == "full" || !at::isComplexType(dtype), "complex columns cannot be kept in ", storage,
          "; use storage full");
}

SketchStore::SketchStore(fs::path folder, SketchPlan plan, Context context)
    : folder_(std::move(folder)), context_(std::move(context)), plan_(std::move(plan)) {
  plan_.validate();
  std::error_code none;
  const fs::path path = folder_ / "plan.h5";
  if (fs::exists(path, none)) {
    const SketchStore old(folder_, context_);
    const SketchPlan &a = old.plan(), &b = plan_;
    require(a.operator_name == b.operator_name && a.rows == b.rows && a.k == b.k && a.s == b.s &&
                a.seed == b.seed && a.test_matrix == b.test_matrix && a.dtype == b.dtype &&
                a.storage == b.storage,
            folder_.string(), " holds other measurements: of ", a.operator_name, ", D = ", a.rows,
            ", k = ", a.k, ", s = ", a.s, ", seed ", a.seed, ", ", a.test_matrix,
            "; delete it to begin anew");
    plan_ = a;
  } else {
    plan_.width = plan_.shard_width();
    fs::create_directories(folder_, none);
    require(!none, "cannot write ", folder_.string(), ": ", none.message(),
            "; choose another folder with --out");
    write_plan();
  }
  int64_t needed = 0;
  for (int64_t shard = 0; shard < plan_.shards(); ++shard) {
    const SketchPlan::Columns columns = plan_.columns_of(shard);
    if (!finished(shard)) needed += plan_.bytes(columns.all, columns.outer);
  }
  const fs::space_info space = fs::space(folder_, none);
  require(none || needed <= static_cast<int64_t>(space.available), "the measurements of ",
          plan_.operator_name, " need ", format_bytes(needed), " of disk in ", folder_.string(), ", ",
          format_bytes(static_cast<int64_t>(space.available)),
          " are free; free some, choose another folder with --out, or lower k");
  open_claims();
}

void SketchStore::write_plan() const {
  Hdf5Writer file(folder_ / "plan.h5");
  file.attribute("operator", plan_.operator_name);
  file.attribute("rows", plan_.rows);
  file.attribute("k", plan_.k);
  file.attribute("s", plan_.s);
  file.attribute("seed", static_cast<int64_t>(plan_.seed));
  file.attribute("test_matrix", plan_.test_matrix);
  file.attribute("dtype", dtype_name(plan_.dtype));
  file.attribute("storage", plan_.storage);
  file.attribute("width", plan_.width);
  if (!plan_.fingerprint.empty()) file.attribute("fingerprint", plan_.fingerprint);
  file.commit();
}

void SketchStore::tie_to(const std::string& fingerprint) {
  require_same_matrix((folder_ / "plan.h5").string(), plan_.fingerprint, fingerprint, folder_.string());
  if (!plan_.fingerprint.empty() || fingerprint.empty()) return;
  plan_.fingerprint = fingerprint;
  if (context_.ranks().root()) write_plan();
}

SketchStore SketchStore::together(const fs::path& folder, SketchPlan plan, const Context& context) {
  const int64_t ranks = context.ranks().size();
  if (ranks > 1) plan.width = std::clamp<int64_t>((plan.s + ranks - 1) / ranks, 1, plan.shard_width());
  if (!context.ranks().root()) context.ranks().wait();
  SketchStore store(folder, std::move(plan), context);
  if (context.ranks().root()) context.ranks().wait();
  return store;
}

SketchStore::SketchStore(fs::path folder, Context context)
    : folder_(std::move(folder)), context_(std::move(context)) {
  const fs::path path = folder_ / "plan.h5";
  const std::map<std::string, Hdf5Attribute> attributes =
      with_remedy("; delete " + folder_.string() + " to begin anew",
                  [&] { return Hdf5Reader(path, Maker::seigh).attributes(); });
  const auto get = [&]<typename T>(const std::string& name, T) {
    const auto found = attributes.find(name);
    require(found != attributes.end() && std::holds_alternative<T>(found->second), path.string(), " lacks ",
            name, "; delete ", folder_.string(), " to begin anew");
    return std::get<T>(found->second);
  };
  plan_.operator_name = get("operator", std::string());
  plan_.rows = get("rows", int64_t{});
  plan_.k = get("k", int64_t{});
  plan_.s = get("s", int64_t{});
  plan_.seed = static_cast<uint64_t>(get("seed", int64_t{}));
  plan_.test_matrix = get("test_matrix", std::string());
  plan_.dtype = parse_dtype(get("dtype", std::string()));
  plan_.width = get("width", int64_t{});
  if (attributes.contains("storage")) plan_.storage = get("storage", std::string());
  if (attributes.contains("fingerprint")) plan_.fingerprint = get("fingerprint", std::string());
  plan_.validate();
  require(plan_.width >= 1, path.string(), " is damaged; delete ", folder_.string(), " to begin anew");
  open_claims();
}

SketchStore::SketchStore(SketchStore&& other) noexcept
    : folder_(std::move(other.folder_)),
      context_(other.context_),
      plan_(std::move(other.plan_)),
      claims_(std::exchange(other.claims_, -1)) {}

SketchStore::~SketchStore() {
  if (claims_ >= 0) ::close(claims_);
}

void SketchStore::open_claims() {
  const fs::path path = folder_ / "claims";
  claims_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  require(claims_ >= 0 || errno == EROFS || errno == EACCES, "cannot write ", path.string(), ": ",
          std::strerror(errno));
}

fs::path SketchStore::shard_file(int64_t shard) const {
  char name[40];
  std::snprintf(name, sizeof(name), "columns_%06lld.h5", static_cast<long long>(shard));
  return folder_ / name;
}

bool SketchStore::finished(int64_t shard) const {
  std::error_code none;
  return fs::exists(shard_file(shard), none);
}

std::vector<int64_t> SketchStore::finished() const {
  std::vector<int64_t> all;
  for (int64_t shard = 0; shard < plan_.shards(); ++shard) {
    if (finished(shard)) all.push_back(shard);
  }
  return all;
}

int64_t SketchStore::finished_columns() const {
  int64_t columns = 0;
  for (const int64_t shard : finished()) columns += plan_.columns_of(shard).all;
  return columns;
}

// Locks of open file descriptions: gone with the process, whatever ends it. False only where another process
// has the shard: who took every failure for that would measure nothing and call it done.
bool SketchStore::set_lock(int64_t shard, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = shard;
  lock.l_len = 1;
  if (::fcntl(claims_, F_OFD_SETLK, &lock) == 0) return true;
  require(errno == EAGAIN || errno == EACCES || type == F_UNLCK, "cannot lock ",
          (folder_ / "claims").string(), ": ", claims_ < 0 ? "it cannot be written" : std::strerror(errno),
          "; measure in a folder that can be written, on a file system with locks");
  return false;
}

bool SketchStore::claim(int64_t shard) {
  if (finished(shard) || !set_lock(shard, F_WRLCK)) return false;
  if (!finished(shard)) return true;
  release(shard);  // finished meanwhile
  return false;
}

void SketchStore::release(int64_t shard) {
  set_lock(shard, F_UNLCK);
}

void SketchStore::write(int64_t shard, const at::Tensor& y, const at::Tensor& inner,
                        const at::Tensor& omega_outer) {
  const int64_t outer = omega_outer.size(1);
  at::Tensor kept = y.slice(1, 0, outer), scales;
  if (plan_.scaled()) {
    scales = scales_of(kept, plan_.stored_dtype());
    kept = as_block((kept / scales.to(y.scalar_type())).to(plan_.stored_dtype()));
  }
  at::Tensor sums = at::empty({outer + (plan_.scaled() ? 3 : 2)}, at::kLong);
  sums.slice(0, 0, outer).copy_(crc32_of_rows(kept.t()));
  sums[outer] = crc32(inner.t());
  sums[outer + 1] = crc32(omega_outer.t());
  if (plan_.scaled()) sums[outer + 2] = crc32(scales);
  Hdf5Writer file(shard_file(shard));
  for (const auto& [name, value] : identity_of(plan_, shard)) file.attribute(name, value);
  file.write("outer", kept.t(), Vouched::by_caller);
  if (plan_.scaled()) file.write("scale", scales);
  file.write("inner", inner.t());
  file.write("omega_outer", omega_outer.t());
  file.write("crc32", sums);
  file.commit();
}

void SketchStore::verify(int64_t shard) const {
  const fs::path path = shard_file(shard);
  const SketchPlan::Columns columns = plan_.columns_of(shard);
  const Hdf5Reader file(path, Maker::seigh);
  const auto shaped = [&](const char* name, int64_t rows) {
    at::Tensor t = file.read(name);
    require(t.dim() == 2 && t.size(0) == rows && t.size(1) == plan_.s, path.string(), ": ", name,
            " has shape ", t.sizes(), ", not [", rows, ", ", plan_.s, "]");
    return t;
  };
  const std::map<std::string, Hdf5Attribute> attributes = file.attributes();
  for (const auto& [name, value] : identity_of(plan_, shard)) {
    const auto found = attributes.find(name);
    // Shards of before there were attributes lack them.
    require(found == attributes.end() || found->second == value, path.string(), " is of other measurements");
  }
  const at::Tensor sums = file.read("crc32");
  StoredMatrix outer(plan_.rows, plan_.dtype, context_);
  add_outer(shard, outer);
  require(outer.columns() == columns.outer && sums.numel() == columns.outer + (plan_.scaled() ? 3 : 2),
          path.string(), " holds ", outer.columns(), " outer columns, not ", columns.outer);
  const bool good = at::equal(sums.slice(0, 0, columns.outer), outer.checksums()) &&
                    sums[columns.outer].item<int64_t>() == crc32(shaped("inner", columns.all)) &&
                    sums[columns.outer + 1].item<int64_t>() == crc32(shaped("omega_outer", columns.outer)) &&
                    (!plan_.scaled() || sums[columns.outer + 2].item<int64_t>() == crc32(file.read("scale")));
  require(good, path.string(), ": the checksum does not match what was written");
}

bool SketchStore::remove_damaged(int64_t shard) {
  // What may not be read need not be damaged.
  if (::access(shard_file(shard).c_str(), R_OK) != 0 || !set_lock(shard, F_WRLCK)) return false;
  bool damaged = false;
  try {
    verify(shard);
  } catch (const Error&) {
    std::error_code none;
    damaged = fs::remove(shard_file(shard), none);
  }
  release(shard);
  return damaged;
}

SketchStore::Small SketchStore::read_small() const {
  std::vector<at::Tensor> columns, outer_columns, inner, omega_outer;
  for (const int64_t shard : finished()) {
    const Hdf5Reader file(shard_file(shard), Maker::seigh);
    inner.push_back(file.read("inner").t());
    omega_outer.push_back(file.read("omega_outer").t());
    const int64_t begin = shard * plan_.width;
    columns.push_back(at::arange(begin, begin + inner.back().size(1), at::kLong));
    outer_columns.push_back(at::arange(begin, begin + omega_outer.back().size(1), at::kLong));
    require(inner.back().size(0) == plan_.s && omega_outer.back().size(0) == plan_.s,
            shard_file(shard).string(), " does not fit the plan; delete it and measure it again");
  }
  require(!columns.empty(), folder_.string(), " holds no measurements yet; make them with seigh measure");
  return {at::cat(columns), at::cat(outer_columns), at::cat(inner, 1), at::cat(omega_outer, 1)};
}

std::shared_ptr<TallMatrix> SketchStore::outer(int64_t panel_bytes) const {
  Ranks& ranks = context_.ranks();
  if (panel_bytes == 0) panel_bytes = ranks.agree(StoredMatrix::panel_bytes(context_.memory().available()));
  auto matrix =
      std::make_shared<StoredMatrix>(plan_.rows, plan_.dtype, context_, panel_bytes, !ranks.alone());
  for (const int64_t shard : finished()) add_outer(shard, *matrix);
  return matrix;
}

void SketchStore::add_outer(int64_t shard, StoredMatrix& matrix) const {
  const fs::path path = shard_file(shard);
  const Hdf5Reader file(path, Maker::seigh);
  const std::vector<int64_t> shape = file.shape("outer");
  require(shape.size() == 2 && shape[1] == plan_.rows, path.string(),
          " does not fit the plan; delete it and measure it again");
  matrix.add(path, "outer", plan_.scaled() ? file.read("scale") : at::Tensor());
}

}  // namespace seigh
