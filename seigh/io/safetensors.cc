#include "seigh/io/safetensors.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>
#include <unordered_set>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/io/crc64.h"
#include "seigh/io/file.h"
#include "seigh/io/limits.h"

namespace seigh {
namespace {

using Json = nlohmann::json;

struct DType {
  const char* name;
  at::ScalarType type;
};
constexpr DType kDTypes[] = {
    {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16},
    {"I64", at::kLong},   {"I32", at::kInt},   {"U8", at::kByte},
};
// The reference reader refuses longer headers too.
constexpr uint64_t kMaxHeader = 100'000'000;
constexpr const char* kMetadata = "__metadata__";

// What the header says about one tensor.
struct Entry {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape = {};
  uint64_t begin = 0, end = 0;
};

// What a file says before its data.
struct Header {
  explicit Header(const fs::path& file, Maker maker);
  std::ifstream in;  // at the beginning of the data
  uint64_t data_size = 0;
  std::string data_sum;  // empty: none
  std::map<std::string, std::string> metadata;
  std::vector<Entry> tensors;
};

// Takes the header in as it is read, so that what is nested, or not asked for, takes neither stack nor
// memory.
class HeaderReader {
 public:
  HeaderReader(const std::string& path, Header& header) : path_(path), header_(header) {}

  bool ended() const { return begun_ && depth_ == 0; }

  bool null() { return other("null"); }
  bool boolean(bool value) { return other(value ? "true" : "false"); }
  bool number_integer(int64_t value) { return other(std::to_string(value)); }
  bool number_unsigned(uint64_t value) {
    if (list_ == nullptr) return other(std::to_string(value));
    list_->push_back(value);
    return true;
  }
  bool number_float(double, const std::string& text) { return other(text); }
  bool string(std::string& value) {
    if (depth_ == 2 && metadata_) {
      header_.metadata[key_] = std::move(value);
    } else if (depth_ == 2 && key_ == "dtype") {
      set_dtype(value);
    } else {
      return other('"' + value + '"');
    }
    return true;
  }
  bool binary(std::vector<uint8_t>&) { return false; }

  bool start_object(size_t) {
    if (++depth_ == 1) return begun_ = true;
    if (depth_ > 2) refuse_nested();
    metadata_ = key_ == kMetadata;
    if (metadata_) return true;
    entry_ = {key_};
    has_dtype_ = false;
    shape_.reset();
    offsets_.reset();
    return true;
  }
  bool end_object() {
    if (depth_-- == 2 && !metadata_) finish_entry();
    return true;
  }
  bool start_array(size_t) {
    if (depth_ == 0) return false;  // the header itself
    ++depth_;
    if (depth_ == 2) not_an_object();
    if (depth_ > 3 || metadata_ || (key_ != "shape" && key_ != "data_offsets")) refuse_nested();
    std::optional<std::vector<uint64_t>>& list = key_ == "shape" ? shape_ : offsets_;
    list.emplace();
    list_ = &*list;
    return true;
  }
  bool end_array() {
    --depth_;
    list_ = nullptr;
    return true;
  }
  bool key(std::string& name) {
    if (depth_ == 1)
      require(names_.insert(name).second, path_, ": damaged safetensors header (it names '", shortened(name),
              "' twice)");
    key_ = std::move(name);
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) { return false; }

 private:
  std::string where() const { return path_ + ": tensor '" + shortened(entry_.name) + "': "; }

  [[noreturn]] void refuse_nested() const {
    if (metadata_)
      fail(path_, ": damaged safetensors header (__metadata__ '", shortened(key_), "' is not a string)");
    if (key_ == "dtype") refuse_dtype("of several values");
    fail(where(), "its ", shortened(key_), " holds what is no number");
  }
  [[noreturn]] void not_an_object() const {
    if (key_ == kMetadata) fail(path_, ": damaged safetensors header (__metadata__ is not an object)");
    fail(path_, ": tensor '", shortened(key_), "': the header lacks its dtype, shape or data_offsets");
  }
  [[noreturn]] void refuse_dtype(const std::string& dtype) const {
    fail(where(), "dtype ", dtype, " cannot be read; F64, F32, F16, BF16, I64, I32 and U8 can");
  }

  // A value where it does not belong, or that nobody asks for.
  bool other(const std::string& value) {
    if (depth_ == 0) return false;
    if (depth_ == 1) not_an_object();
    if (metadata_) refuse_nested();
    if (list_ != nullptr)
      fail(where(), key_ == "shape" ? "sizes" : "data_offsets", " must be non-negative integers, not ",
           shortened(value));
    if (key_ == "dtype") refuse_dtype(shortened(value));
    require(key_ != "shape", where(), "its shape is not a list");
    require(key_ != "data_offsets", where(), "data_offsets is not a pair");
    return true;
  }

  void set_dtype(const std::string& name) {
    const auto* known =
        std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](const DType& d) { return name == d.name; });
    if (known == std::end(kDTypes)) refuse_dtype('"' + shortened(name) + '"');
    entry_.dtype = known->type;
    has_dtype_ = true;
  }

  void finish_entry() {
    require(has_dtype_ && shape_ && offsets_, where(), "the header lacks its dtype, shape or data_offsets");
    // `bound` multiplies zero sizes as ones: strides of [0, huge] must not overflow either.
    int64_t bytes = static_cast<int64_t>(c10::elementSize(entry_.dtype)), bound = bytes;
    for (const uint64_t size : *shape_) {
      require(!__builtin_mul_overflow(bound, size > 0 ? size : uint64_t{1}, &bound), where(),
              "its shape is too large");
      entry_.shape.push_back(static_cast<int64_t>(size));
      bytes *= static_cast<int64_t>(size);
    }
    require(offsets_->size() == 2, where(), "data_offsets is not a pair");
    entry_.begin = (*offsets_)[0];
    entry_.end = (*offsets_)[1];
    require(entry_.begin <= entry_.end && entry_.end - entry_.begin == static_cast<uint64_t>(bytes), where(),
            "data_offsets [", entry_.begin, ",", entry_.end, "] do not fit its shape, which needs ", bytes,
            " bytes");
    header_.tensors.push_back(std::move(entry_));
  }

  const std::string& path_;
  Header& header_;
  int64_t depth_ = 0;
  bool begun_ = false, metadata_ = false, has_dtype_ = false;
  std::string key_;  // of the object we are in
  Entry entry_;
  std::optional<std::vector<uint64_t>> shape_, offsets_;
  std::vector<uint64_t>* list_ = nullptr;  // that we are in
  std::unordered_set<std::string> names_;
};

// The seal of a file that seigh wrote: CRC-64 of the header, with zeros in its own place, and of the data. It
// stands first in the header.
constexpr std::string_view kSeal = R"({"__metadata__":{"seal":")";
constexpr size_t kDigits = 16;

bool has_seal(std::string_view header) {
  return header.starts_with(kSeal) && header.size() >= kSeal.size() + 2 * kDigits;
}

std::string header_sum(std::string header) {
  header.replace(kSeal.size(), kDigits, kDigits, '0');
  return hexadecimal(crc64(header));
}

[[noreturn]] void fail_damaged(const fs::path& path) {
  fail_file(path, path.string(), " is damaged: the checksum does not match what was written");
}

Header::Header(const fs::path& file, Maker maker) {
  const std::string path = file.string();
  std::error_code error;
  const auto status = fs::status(file, error);
  require(!fs::is_directory(status), "cannot read ", path, ": it is a folder");
  require(!fs::exists(status) || fs::is_regular_file(status), "cannot read ", path, ": it is no file");
  errno = 0;
  in.open(file, std::ios::binary);
  require(in.is_open(), "cannot read ", path, ": ", std::strerror(errno));
  in.seekg(0, std::ios::end);
  const uint64_t file_size = static_cast<uint64_t>(in.tellg());
  in.seekg(0);

  uint64_t length = 0;
  require(file_size >= sizeof length, path, ": truncated (", file_size, " bytes); copy it again");
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  require(in.good(), "cannot read ", path, ": input error");
  require(length <= kMaxHeader, path, ": not a safetensors file (header length ", length, ")");
  require(length <= file_size - sizeof length, path, ": truncated, or not a safetensors file (header length ",
          length, ", file of ", file_size, " bytes)");
  // And what is made of it: an entry of 60 characters takes some 300 bytes.
  require_room(path + ": its header", static_cast<int64_t>(length) * 6);
  data_size = file_size - sizeof length - length;
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  require(in.good() && text.starts_with('{'), path, ": not a safetensors file (its header is not JSON)");
  if (has_seal(text)) {
    const std::string_view seal = std::string_view(text).substr(kSeal.size());
    data_sum = seal.substr(kDigits, kDigits);
    if (header_sum(text) != seal.substr(0, kDigits)) fail_damaged(file);
  }
  require_file(
      path, !data_sum.empty() || maker == Maker::anybody, path,
      " has no checksum of seigh's: it is damaged, changed by another program or of an earlier version");
  HeaderReader reader(path, *this);
  const bool whole = Json::sax_parse(text, &reader);
  require(whole && reader.ended(), path, ": damaged safetensors header (not a JSON object)");
  metadata.erase("seal");
}

}  // namespace

const at::Tensor* NamedTensors::find(const std::string& name) const {
  for (const auto& [key, tensor] : tensors)
    if (key == name) return &tensor;
  return nullptr;
}

std::unordered_map<std::string, const at::Tensor*> NamedTensors::by_name() const {
  std::unordered_map<std::string, const at::Tensor*> all;
  for (const auto& [name, tensor] : tensors) all.emplace(name, &tensor);
  return all;
}

void write_safetensors(const fs::path& path, const NamedTensors& content) {
  // Zeros for the checksums, until they are known.
  std::string text(kSeal);
  text += std::string(2 * kDigits, '0') + "\"";
  uint64_t offset = 0, sum = 0;
  std::unordered_set<std::string> names{kMetadata};
  try {
    for (const auto& [key, value] : content.metadata)
      if (key != "seal") text += "," + Json(key).dump() + ":" + Json(value).dump();
    text += "}";
    for (const auto& [name, tensor] : content.tensors) {
      const std::string where = "cannot write " + path.string() + ": tensor '" + name + "' ";
      require(names.insert(name).second, where, "has a name taken already");
      require(tensor.defined(), where, "is undefined");
      const auto* dtype =
          std::find_if(std::begin(kDTypes), std::end(kDTypes),
                       [&, &t = tensor](const DType& d) { return d.type == t.scalar_type(); });
      require(dtype != std::end(kDTypes), where, "is of dtype ", c10::toString(tensor.scalar_type()),
              "; convert it to float32, float64, int32, int64 or uint8");
      const uint64_t end = offset + static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
      text += "," + Json(name).dump() + ":" +
              Json{{"dtype", dtype->name}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, end}}}
                  .dump();
      offset = end;
    }
  } catch (const nlohmann::json::exception&) {
    fail("cannot write ", path.string(), ": a name or metadata value is not UTF-8");
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8,
              ' ');  // data start at a multiple of 8, so float64 can be mapped in place
  require(text.size() <= kMaxHeader, "cannot write ", path.string(), ": its header of ", text.size(),
          " bytes is longer than safetensors readers accept (", kMaxHeader, ")");

  AtomicFile file(path);
  errno = 0;
  std::ofstream out(file.temporary(), std::ios::binary);
  const uint64_t length = text.size();
  out.seekp(static_cast<std::streamoff>(sizeof length + length));
  for (const auto& [name, tensor] : content.tensors) {
    const at::Tensor dense = tensor.cpu().contiguous();
    sum = crc64(dense.data_ptr(), dense.nbytes(), sum);
    out.write(static_cast<const char*>(dense.data_ptr()), static_cast<std::streamsize>(dense.nbytes()));
    if (!out) break;
  }
  text.replace(kSeal.size() + kDigits, kDigits, hexadecimal(sum));
  text.replace(kSeal.size(), kDigits, header_sum(text));
  out.seekp(0);
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  require(out.good(), "cannot write ", path.string(), ": ",
          errno != 0 ? std::strerror(errno) : "output error",
          "; free some space or choose another folder with --out");
  file.commit();
}

std::map<std::string, std::string> read_safetensors_metadata(const fs::path& path, Maker maker) {
  return Header(path, maker).metadata;
}

NamedTensors read_safetensors(const fs::path& file, Maker maker) {
  const std::string path = file.string();
  Header header(file, maker);
  NamedTensors content;
  content.metadata = std::move(header.metadata);
  std::vector<Entry>& entries = header.tensors;
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });

  // The tensors must tile the data exactly: no holes, no overlaps, nothing after the last.
  const uint64_t data_size = header.data_size;
  uint64_t position = 0;
  for (const Entry& entry : entries) {
    require(entry.begin == position, path, ": tensor '", shortened(entry.name), "' begins at ", entry.begin,
            " but the one before ends at ", position, entry.begin < position ? " (overlap)" : " (hole)");
    require(entry.end <= data_size, path, ": truncated: tensor '", shortened(entry.name), "' ends at byte ",
            entry.end, " of the data but only ", data_size, " are there");
    position = entry.end;
  }
  require(position == data_size, path, ": damaged: the tensors end at byte ", position, " of the data but ",
          data_size, " are there");

  uint64_t sum = 0;
  for (const Entry& entry : entries) {
    const at::Tensor tensor =
        empty_for(path + ": tensor '" + shortened(entry.name) + "'", entry.shape, entry.dtype);
    if (entry.end > entry.begin)
      header.in.read(static_cast<char*>(tensor.data_ptr()),
                     static_cast<std::streamsize>(entry.end - entry.begin));
    require(header.in.good(), "cannot read ", path, ": input error");
    sum = crc64(tensor.data_ptr(), tensor.nbytes(), sum);
    content.tensors.emplace_back(entry.name, tensor);
  }
  if (!header.data_sum.empty() && hexadecimal(sum) != header.data_sum) fail_damaged(file);
  return content;
}

}  // namespace seigh
