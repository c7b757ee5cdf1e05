// HDF5 files as seigh uses them: data sets in the root group and attributes on the root, by libhdf5's C
// interface. libhdf5 need not be thread-safe: use these classes from one thread at a time.
//
// libhdf5 crashes, or never ends, on some files with a wrong bit. So what seigh writes carries a seal
// (seal.h), which is checked before libhdf5 opens it. Of files that others have made only data sets of
// numbers are read: no attributes, nothing of variable length, and nothing that lies in another file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/io/file.h"
#include "seigh/io/seal.h"

namespace seigh {

using Hdf5Attribute = std::variant<int64_t, double, std::string>;

/// Who vouches for the numbers of a data set that is written: the file's seal or, where they are many and
/// read by whoever knows how, checksums that the caller keeps in a data set beside it.
enum class Vouched { by_seal, by_caller };

/// Writes one HDF5 file, completely or not at all: nothing is at `path` before commit(). After an Error the
/// writer can only be destroyed.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(const fs::path& path);
  ~Hdf5Writer();
  /// A data set of any rank, dtype float16, bfloat16, float32, float64, complex64, complex128 (as h5py does:
  /// compounds of r and i), int32, int64 or uint8, any layout (stored in C order).
  void write(const std::string& name, const at::Tensor& tensor, Vouched vouched = Vouched::by_seal);
  /// A data set that is filled in by put().
  void create(const std::string& name, at::ScalarType dtype, at::IntArrayRef shape,
              Vouched vouched = Vouched::by_seal);
  /// Its entries from index `start` on: `piece`, of its dtype and rank.
  void put(const std::string& name, at::IntArrayRef start, const at::Tensor& piece);
  /// An attribute of the root group: int64, float64 or UTF-8 string (without zero bytes) of fixed length.
  void attribute(const std::string& name, const Hdf5Attribute& value);
  /// Closes, seals and publishes the file. Throws Error (a full disk, say), leaving `path` as it was.
  void commit();

 private:
  Seal parts() const;
  AtomicFile file_;
  std::map<std::string, Vouched> large_;  // data sets that have a part of the seal to themselves
  int64_t handle_;
};

/// Reads an HDF5 file. Every member throws Error naming the file and the data set when something is missing
/// or damaged, or asks for more than there is room for (limits.h).
class Hdf5Reader {
 public:
  /// A seal is checked wherever there is one. Throws FileError when it does not match, or when there is none
  /// in a file that seigh must have made.
  explicit Hdf5Reader(const fs::path& path, Maker maker = Maker::anybody);
  ~Hdf5Reader();
  Hdf5Reader(const Hdf5Reader&) = delete;
  Hdf5Reader& operator=(const Hdf5Reader&) = delete;

  /// Names of the data sets in the root group, in name order.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const;
  std::vector<int64_t> shape(const std::string& name) const;
  /// The dtype that read() gives a data set.
  at::ScalarType dtype(const std::string& name) const;
  /// Whether the numbers of a data set are stored one after the other in C order as this machine holds
  /// `dtype`, as Hdf5Writer does; not so where they are chunked, compressed or of another type.
  bool in_one_piece(const std::string& name, at::ScalarType dtype) const;
  /// Where in the file they then begin, once their checksum has been found right (but for those vouched for
  /// by the caller); Error where they are not.
  int64_t offset(const std::string& name, at::ScalarType dtype) const;
  /// A data set ("group/name" reaches into groups) as a contiguous CPU tensor; floating point of other widths
  /// or byte orders is converted to float64, compounds r, i of them to complex128, integers to int64.
  at::Tensor read(const std::string& name) const;
  /// Rows `rows` (int64 [n], any order, repeats allowed) of a data set of rank 2: [n, columns].
  at::Tensor read_rows(const std::string& name, const at::Tensor& rows) const;
  /// The attributes of the root group that are one number or one string of fixed length; others are left out.
  /// None of a file without a seal.
  std::map<std::string, Hdf5Attribute> attributes() const;
  /// Whether the file carries seigh's seal.
  bool sealed() const { return seal_.has_value(); }

 private:
  const Seal::Part* part_at(int64_t offset) const;
  fs::path path_;
  std::optional<Seal> seal_;
  int64_t handle_;
};

}  // namespace seigh
