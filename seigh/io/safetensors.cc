#include "seigh/io/safetensors.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "seigh/core/error.h"
#include "seigh/io/file.h"

namespace seigh {
namespace {

using Json = nlohmann::ordered_json;

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
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

// Looks up one unsigned number of the header; JSON has -1, 1.5 and 1e3 as well.
uint64_t unsigned_number(const Json& value, const std::string& where, const char* what) {
  require(value.is_number_unsigned(), where, what, " must be non-negative integers, not ", value.dump());
  return value.get<uint64_t>();
}

Entry parse_entry(const std::string& name, const Json& json, const std::string& path) {
  const std::string where = path + ": tensor '" + name + "': ";
  require(
      json.is_object() && json.contains("dtype") && json.contains("shape") && json.contains("data_offsets"),
      where, "the header lacks its dtype, shape or data_offsets");
  Entry entry{name, at::kFloat, {}, 0, 0};
  const Json& dtype = json["dtype"];
  const auto* known = std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](const DType& d) {
    return dtype.is_string() && dtype.get_ref<const std::string&>() == d.name;
  });
  require(known != std::end(kDTypes), where, "dtype ", dtype.dump(),
          " cannot be read; F64, F32, F16, BF16, I64, I32 and U8 can");
  entry.dtype = known->type;

  require(json["shape"].is_array(), where, "its shape is not a list");
  // `bound` multiplies zero sizes as ones: strides of [0, huge] must not overflow either.
  int64_t bytes = static_cast<int64_t>(c10::elementSize(entry.dtype)), bound = bytes;
  for (const Json& value : json["shape"]) {
    const uint64_t size = unsigned_number(value, where, "sizes");
    require(!__builtin_mul_overflow(bound, size > 0 ? size : uint64_t{1}, &bound), where,
            "its shape is too large");
    entry.shape.push_back(static_cast<int64_t>(size));
    bytes *= static_cast<int64_t>(size);
  }
  const Json& offsets = json["data_offsets"];
  require(offsets.is_array() && offsets.size() == 2, where, "data_offsets is not a pair");
  entry.begin = unsigned_number(offsets[0], where, "data_offsets");
  entry.end = unsigned_number(offsets[1], where, "data_offsets");
  require(entry.begin <= entry.end && entry.end - entry.begin == static_cast<uint64_t>(bytes), where,
          "data_offsets ", offsets.dump(), " do not fit its shape, which needs ", bytes, " bytes");
  return entry;
}

// What a file says before its data.
struct Header {
  explicit Header(const fs::path& file);
  std::ifstream in;  // at the beginning of the data
  uint64_t data_size = 0;
  std::map<std::string, std::string> metadata;
  std::vector<std::pair<std::string, Json>> tensors;
};

Header::Header(const fs::path& file) {
  const std::string path = file.string();
  std::error_code error;
  const auto status = fs::status(file, error);
  require(!fs::is_directory(status), "cannot read ", path, ": it is a folder");
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
  data_size = file_size - sizeof length - length;
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  require(in.good() && text.starts_with('{'), path, ": not a safetensors file (its header is not JSON)");
  const Json header = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  require(header.is_object(), path, ": damaged safetensors header (not a JSON object)");
  for (const auto& [name, value] : header.items()) {
    if (name != kMetadata) {
      tensors.emplace_back(name, value);
      continue;
    }
    require(value.is_object(), path, ": damaged safetensors header (__metadata__ is not an object)");
    for (const auto& [key, word] : value.items()) {
      require(word.is_string(), path, ": damaged safetensors header (__metadata__ '", key,
              "' is not a string)");
      metadata[key] = word.get<std::string>();
    }
  }
}

}  // namespace

const at::Tensor* NamedTensors::find(const std::string& name) const {
  for (const auto& [key, tensor] : tensors)
    if (key == name) return &tensor;
  return nullptr;
}

void write_safetensors(const fs::path& path, const NamedTensors& content) {
  Json header = Json::object();
  if (!content.metadata.empty()) header[kMetadata] = content.metadata;
  uint64_t offset = 0;
  std::set<std::string> names{kMetadata};
  for (const auto& [name, tensor] : content.tensors) {
    const std::string where = "cannot write " + path.string() + ": tensor '" + name + "' ";
    require(names.insert(name).second, where, "has a name taken already");
    require(tensor.defined(), where, "is undefined");
    const auto* dtype = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                     [&, &t = tensor](const DType& d) { return d.type == t.scalar_type(); });
    require(dtype != std::end(kDTypes), where, "is of dtype ", c10::toString(tensor.scalar_type()),
            "; convert it to float32, float64, int32, int64 or uint8");
    const uint64_t end = offset + static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    header[name] =
        Json{{"dtype", dtype->name}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    fail("cannot write ", path.string(), ": a name or metadata value is not UTF-8");
  }
  text.append((8 - text.size() % 8) % 8,
              ' ');  // data start at a multiple of 8, so float64 can be mapped in place
  require(text.size() <= kMaxHeader, "cannot write ", path.string(), ": its header of ", text.size(),
          " bytes is longer than safetensors readers accept (", kMaxHeader, ")");

  AtomicFile file(path);
  errno = 0;
  std::ofstream out(file.temporary(), std::ios::binary);
  const uint64_t length = text.size();
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  for (const auto& [name, tensor] : content.tensors) {
    const at::Tensor dense = tensor.cpu().contiguous();
    out.write(static_cast<const char*>(dense.data_ptr()), static_cast<std::streamsize>(dense.nbytes()));
    if (!out) break;
  }
  out.close();
  require(out.good(), "cannot write ", path.string(), ": ",
          errno != 0 ? std::strerror(errno) : "output error",
          "; free some space or choose another folder with --out");
  file.commit();
}

std::map<std::string, std::string> read_safetensors_metadata(const fs::path& path) {
  return Header(path).metadata;
}

NamedTensors read_safetensors(const fs::path& file) {
  const std::string path = file.string();
  Header header(file);
  NamedTensors content;
  content.metadata = std::move(header.metadata);
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.tensors) entries.push_back(parse_entry(name, value, path));
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });

  // The tensors must tile the data exactly: no holes, no overlaps, nothing after the last.
  const uint64_t data_size = header.data_size;
  uint64_t position = 0;
  for (const Entry& entry : entries) {
    require(entry.begin == position, path, ": tensor '", entry.name, "' begins at ", entry.begin,
            " but the one before ends at ", position, entry.begin < position ? " (overlap)" : " (hole)");
    require(entry.end <= data_size, path, ": truncated: tensor '", entry.name, "' ends at byte ", entry.end,
            " of the data but only ", data_size, " are there");
    position = entry.end;
  }
  require(position == data_size, path, ": damaged: the tensors end at byte ", position, " of the data but ",
          data_size, " are there");

  for (const Entry& entry : entries) {
    at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype));
    if (entry.end > entry.begin)
      header.in.read(static_cast<char*>(tensor.data_ptr()),
                     static_cast<std::streamsize>(entry.end - entry.begin));
    require(header.in.good(), "cannot read ", path, ": input error");
    content.tensors.emplace_back(entry.name, tensor);
  }
  return content;
}

}  // namespace seigh
