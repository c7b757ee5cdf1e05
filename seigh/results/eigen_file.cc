#include "seigh/results/eigen_file.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/io/hdf5.h"
#include "seigh/results/tensor_list.h"
#include "seigh/tall/stored_matrix.h"

namespace seigh {
namespace {

class Attributes {
 public:
  Attributes(fs::path path, const Hdf5Reader& reader)
      : path_(std::move(path)), values_(reader.attributes()) {}

  bool has(const std::string& name) const { return values_.contains(name); }
  template <typename T>
  T get(const std::string& name) const {
    const auto found = values_.find(name);
    require(found != values_.end() && std::holds_alternative<T>(found->second), path_.string(),
            ": attribute \"", name, "\" is missing or of another type; not a seigh decomposition");
    return std::get<T>(found->second);
  }

 private:
  fs::path path_;
  std::map<std::string, Hdf5Attribute> values_;
};

// Rows of U, by panels that are small beside the memory and whose pieces of a column are long enough for the
// disk.
template <typename Body>
void for_row_panels(const Eigenvectors& u, const Context& context, const Body& body) {
  const int64_t d = u.count() > 0 ? u.dimension() : 0;
  int64_t bytes =
      std::clamp<int64_t>(context.memory().available() / 16, int64_t{8} << 20, int64_t{512} << 20);
  if (u.divided()) bytes = context.ranks().agree(bytes);
  const int64_t step = std::max<int64_t>(1, bytes / (8 * std::max<int64_t>(u.count(), 1)));
  for (int64_t begin = 0; begin < d; begin += step) {
    context.check_cancelled();
    const int64_t n = std::min(step, d - begin);
    body(begin, u.divided() ? u.rows(at::arange(begin, begin + n, at::kLong)) : u.row_range(begin, n));
  }
}

}  // namespace

void write_eigen_file(const fs::path& path, const EigenFileInfo& info, const EigenResult& result,
                      bool with_vectors, const Context& context) {
  if (!context.ranks().root()) {
    // Ranks that share the rows out give the root theirs.
    if (with_vectors && result.eigenvectors.divided())
      for_row_panels(result.eigenvectors, context, [](int64_t, const at::Tensor&) {});
    return;
  }
  Hdf5Writer file(path);
  file.write("eigenvalues", result.eigenvalues);
  if (with_vectors) {
    const Eigenvectors& u = result.eigenvectors;
    file.create("eigenvectors", u.dtype(), {result.rank, info.parameters});
    for_row_panels(u, context, [&](int64_t begin, const at::Tensor& rows) {
      file.put("eigenvectors", {0, begin}, rows.t().to(u.dtype()));
    });
  }
  if (result.residuals.defined()) {
    const Certificates& c = result.certificates;
    file.write("residuals", result.residuals);
    file.write("trust", c.trust);
    file.write("angle", c.angle);
    file.write("enclosure", at::stack({c.low, c.high}, 1));
    file.write("place", at::stack({c.first, c.last}, 1));
    file.write("subspace_error", c.subspace);
    file.attribute("certified", c.certified());
    file.attribute("rounding", result.rounding);
  }
  file.write("spectrum", result.spectrum);
  if (with_vectors && result.replicates.defined()) file.write("replicates", result.replicates);
  if (info.sample_indices.defined()) file.write("sample_indices", info.sample_indices);
  file.attribute("method", result.method);
  file.attribute("selection", to_string(result.selection));
  file.attribute("matrix", info.matrix);
  file.attribute("split", info.split);
  file.attribute("step", info.step);
  file.attribute("parameters", info.parameters);
  file.attribute("samples", info.samples);
  file.attribute("k", info.k);
  file.attribute("s", info.s);
  file.attribute("rank", result.rank);
  file.attribute("seed", static_cast<int64_t>(result.seed));
  file.attribute("products", result.products);
  file.attribute("seconds", result.seconds);
  file.attribute("peak_bytes", result.peak_bytes);
  file.attribute("dtype", info.dtype);
  if (result.method == "krylov") {
    file.attribute("converged", result.converged);
    file.attribute("checks", result.checks);
    file.attribute("orthogonality_loss", result.orthogonality_loss);
  }
  if (result.error) {
    file.attribute("error_probes", result.error->probes);
    file.attribute("error_estimate", result.error->error());
    file.attribute("frobenius_estimate", result.error->frobenius());
  } else if (result.method == "dense") {
    // Exact: the norm of the eigenvalues left out, and that of all.
    file.attribute("error_estimate", result.spectrum.slice(0, info.k).norm().item<double>());
    file.attribute("frobenius_estimate", result.frobenius);
    file.attribute("asymmetry", result.asymmetry);
  }
  if (info.sketch_error) file.attribute("sketch_error", *info.sketch_error);
  if (!info.fingerprint.empty()) file.attribute("fingerprint", info.fingerprint);
  if (const std::string tensors = text_of_tensors(info.tensors);
      !info.tensors.empty() && tensors.size() <= kMostTensorText)
    file.attribute("tensors", tensors);
  if (!info.recipe.empty()) file.attribute("recipe", info.recipe);
  file.commit();
}

EigenFile read_eigen_file(const fs::path& path, Vectors vectors, const Context& context) {
  const Hdf5Reader file(path, Maker::seigh);
  const Attributes attributes(path, file);
  EigenFile content;
  EigenFileInfo& info = content.info;
  EigenResult& result = content.result;
  result.method = attributes.get<std::string>("method");
  result.selection = parse_selection(attributes.get<std::string>("selection"));
  info.matrix = attributes.get<std::string>("matrix");
  info.split = attributes.get<std::string>("split");
  info.step = attributes.get<int64_t>("step");
  info.parameters = attributes.get<int64_t>("parameters");
  info.samples = attributes.get<int64_t>("samples");
  info.k = attributes.get<int64_t>("k");
  info.s = attributes.get<int64_t>("s");
  info.dtype = attributes.get<std::string>("dtype");
  if (attributes.has("sketch_error")) info.sketch_error = attributes.get<double>("sketch_error");
  if (attributes.has("fingerprint")) info.fingerprint = attributes.get<std::string>("fingerprint");
  if (attributes.has("tensors")) info.tensors = tensors_of_text(path, attributes.get<std::string>("tensors"));
  int64_t rows = 0;
  for (const ParameterSpec& tensor : info.tensors) rows += tensor.numel();
  require(info.tensors.empty() || rows == info.parameters, path.string(),
          ": attribute \"tensors\" does not describe its ", info.parameters, " rows");
  if (attributes.has("recipe")) info.recipe = attributes.get<std::string>("recipe");
  if (file.has("sample_indices")) info.sample_indices = file.read("sample_indices");
  result.eigenvalues = file.read("eigenvalues").to(at::kDouble);
  result.spectrum = file.read("spectrum");
  if (file.has("residuals")) {
    Certificates& c = result.certificates;
    result.residuals = file.read("residuals");
    c.trust = file.read("trust");
    c.angle = file.read("angle");
    c.subspace = file.read("subspace_error");
    const at::Tensor enclosure = file.read("enclosure"), place = file.read("place");
    const int64_t rank = result.residuals.numel();
    require(c.trust.numel() == rank && c.angle.numel() == rank && c.subspace.numel() == rank &&
                enclosure.sizes() == at::IntArrayRef({rank, 2}) &&
                place.sizes() == at::IntArrayRef({rank, 2}),
            path.string(), ": certificates are not of as many pairs as the residuals; the file is damaged");
    c.low = enclosure.select(1, 0).clone();
    c.high = enclosure.select(1, 1).clone();
    c.first = place.select(1, 0).clone();
    c.last = place.select(1, 1).clone();
    result.rounding = attributes.get<double>("rounding");
  }
  result.rank = attributes.get<int64_t>("rank");
  result.seed = static_cast<uint64_t>(attributes.get<int64_t>("seed"));
  result.products = attributes.get<int64_t>("products");
  result.seconds = attributes.get<double>("seconds");
  result.peak_bytes = attributes.get<int64_t>("peak_bytes");
  if (attributes.has("error_probes")) {
    const double error = attributes.get<double>("error_estimate"),
                 norm = attributes.get<double>("frobenius_estimate");
    result.error = ErrorEstimate{.probes = attributes.get<int64_t>("error_probes"),
                                 .beta = info.dtype.starts_with("complex") ? 2 : 1,
                                 .squared_error = error * error,
                                 .squared_frobenius = norm * norm};
  } else if (result.method == "dense") {
    result.frobenius = attributes.get<double>("frobenius_estimate");
    result.asymmetry = attributes.get<double>("asymmetry");
  }
  if (result.method == "krylov") {
    result.converged = attributes.get<int64_t>("converged");
    result.checks = attributes.get<int64_t>("checks");
    result.orthogonality_loss = attributes.get<double>("orthogonality_loss");
  }
  content.has_vectors = file.has("eigenvectors");
  if (vectors != Vectors::none && file.has("replicates")) {
    result.replicates = file.read("replicates");
    require(result.replicates.dim() == 3 && result.replicates.size(1) == result.rank &&
                result.replicates.size(2) <= result.rank,
            path.string(), ": replicates have shape ", result.replicates.sizes(), "; the file is damaged");
  }
  if (vectors != Vectors::none && content.has_vectors) {
    const std::vector<int64_t> shape = file.shape("eigenvectors");
    require(shape == std::vector<int64_t>({result.rank, info.parameters}), path.string(),
            ": eigenvectors have shape ", at::IntArrayRef(shape), ", expected [", result.rank, ", ",
            info.parameters, "]");
    const at::ScalarType dtype = file.dtype("eigenvectors");
    const int64_t bytes = result.rank * info.parameters * static_cast<int64_t>(c10::elementSize(dtype));
    const bool whole = vectors == Vectors::if_small && bytes <= context.memory().available() / 4;
    // What another program has compressed has no place in the file to read panels from.
    if (whole || !file.in_one_piece("eigenvectors", dtype)) {
      result.eigenvectors = Eigenvectors(file.read("eigenvectors").t(), {}, context);
    } else {
      const auto stored = std::make_shared<StoredMatrix>(info.parameters, dtype, context);
      stored->add(path, "eigenvectors");
      result.eigenvectors = Eigenvectors(stored, at::Tensor());
    }
  }
  return content;
}

}  // namespace seigh
