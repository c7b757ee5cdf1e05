#include "seigh/eigen/krylov_state.h"

#include <ATen/ops/scalar_tensor.h>

#include <map>
#include <utility>
#include <variant>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/fingerprint.h"
#include "seigh/io/hdf5.h"

namespace seigh {

KrylovState::KrylovState(fs::path folder, std::string computation, std::string fingerprint, Context context)
    : context_(std::move(context)),
      folder_(std::move(folder)),
      computation_(std::move(computation)),
      fingerprint_(std::move(fingerprint)),
      remedy_("; delete " + folder_.string() + " to begin anew") {}

std::optional<KrylovSnapshot> KrylovState::read() {
  return with_remedy(remedy_, [&] { return read_file(); });
}

std::optional<KrylovSnapshot> KrylovState::read_file() {
  const fs::path path = folder_ / "state.h5";
  std::error_code none;
  if (!context_.ranks().agree(fs::exists(path, none))) return std::nullopt;
  const Hdf5Reader file(path, Maker::seigh);
  const std::map<std::string, Hdf5Attribute> attributes = file.attributes();
  const auto number = [&](const std::string& name) {
    const auto found = attributes.find(name);
    require(found != attributes.end() && std::holds_alternative<int64_t>(found->second), path.string(),
            " lacks ", name, remedy_);
    return std::get<int64_t>(found->second);
  };
  const auto owner = attributes.find("computation");
  require(owner != attributes.end() && owner->second == Hdf5Attribute(computation_), path.string(),
          " belongs to another computation", remedy_);
  if (const auto print = attributes.find("fingerprint"); print != attributes.end())
    require_same_matrix(path, std::get<std::string>(print->second), fingerprint_, folder_);
  KrylovSnapshot s;
  s.processed = number("processed");
  s.waiting = number("waiting");
  s.products = number("products");
  s.draws = number("draws");
  s.looked_at = number("looked_at");
  s.checked_at = number("checked_at");
  s.exhausted = number("exhausted") != 0;
  s.done = number("done") != 0;
  s.norm = file.read("norm").item<double>();
  s.t = file.read("t");
  s.coupling = file.read("coupling");
  require(0 <= s.processed && 0 <= s.waiting && s.t.sizes() == at::IntArrayRef({s.processed, s.processed}) &&
              s.coupling.sizes() == at::IntArrayRef({s.waiting, s.processed}),
          path.string(), " is damaged", remedy_);
  generation_ = number("generation");
  return s;
}

void KrylovState::load(const KrylovSnapshot& s, Basis& basis) const {
  fs::create_directories(folder_);
  basis.load(generation_, s.processed + s.waiting, remedy_);
}

void KrylovState::save(const KrylovSnapshot& s, Basis& basis) {
  fs::create_directories(folder_);
  basis.keep();
  const bool renewed = basis.generation() != generation_;
  generation_ = basis.generation();
  context_.ranks().wait();  // for every rank's columns
  if (!context_.ranks().root()) return;
  Hdf5Writer file(folder_ / "state.h5");
  file.write("t", s.t);
  file.write("coupling", s.coupling);
  file.write("norm", at::scalar_tensor(s.norm, at::kDouble).reshape({1}));
  file.attribute("computation", computation_);
  if (!fingerprint_.empty()) file.attribute("fingerprint", fingerprint_);
  file.attribute("processed", s.processed);
  file.attribute("waiting", s.waiting);
  file.attribute("products", s.products);
  file.attribute("draws", s.draws);
  file.attribute("generation", generation_);
  file.attribute("looked_at", s.looked_at);
  file.attribute("checked_at", s.checked_at);
  file.attribute("exhausted", int64_t{s.exhausted});
  file.attribute("done", int64_t{s.done});
  file.commit();
  if (renewed) basis.forget_earlier();
}

}  // namespace seigh
