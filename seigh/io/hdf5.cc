#include "seigh/io/hdf5.h"

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <hdf5.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <string_view>
#include <system_error>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/io/crc64.h"
#include "seigh/io/limits.h"

namespace seigh {
namespace {

// Keeps libhdf5 from printing its error stack while alive; the stack is still recorded, for reason().
class Quiet {
 public:
  Quiet() {
    H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  ~Quiet() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  H5E_auto2_t function_ = nullptr;
  void* data_ = nullptr;
};

// An HDF5 identifier that closes itself.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  operator hid_t() const { return id_; }  // NOLINT: libhdf5's functions take plain identifiers
  bool ok() const { return id_ >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// Why the last HDF5 call failed, in a few words: the operating system's reason if there is one, else the
// innermost entry of libhdf5's error stack. Any later HDF5 call wipes it.
std::string reason() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* entry, void* data) -> herr_t {
        if (n == 0 && entry->desc != nullptr) *static_cast<std::string*>(data) = entry->desc;
        return 0;
      },
      &text);
  constexpr std::string_view kSystem = "error message = '";
  if (const size_t at = text.find(kSystem); at != std::string::npos) {
    text.erase(0, at + kSystem.size());
    text.erase(std::min(text.find('\''), text.size()));
  }
  return text.empty() ? "HDF5 error" : text;
}

// Settings of every file opened here.
Handle access_properties() {
  Handle properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // Every HDF5 since 1.8 and every h5py opens it; older layouts have no room for long attributes.
  H5Pset_libver_bounds(properties, H5F_LIBVER_V18, H5F_LIBVER_V18);
  // Files appear complete by rename, so locks guard nothing, and network file systems often refuse them.
  H5Pset_file_locking(properties, /*use_file_locking=*/false, /*ignore_when_disabled=*/true);
  // Small writes go straight to the file, so a full disk shows in H5Dwrite and not in H5Dclose, which could
  // not recover.
  H5Pset_sieve_buf_size(properties, 0);
  return properties;
}

// Without times, so that the same content makes the same bytes.
Handle untimed(hid_t kind) {
  Handle properties(H5Pcreate(kind), H5Pclose);
  H5Pset_obj_track_times(properties, false);
  return properties;
}

// Floating-point numbers of 16 bits, which libhdf5 has no names for before 1.14.4.
hid_t sixteen_bit_type(size_t exponent_bits) {
  const hid_t type = H5Tcopy(H5T_NATIVE_FLOAT);
  H5Tset_fields(type, 15, 15 - exponent_bits, exponent_bits, 0, 15 - exponent_bits);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, (size_t{1} << (exponent_bits - 1)) - 1);
  return type;
}

// As h5py has them: compounds of a real part "r" and an imaginary part "i".
hid_t complex_type(hid_t part) {
  const size_t size = H5Tget_size(part);
  const hid_t type = H5Tcreate(H5T_COMPOUND, 2 * size);
  H5Tinsert(type, "r", 0, part);
  H5Tinsert(type, "i", size, part);
  return type;
}

// The HDF5 type of a tensor's elements in memory, or -1.
hid_t native_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return H5T_NATIVE_FLOAT;
    case at::kDouble:
      return H5T_NATIVE_DOUBLE;
    case at::kHalf: {
      static const hid_t type = sixteen_bit_type(5);
      return type;
    }
    case at::kBFloat16: {
      static const hid_t type = sixteen_bit_type(8);
      return type;
    }
    case at::kComplexFloat: {
      static const hid_t type = complex_type(H5T_NATIVE_FLOAT);
      return type;
    }
    case at::kComplexDouble: {
      static const hid_t type = complex_type(H5T_NATIVE_DOUBLE);
      return type;
    }
    case at::kInt:
      return H5T_NATIVE_INT32;
    case at::kLong:
      return H5T_NATIVE_INT64;
    case at::kByte:
      return H5T_NATIVE_UINT8;
    default:
      return -1;
  }
}

// Of data sets that are opened: links into other files are not followed.
Handle data_set_access() {
  Handle properties(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
  H5Pset_elink_cb(
      properties,
      [](const char*, const char*, const char*, const char*, unsigned*, hid_t, void*) -> herr_t {
        return -1;
      },
      nullptr);
  return properties;
}

// Copies of at most this many bytes are made when rows are picked or a layout changes.
constexpr int64_t kSlabBytes = 64 << 20;
// Data sets from this size on are checked when they are read, not when their file is opened.
constexpr int64_t kLargeBytes = 1 << 20;

}  // namespace

// ----------------------------------------------------------------------------------------------------------
// writing

namespace {

// libhdf5 does not survive a full disk: once a flush has failed the file can neither be flushed again nor
// closed, and the program crashes or prints when it ends. Hence reserve() before every step, so that
// libhdf5's own writes find their space; where the file system cannot reserve, send_writes_to_memory() gets
// most failures over.

int descriptor_of(hid_t file) {
  void* descriptor = nullptr;
  return H5Fget_vfd_handle(file, H5P_DEFAULT, &descriptor) < 0 ? -1 : *static_cast<int*>(descriptor);
}

// Room for libhdf5's own records about one data set or attribute, and for closing the file.
constexpr int64_t kSlackBytes = 64 << 10;

// Makes sure that `bytes` more, and libhdf5's own records, fit on the disk. Returns 0 or the reason (errno).
int reserve(hid_t file, int64_t bytes) {
  hsize_t size = 0;
  const int descriptor = descriptor_of(file);
  if (descriptor < 0 || H5Fget_filesize(file, &size) < 0) return 0;
  const off_t end = static_cast<off_t>(size) + bytes + kSlackBytes;
  if (::fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, end) == 0) return 0;
  return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? errno : 0;
}

// Lets libhdf5 write what it still holds of a given-up file into memory instead of the disk, so that it can
// close it.
void send_writes_to_memory(hid_t file) {
  const int descriptor = descriptor_of(file);
  const int memory = ::memfd_create("seigh-abandoned", MFD_CLOEXEC);
  if (descriptor >= 0 && memory >= 0) ::dup2(memory, descriptor);
  if (memory >= 0) ::close(memory);
}

[[noreturn]] void fail_writing(const fs::path& path, const std::string& what, const std::string& why) {
  const bool full = why == std::strerror(ENOSPC) || why == std::strerror(EDQUOT);
  fail_file(path, "cannot write ", path.string(), what.empty() ? "" : ": ", what, ": ", why,
            full ? "; free some space or choose another folder with --out" : "");
}

void require_space(hid_t file, int64_t bytes, const fs::path& path, const std::string& what) {
  if (const int error = reserve(file, bytes); error != 0) fail_writing(path, what, std::strerror(error));
}

// Throws once `ok` is false; the identifiers open at that time close during unwinding, into memory.
void require_written(bool ok, hid_t file, const fs::path& path, const std::string& what) {
  if (ok) return;
  const std::string why = reason();
  send_writes_to_memory(file);
  fail_writing(path, what, why);
}

Handle space_of(at::IntArrayRef shape) {
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  return Handle(sizes.empty() ? H5Screate(H5S_SCALAR)
                              : H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr),
                H5Sclose);
}

}  // namespace

Hdf5Writer::Hdf5Writer(const fs::path& path) : file_(path), handle_(-1) {
  const Quiet quiet;
  // Named, since closing them before reason() has been asked would wipe it.
  const Handle access = access_properties(), creation = untimed(H5P_FILE_CREATE);
  H5Pset_userblock(creation, kSealBytes);
  handle_ = H5Fcreate(file_.temporary().c_str(), H5F_ACC_TRUNC, creation, access);
  if (handle_ < 0) fail_writing(path, "", reason());
  if (const int error = reserve(handle_, 0); error != 0) {
    send_writes_to_memory(handle_);
    H5Fclose(handle_);
    fail_writing(path, "", std::strerror(error));
  }
}

Hdf5Writer::~Hdf5Writer() {
  if (handle_ < 0) return;
  const Quiet quiet;
  H5Fclose(handle_);
}

void Hdf5Writer::write(const std::string& name, const at::Tensor& tensor, Vouched vouched) {
  require_file(file_.path(), tensor.defined(), "cannot write ", file_.path().string(), ": data set '", name,
               "' is undefined");
  create(name, tensor.scalar_type(), tensor.sizes(), vouched);
  if (tensor.dim() == 0) return put(name, {}, tensor);
  if (tensor.numel() == 0) return;
  // By slabs of rows: a block of columns is reordered, or fetched from a GPU, without doubling its memory.
  const int64_t rows = tensor.size(0);
  const int64_t row_bytes = tensor.numel() / rows * static_cast<int64_t>(tensor.element_size());
  const int64_t step = std::max<int64_t>(1, kSlabBytes / row_bytes);
  std::vector<int64_t> start(static_cast<size_t>(tensor.dim()), 0);
  for (int64_t& row = start[0]; row < rows; row += step)
    put(name, start, tensor.narrow(0, row, std::min(step, rows - row)));
}

void Hdf5Writer::create(const std::string& name, at::ScalarType dtype, at::IntArrayRef shape,
                        Vouched vouched) {
  const Quiet quiet;
  require_file(file_.path(), handle_ >= 0, "cannot write ", file_.path().string(),
               ": it was committed already");
  const std::string what = "data set '" + name + "'";
  const hid_t type = native_type(dtype);
  require_file(file_.path(), type >= 0, "cannot write ", file_.path().string(), ": ", what, " is of dtype ",
               c10::toString(dtype),
               "; convert it to float32, float64, complex64, complex128, int32, int64 or uint8");
  int64_t bytes = static_cast<int64_t>(c10::elementSize(dtype));
  for (const int64_t size : shape) bytes *= size;
  require_space(handle_, bytes, file_.path(), what);
  const Handle space = space_of(shape), creation = untimed(H5P_DATASET_CREATE);
  const Handle data(H5Dcreate2(handle_, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT),
                    H5Dclose);
  require_written(data.ok(), handle_, file_.path(), what);
  if (vouched == Vouched::by_caller || (bytes >= kLargeBytes && large_.size() < Seal::kMostParts))
    large_[name] = vouched;
}

void Hdf5Writer::put(const std::string& name, at::IntArrayRef start, const at::Tensor& piece) {
  const Quiet quiet;
  require_file(file_.path(), handle_ >= 0, "cannot write ", file_.path().string(),
               ": it was committed already");
  if (piece.numel() == 0) return;
  const std::string what = "data set '" + name + "'";
  const at::Tensor numbers = piece.cpu().resolve_conj().contiguous();
  const Handle data(H5Dopen2(handle_, name.c_str(), H5P_DEFAULT), H5Dclose);
  require_written(data.ok(), handle_, file_.path(), what);
  const Handle space(H5Dget_space(data), H5Sclose), memory = space_of(numbers.sizes());
  const std::vector<hsize_t> from(start.begin(), start.end()),
      count(numbers.sizes().begin(), numbers.sizes().end());
  const bool ok =
      (count.empty() ||
       H5Sselect_hyperslab(space, H5S_SELECT_SET, from.data(), nullptr, count.data(), nullptr) >= 0) &&
      H5Dwrite(data, native_type(numbers.scalar_type()), memory, space, H5P_DEFAULT, numbers.data_ptr()) >= 0;
  require_written(ok, handle_, file_.path(), what);
}

void Hdf5Writer::attribute(const std::string& name, const Hdf5Attribute& value) {
  const Quiet quiet;
  require_file(file_.path(), handle_ >= 0, "cannot write ", file_.path().string(),
               ": it was committed already");
  const std::string what = "attribute '" + name + "'";
  const auto* words = std::get_if<std::string>(&value);
  require_space(handle_, words != nullptr ? static_cast<int64_t>(words->size()) : 0, file_.path(), what);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const auto put = [&](hid_t type, const void* bytes) {
    const Handle attribute(H5Acreate2(handle_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT),
                           H5Aclose);
    require_written(attribute.ok() && H5Awrite(attribute, type, bytes) >= 0, handle_, file_.path(), what);
  };
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    put(H5T_NATIVE_INT64, integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    put(H5T_NATIVE_DOUBLE, real);
  } else {
    // Of fixed length: strings of variable length lie in a heap whose damage libhdf5 does not survive.
    require_file(file_.path(), words->find('\0') == std::string::npos, "cannot write ", file_.path().string(),
                 ": ", what, " contains a zero byte");
    const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type, std::max<size_t>(1, words->size()));
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    put(type, words->c_str());
  }
}

// Where the data sets lie that have parts of the seal to themselves; none where nothing was put into one.
Seal Hdf5Writer::parts() const {
  Seal seal;
  for (const auto& [name, vouched] : large_) {
    const Handle data(H5Dopen2(handle_, name.c_str(), H5P_DEFAULT), H5Dclose);
    const haddr_t offset = H5Dget_offset(data);
    const auto bytes = static_cast<int64_t>(H5Dget_storage_size(data));
    if (offset == HADDR_UNDEF || bytes == 0) continue;
    Seal::Part part{static_cast<int64_t>(offset), bytes, {}};
    if (vouched == Vouched::by_seal) part.sum = 0;
    seal.parts.push_back(part);
  }
  return seal;
}

void Hdf5Writer::commit() {
  const Quiet quiet;
  require_file(file_.path(), handle_ >= 0, "cannot write ", file_.path().string(),
               ": it was committed already");
  // Flushed first: of a failed flush libhdf5 gives the reason.
  require_written(H5Fflush(handle_, H5F_SCOPE_GLOBAL) >= 0, handle_, file_.path(), "end of file");
  const Seal seal = parts();
  const herr_t closed = H5Fclose(handle_);
  const std::string why = closed < 0 ? reason() : "";
  handle_ = -1;
  if (closed < 0) fail_writing(file_.path(), "end of file", why);
  // Truncating a file to its own size gives back what was reserved beyond its end.
  std::error_code ignored;
  const auto size = fs::file_size(file_.temporary(), ignored);
  if (!ignored) fs::resize_file(file_.temporary(), size, ignored);
  write_seal(file_.temporary(), seal);
  file_.commit();
}

// ----------------------------------------------------------------------------------------------------------
// reading

namespace {

// One open data set: what the members of Hdf5Reader share.
class DataSet {
 public:
  DataSet(hid_t file, const fs::path& path, const std::string& name)
      : where_(path.string() + ": data set '" + name + "'"),
        id_(H5Dopen2(file, name.c_str(), data_set_access()), H5Dclose),
        // Before its space is asked for, which opens the files of a virtual one.
        here_(id_.ok() && lies_here(id_)),
        space_(here_ ? H5Dget_space(id_) : -1, H5Sclose),
        type_(here_ ? H5Dget_type(id_) : -1, H5Tclose) {
    require(!id_.ok() || here_, where_, " lies in other files, which are not followed; copy it into one");
    require(id_.ok() && space_.ok() && type_.ok(), where_, " is missing, damaged or in another file");
    require(H5Sget_simple_extent_type(space_) != H5S_NULL, where_, " is empty");
    std::vector<hsize_t> sizes(static_cast<size_t>(std::max(0, H5Sget_simple_extent_ndims(space_))));
    if (!sizes.empty()) H5Sget_simple_extent_dims(space_, sizes.data(), nullptr);
    shape_.assign(sizes.begin(), sizes.end());
  }

  const std::vector<int64_t>& shape() const { return shape_; }
  const std::string& where() const { return where_; }
  hid_t id() const { return id_; }
  bool in_one_piece(at::ScalarType as) const {
    return H5Tequal(type_, native_type(as)) > 0 && H5Dget_offset(id_) != HADDR_UNDEF;
  }

  // The dtype it is read as.
  at::ScalarType dtype() const {
    const H5T_class_t kind = H5Tget_class(type_);
    if (kind == H5T_FLOAT) return H5Tequal(type_, H5T_IEEE_F32LE) > 0 ? at::kFloat : at::kDouble;
    if (kind == H5T_COMPOUND && is_complex())
      return H5Tequal(type_, native_type(at::kComplexFloat)) > 0 ? at::kComplexFloat : at::kComplexDouble;
    require(kind == H5T_INTEGER, where_, " holds neither integers nor floating-point numbers; store those",
            kind == H5T_ENUM ? " (booleans as uint8)" : "");
    if (H5Tequal(type_, H5T_STD_I32LE) > 0) return at::kInt;
    return H5Tget_size(type_) == 1 && H5Tget_sign(type_) == H5T_SGN_NONE ? at::kByte : at::kLong;
  }

  at::Tensor empty(const std::vector<int64_t>& shape) const { return empty_for(where_, shape, dtype()); }

  // Everything, into a contiguous tensor of its shape.
  void read(at::Tensor& into) const {
    if (into.numel() == 0) return;
    require(
        H5Dread(id_, native_type(into.scalar_type()), H5S_ALL, H5S_ALL, H5P_DEFAULT, into.data_ptr()) >= 0,
        where_, " cannot be read: ", reason());
  }

  // Rows begin .. begin + into.size(0) of a data set of rank 2.
  void read_slab(int64_t begin, at::Tensor& into) const {
    const hsize_t start[2] = {static_cast<hsize_t>(begin), 0};
    const hsize_t count[2] = {static_cast<hsize_t>(into.size(0)), static_cast<hsize_t>(into.size(1))};
    const Handle memory(H5Screate_simple(2, count, nullptr), H5Sclose);
    require(
        H5Sselect_hyperslab(space_, H5S_SELECT_SET, start, nullptr, count, nullptr) >= 0 &&
            H5Dread(id_, native_type(into.scalar_type()), memory, space_, H5P_DEFAULT, into.data_ptr()) >= 0,
        where_, " cannot be read: ", reason());
  }

 private:
  static bool lies_here(hid_t id) {
    const Handle creation(H5Dget_create_plist(id), H5Pclose);
    return H5Pget_layout(creation) != H5D_VIRTUAL && H5Pget_external_count(creation) == 0;
  }

  // A compound of the two floating-point numbers r and i.
  bool is_complex() const {
    if (H5Tget_nmembers(type_) != 2) return false;
    for (const char* part : {"r", "i"}) {
      const int index = H5Tget_member_index(type_, part);
      if (index < 0 || H5Tget_member_class(type_, static_cast<unsigned>(index)) != H5T_FLOAT) return false;
    }
    return true;
  }

  std::string where_;
  Handle id_;
  bool here_;
  Handle space_, type_;
  std::vector<int64_t> shape_;
};

bool is_data_set(hid_t file, const std::string& name) {
  const Handle access = data_set_access();
  return Handle(H5Dopen2(file, name.c_str(), access), H5Dclose).ok();
}

}  // namespace

Hdf5Reader::Hdf5Reader(const fs::path& path, Maker maker) : path_(path), handle_(-1) {
  const Quiet quiet;
  std::error_code error;
  const auto status = fs::status(path, error);
  require_file(path, fs::exists(status), "cannot read ", path.string(), ": no such file");
  require_file(path, !fs::is_directory(status), "cannot read ", path.string(), ": it is a folder");
  require_file(path, fs::is_regular_file(status), "cannot read ", path.string(), ": it is no file");
  seal_ = checked_seal(path);
  require_file(
      path, seal_ || maker == Maker::anybody, path.string(),
      " has no checksum of seigh's: it is damaged, changed by another program or of an earlier version");
  const Handle access = access_properties();
  handle_ = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
  if (handle_ >= 0) return;
  const std::string why = reason();
  fail_file(path, "cannot read ", path.string(), ": ",
            why.find("signature") != std::string::npos ? "not an HDF5 file" : why);
}

Hdf5Reader::~Hdf5Reader() {
  const Quiet quiet;
  H5Fclose(handle_);
}

std::vector<std::string> Hdf5Reader::names() const {
  const Quiet quiet;
  std::vector<std::string> links, names;
  const herr_t status = H5Literate(
      handle_, H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5L_info_t*, void* data) -> herr_t {
        static_cast<std::vector<std::string>*>(data)->emplace_back(name);
        return 0;
      },
      &links);
  require(status >= 0, path_.string(), ": its list of data sets cannot be read: ", reason());
  for (const std::string& name : links)
    if (is_data_set(handle_, name)) names.push_back(name);
  return names;
}

bool Hdf5Reader::has(const std::string& name) const {
  const Quiet quiet;
  return is_data_set(handle_, name);
}

std::vector<int64_t> Hdf5Reader::shape(const std::string& name) const {
  const Quiet quiet;
  return DataSet(handle_, path_, name).shape();
}

at::ScalarType Hdf5Reader::dtype(const std::string& name) const {
  const Quiet quiet;
  return DataSet(handle_, path_, name).dtype();
}

// The part of the seal that begins at `offset`.
const Seal::Part* Hdf5Reader::part_at(int64_t offset) const {
  if (!seal_) return nullptr;
  for (const Seal::Part& part : seal_->parts)
    if (part.offset == offset) return &part;
  return nullptr;
}

bool Hdf5Reader::in_one_piece(const std::string& name, at::ScalarType dtype) const {
  const Quiet quiet;
  return DataSet(handle_, path_, name).in_one_piece(dtype);
}

int64_t Hdf5Reader::offset(const std::string& name, at::ScalarType dtype) const {
  const Quiet quiet;
  const DataSet data(handle_, path_, name);
  require(data.in_one_piece(dtype), data.where(), " is not stored in one piece of ", c10::toString(dtype),
          " numbers");
  const auto begin = static_cast<int64_t>(H5Dget_offset(data.id()));
  if (const Seal::Part* const part = part_at(begin)) check_part(path_, *part);
  return begin;
}

at::Tensor Hdf5Reader::read(const std::string& name) const {
  const Quiet quiet;
  const DataSet data(handle_, path_, name);
  at::Tensor tensor = data.empty(data.shape());
  data.read(tensor);
  if (const Seal::Part* const part = part_at(static_cast<int64_t>(H5Dget_offset(data.id())))) {
    // In one piece, what is in memory now are the bytes of the file.
    if (!data.in_one_piece(tensor.scalar_type())) {
      check_part(path_, *part);
    } else if (part->sum) {
      require_file(path_, *part->sum == crc64(tensor.data_ptr(), tensor.nbytes()), path_.string(),
                   " is damaged: the checksum does not match what was written");
    }
  }
  return tensor;
}

at::Tensor Hdf5Reader::read_rows(const std::string& name, const at::Tensor& rows) const {
  const Quiet quiet;
  const DataSet data(handle_, path_, name);
  require(data.shape().size() == 2, data.where(), " has rank ", data.shape().size(),
          ", not 2: it has no rows to pick");
  require(rows.dim() == 1 && rows.scalar_type() == at::kLong, data.where(), ": rows must be int64 of rank 1");
  const at::Tensor wanted_tensor = rows.cpu().contiguous();
  const int64_t* wanted = wanted_tensor.data_ptr<int64_t>();
  const int64_t count = rows.numel(), height = data.shape()[0], width = data.shape()[1];
  for (int64_t i = 0; i < count; ++i)
    require(wanted[i] >= 0 && wanted[i] < height, data.where(), ": row ", wanted[i], " is not among its ",
            height, " rows");

  at::Tensor result = data.empty({count, width});
  if (result.numel() == 0) return result;
  if (const Seal::Part* const part = part_at(static_cast<int64_t>(H5Dget_offset(data.id()))))
    check_part(path_, *part);
  // In file order, and in few reads: rows closer than 64 KiB come in one slab, since skipping costs more than
  // reading.
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return wanted[a] < wanted[b]; });
  const int64_t row_bytes = width * static_cast<int64_t>(result.element_size());
  const int64_t max_gap = std::max<int64_t>(1, (64 << 10) / row_bytes);
  const int64_t max_rows = std::max<int64_t>(1, kSlabBytes / row_bytes);
  for (size_t first = 0, last = 0; first < order.size(); first = last) {
    const int64_t begin = wanted[order[first]];
    int64_t end = begin;  // last row of the slab
    for (last = first; last < order.size(); ++last) {
      const int64_t row = wanted[order[last]];
      if (row - end > max_gap || row - begin >= max_rows) break;
      end = row;
    }
    at::Tensor slab = data.empty({end - begin + 1, width});
    data.read_slab(begin, slab);
    const char* from = static_cast<const char*>(slab.data_ptr());
    char* to = static_cast<char*>(result.data_ptr());
    for (size_t i = first; i < last; ++i)
      std::memcpy(to + order[i] * row_bytes, from + (wanted[order[i]] - begin) * row_bytes,
                  static_cast<size_t>(row_bytes));
  }
  return result;
}

std::map<std::string, Hdf5Attribute> Hdf5Reader::attributes() const {
  if (!seal_) return {};
  const Quiet quiet;
  std::vector<std::string> names;
  const herr_t status = H5Aiterate2(
      handle_, H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5A_info_t*, void* data) -> herr_t {
        static_cast<std::vector<std::string>*>(data)->emplace_back(name);
        return 0;
      },
      &names);
  require(status >= 0, path_.string(), ": its list of attributes cannot be read: ", reason());

  std::map<std::string, Hdf5Attribute> result;
  for (const std::string& name : names) {
    const std::string where = path_.string() + ": attribute '" + name + "' ";
    const Handle attribute(H5Aopen(handle_, name.c_str(), H5P_DEFAULT), H5Aclose);
    require(attribute.ok(), where, "cannot be read: ", reason());
    const Handle type(H5Aget_type(attribute), H5Tclose), space(H5Aget_space(attribute), H5Sclose);
    if (H5Sget_simple_extent_npoints(space) != 1) continue;
    const auto get = [&](hid_t as, void* into) {
      require(H5Aread(attribute, as, into) >= 0, where, "cannot be read: ", reason());
    };
    switch (H5Tget_class(type)) {
      case H5T_INTEGER: {
        int64_t value = 0;
        get(H5T_NATIVE_INT64, &value);
        result[name] = value;
        break;
      }
      case H5T_FLOAT: {
        double value = 0;
        get(H5T_NATIVE_DOUBLE, &value);
        result[name] = value;
        break;
      }
      case H5T_STRING: {
        if (H5Tis_variable_str(type) > 0) break;
        std::string text(H5Tget_size(type), '\0');
        get(type, text.data());
        text.resize(std::min(text.find('\0'), text.size()));
        result[name] = text;
        break;
      }
      default:
        break;
    }
  }
  return result;
}

}  // namespace seigh
