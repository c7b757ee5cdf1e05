#include "seigh/results/synthetic_file.h"

#include <variant>

#include "seigh/core/error.h"
#include "seigh/io/hdf5.h"

namespace seigh {
namespace {

// In place of a list of strings, which HDF5 attributes of seigh's have none of.
std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " ") + name;
  return text;
}

std::string kinds() {
  std::vector<std::string> names;
  for (const PairKind kind : all_pair_kinds) names.emplace_back(pair_kind_name(kind));
  return joined(names);
}

const char* const kWhat = "synthetic study of Grassmannian metrics";

}  // namespace

void write_synthetic_file(const fs::path& path, const SyntheticFile& f) {
  Hdf5Writer file(path);
  file.attribute("what", kWhat);
  file.attribute("kinds", kinds());
  file.attribute("metrics", joined(synthetic_metrics()));
  file.attribute("pairs", f.study.values.size(-1));
  file.attribute("recipe", f.recipe);
  file.attribute("seconds", f.seconds);
  file.write("dimension", f.study.dimension);
  file.write("ratio", f.study.ratio);
  file.write("k", f.study.k);
  file.write("values", f.study.values);
  file.write("quantiles", synthetic_quantiles(f.study));
  file.commit();
}

SyntheticFile read_synthetic_file(const fs::path& path) {
  const Hdf5Reader file(path, Maker::seigh);
  const auto attributes = file.attributes();
  const auto text = [&](const char* name) {
    const auto found = attributes.find(name);
    const auto* value = found == attributes.end() ? nullptr : std::get_if<std::string>(&found->second);
    return value == nullptr ? std::string() : *value;
  };
  require(text("what") == kWhat && text("kinds") == kinds() && text("metrics") == joined(synthetic_metrics()),
          path.string(),
          " is no synthetic study of this version's metrics; remove it and run its recipe again");
  SyntheticFile f;
  f.study = {file.read("dimension"), file.read("ratio"), file.read("k"), file.read("values")};
  const SyntheticStudy& s = f.study;
  const int64_t cells = s.k.numel();
  const auto list = [&](const at::Tensor& x, at::ScalarType dtype) {
    return x.dim() == 1 && x.numel() == cells && x.scalar_type() == dtype;
  };
  require(cells > 0 && list(s.dimension, at::kLong) && list(s.ratio, at::kDouble) && list(s.k, at::kLong) &&
              s.values.scalar_type() == at::kDouble && s.values.dim() == 4 &&
              s.values.size(0) == static_cast<int64_t>(all_pair_kinds.size()) &&
              s.values.size(1) == static_cast<int64_t>(synthetic_metrics().size()) &&
              s.values.size(2) == cells && s.values.size(3) >= 2,
          path.string(), ": its data sets do not fit together; remove it and run its recipe again");
  f.recipe = text("recipe");
  if (const auto found = attributes.find("seconds"); found != attributes.end())
    if (const auto* seconds = std::get_if<double>(&found->second)) f.seconds = *seconds;
  return f;
}

}  // namespace seigh
