#include "seigh/eigen/krylov_state.h"

#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "seigh/base/communicator.h"
#include "seigh/base/error.h"
#include "seigh/io/hdf5.h"

namespace seigh {
namespace {

namespace fs = std::filesystem;

}  // namespace

KrylovState::KrylovState(fs::path folder, std::string fingerprint)
    : folder_(std::move(folder)), fingerprint_(std::move(fingerprint)) {}

fs::path KrylovState::columns_file(int64_t generation, int64_t first) const {
  const std::string rank = world().size() > 1 ? "_rank_" + std::to_string(world().rank()) : "";
  return folder_ / ("basis_" + std::to_string(generation) + "_" + std::to_string(first) + rank + ".h5");
}

std::optional<KrylovSnapshot> KrylovState::load(const at::Tensor& basis) {
  const fs::path path = folder_ / "state.h5";
  std::error_code none;
  if (!world().agree(fs::exists(path, none))) return std::nullopt;
  const std::string remedy = "; delete " + folder_.string() + " to begin anew";
  const Hdf5Reader file(path);
  const std::map<std::string, Hdf5Attribute> attributes = file.attributes();
  const auto number = [&](const std::string& name) {
    const auto found = attributes.find(name);
    require(found != attributes.end() && std::holds_alternative<int64_t>(found->second), path.string(),
            " lacks ", name, remedy);
    return std::get<int64_t>(found->second);
  };
  const auto owner = attributes.find("computation");
  require(owner != attributes.end() && owner->second == Hdf5Attribute(fingerprint_), path.string(),
          " belongs to another computation", remedy);
  KrylovSnapshot s;
  s.processed = number("processed");
  s.waiting = number("waiting");
  s.products = number("products");
  s.draws = number("draws");
  s.generation = number("generation");
  s.looked_at = number("looked_at");
  s.exhausted = number("exhausted") != 0;
  s.done = number("done") != 0;
  s.norm = file.read("norm").item<double>();
  s.t = file.read("t");
  s.coupling = file.read("coupling");
  if (file.has("at_breakdown")) s.at_breakdown = file.read("at_breakdown");
  const int64_t columns = s.processed + s.waiting;
  require(0 <= s.processed && 0 <= s.waiting && s.t.sizes() == at::IntArrayRef({s.processed, s.processed}) &&
              s.coupling.sizes() == at::IntArrayRef({s.waiting, s.processed}),
          path.string(), " is damaged", remedy);
  require(columns <= basis.size(1), path.string(), " has a basis of ", columns,
          " vectors, the memory is for ", basis.size(1), "; raise the ceiling (--memory) to what it was");
  for (int64_t first = 0; first < columns;) {
    const at::Tensor part = Hdf5Reader(columns_file(s.generation, first)).read("columns");
    require(part.dim() == 2 && part.size(0) >= 1 && part.size(1) == basis.size(0) &&
                first + part.size(0) <= columns && part.scalar_type() == basis.scalar_type(),
            columns_file(s.generation, first).string(), " does not fit ", path.string(), remedy);
    basis.slice(1, first, first + part.size(0)).copy_(part.t());
    first += part.size(0);
  }
  generation_ = s.generation;
  saved_ = columns;
  return s;
}

void KrylovState::save(const KrylovSnapshot& s, const at::Tensor& basis) {
  fs::create_directories(folder_);
  const bool renewed = s.generation != generation_;
  if (renewed) saved_ = 0;
  const int64_t columns = s.processed + s.waiting;
  // A block in a file, large enough for the disk's full speed, small enough for memory.
  constexpr int64_t kFileBytes = int64_t{256} << 20;
  const int64_t width =
      std::max<int64_t>(1, kFileBytes / (basis.size(0) * static_cast<int64_t>(basis.element_size())));
  for (int64_t first = saved_; first < columns; first += width) {
    Hdf5Writer file(columns_file(s.generation, first));
    file.write("columns", basis.slice(1, first, std::min(first + width, columns)).t());
    file.commit();
  }
  saved_ = columns;
  generation_ = s.generation;
  world().wait();  // for every rank's columns
  if (!world().root()) return;
  Hdf5Writer file(folder_ / "state.h5");
  file.write("t", s.t);
  file.write("coupling", s.coupling);
  file.write("norm", at::scalar_tensor(s.norm, at::kDouble).reshape({1}));
  file.attribute("computation", fingerprint_);
  file.attribute("processed", s.processed);
  file.attribute("waiting", s.waiting);
  file.attribute("products", s.products);
  file.attribute("draws", s.draws);
  file.attribute("generation", s.generation);
  file.attribute("looked_at", s.looked_at);
  file.attribute("exhausted", int64_t{s.exhausted});
  file.attribute("done", int64_t{s.done});
  if (s.at_breakdown.defined()) file.write("at_breakdown", s.at_breakdown);
  file.commit();
  if (!renewed) return;
  const std::string current = "basis_" + std::to_string(s.generation) + "_";
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    std::error_code none;
    if (name.starts_with("basis_") && !name.starts_with(current)) fs::remove(entry.path(), none);
  }
}

}  // namespace seigh
