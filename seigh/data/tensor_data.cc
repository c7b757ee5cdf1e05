#include "seigh/data/tensor_data.h"

#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/io/hdf5.h"
#include "seigh/io/npy.h"
#include "seigh/io/safetensors.h"

namespace seigh {
namespace {

struct Place {
  fs::path file;
  std::string tensor;
};

bool is_hdf5(const fs::path& path) {
  return path.extension() == ".h5" || path.extension() == ".hdf5";
}
bool holds_names(const fs::path& path) {
  return is_hdf5(path) || path.extension() == ".safetensors";
}

Place parse(const std::string& text, const std::string& tensor) {
  const size_t colon = text.rfind(':');
  if (colon != std::string::npos && holds_names(text.substr(0, colon)))
    return {text.substr(0, colon), text.substr(colon + 1)};
  return {text, tensor};
}

at::Tensor read(const Place& place) {
  if (place.file.extension() == ".npy") return read_npy(place.file);
  require(holds_names(place.file), place.file.string(),
          ": data are read from .npy, .safetensors, .h5 and .hdf5 files");
  if (is_hdf5(place.file)) {
    const Hdf5Reader file(place.file);
    require(file.has(place.tensor), place.file.string(), " has no data set \"", place.tensor,
            "\"; name another with FILE:NAME");
    return file.read(place.tensor);
  }
  const NamedTensors file = read_safetensors(place.file);
  const at::Tensor* tensor = file.find(place.tensor);
  require(tensor != nullptr, place.file.string(), " has no tensor \"", place.tensor,
          "\"; name another with FILE:NAME");
  return *tensor;
}

std::string name(const Place& place) {
  return place.file.string() + (holds_names(place.file) ? ":" + place.tensor : "");
}

// float32, float64 and int64 as they are, int32 as int64.
at::Tensor usable(at::Tensor tensor, const Place& place, const char* letter, const char* integers) {
  require(tensor.dim() >= 1, name(place), ": ", letter, " is one number; it must have one row a sample");
  if (tensor.scalar_type() == at::kInt) tensor = tensor.to(at::kLong);
  require(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble ||
              tensor.scalar_type() == at::kLong,
          name(place), ": ", letter, " is ", tensor.scalar_type(),
          "; save it as float32, or as int64 if it holds ", integers);
  return tensor;
}

}  // namespace

Dataset load_tensor_data(const std::string& x, const std::string& y) {
  const Place x_place = parse(x, "x");
  require(!y.empty() || holds_names(x_place.file), x, " holds x alone; name the file of y too");
  const Place y_place = y.empty() ? Place{x_place.file, "y"} : parse(y, "y");
  Dataset data;
  data.x = usable(read(x_place), x_place, "x", "tokens");
  data.y = usable(read(y_place), y_place, "y", "classes");
  require(data.x.size(0) == data.y.size(0), name(x_place), " holds ", data.x.size(0), " samples, ",
          name(y_place), " ", data.y.size(0), "; they must be of the same samples");
  require(data.size() > 0, name(x_place), " holds no samples");
  return data;
}

}  // namespace seigh
