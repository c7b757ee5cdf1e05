// safetensors files: 8 bytes little-endian header length, a JSON header, then raw little-endian tensors
// (huggingface.co/docs/safetensors). Any safetensors reader opens what write_safetensors writes; the first
// entry of its metadata, "seal", holds checksums of header and data.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/io/seal.h"

namespace seigh {

/// Tensors by name, in file order, and string metadata.
struct NamedTensors {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  std::map<std::string, std::string> metadata;

  /// The tensor called `name`, or nullptr.
  const at::Tensor* find(const std::string& name) const;
  /// All of them, for many look-ups; of this object's tensors.
  std::unordered_map<std::string, const at::Tensor*> by_name() const;
};

/// Writes completely or not at all, tensors in the order given. dtypes float32, float64, float16, bfloat16,
/// int32, int64, uint8; any layout (stored contiguous). Throws Error on a full disk, other dtypes, names
/// given twice. A metadata key "seal" is seigh's own.
void write_safetensors(const fs::path& path, const NamedTensors& content);
/// Reads contiguous CPU tensors of the same dtypes, ordered by their place in the file; the metadata without
/// the seal, which is checked where there is one. Throws Error, naming the file and what is wrong, on a
/// truncated file, a bad header, overlapping or out-of-range offsets, a wrong checksum, and when a file that
/// seigh must have made has none. Time and memory are linear in the file.
NamedTensors read_safetensors(const fs::path& path, Maker maker = Maker::anybody);
/// The metadata alone, without the tensors. Throws Error on a truncated, damaged or bad header.
std::map<std::string, std::string> read_safetensors_metadata(const fs::path& path,
                                                             Maker maker = Maker::anybody);

}  // namespace seigh
