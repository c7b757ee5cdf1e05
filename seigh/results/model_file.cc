#include "seigh/results/model_file.h"

#include <ATen/ops/isfinite.h>

#include <utility>

#include "seigh/core/error.h"
#include "seigh/io/hdf5.h"

namespace seigh {
namespace {

constexpr std::pair<const char*, at::Tensor ModelFile::*> kDataSets[] = {
    {"gradient", &ModelFile::gradient},
    {"fisher", &ModelFile::fisher},
    {"diagonal", &ModelFile::diagonal},
    {"diagonal_error", &ModelFile::diagonal_error},
};

}  // namespace

void write_model_file(const fs::path& path, const ModelFile& content, const std::string& recipe) {
  Hdf5Writer file(path);
  for (const auto& [name, member] : kDataSets)
    if ((content.*member).defined()) file.write(name, content.*member);
  file.attribute("recipe", recipe);
  file.commit();
}

ModelFile read_model_file(const fs::path& path, int64_t parameters) {
  const Hdf5Reader file(path, Maker::seigh);
  ModelFile content;
  for (const auto& [name, member] : kDataSets) {
    if (!file.has(name)) continue;
    content.*member = file.read(name);
    require((content.*member).dim() == 1 && (content.*member).numel() == parameters, path.string(), ": ",
            name, " has shape ", (content.*member).sizes(), ", not [", parameters, "]");
    require((content.*member).isfinite().all().item<bool>(), path.string(), ": ", name,
            " holds NaN or infinity");
  }
  require(content.defined(), path.string(), ": data set \"gradient\" is missing");
  return content;
}

}  // namespace seigh
