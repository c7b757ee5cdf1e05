// seigh._core: the library as the package in python/seigh/ uses it. Thin: tensors are shared, the lock is
// released for as long as the library works; what users see is documented there.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>
#include <c10/util/Exception.h>
#include <torch/csrc/Exceptions.h>

#include <array>
#include <cmath>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>

#include "python/core/gil.h"
#include "python/core/group.h"
#include "python/core/runs.h"
#include "python/core/sources.h"
#include "seigh/core/context.h"
#include "seigh/core/device.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/version.h"
#include "seigh/curvature/check.h"
#include "seigh/curvature/make.h"
#include "seigh/eigen/eigh.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/zoo.h"
#include "seigh/overlap/anatomy.h"
#include "seigh/overlap/curves.h"
#include "seigh/overlap/masks.h"
#include "seigh/overlap/metrics.h"
#include "seigh/overlap/nulls.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/overlap_file.h"
#include "seigh/spectrum/density.h"
#include "seigh/spectrum/diagonal.h"
#include "seigh/spectrum/trace.h"
#include "seigh/tall/divided.h"

namespace seigh::python {
namespace {

using Released = py::call_guard<py::gil_scoped_release>;

// What torch's engine has left of exceptions that were handled would be taken for one of the call's own. With
// the lock.
struct AfterTorch {
  ~AfterTorch() {
    if (std::uncaught_exceptions() == 0) PyErr_Clear();
  }
};

// One caller at a time (linear_operator.h), whatever threads Python has.
struct Operator {
  std::shared_ptr<LinearOperator> part;  // this process's
  double share = 1;                      // of it in `linear`
  Context context = {};
  std::shared_ptr<LinearOperator> linear;
  std::mutex busy = {};

  explicit Operator(std::shared_ptr<LinearOperator> op) : part(std::move(op)), linear(part) {}
  /// The sum over all ranks of each one's part times its share.
  Operator(std::shared_ptr<LinearOperator> op, double of_part, const Context& of)
      : part(std::move(op)),
        share(of_part),
        context(of),
        linear(std::make_shared<DividedSamples>(*part, of_part, of)) {}
  CurvatureOperator& curvature() const {
    auto* const found = dynamic_cast<CurvatureOperator*>(part.get());
    require(found != nullptr, linear->name(), " is no curvature matrix");
    return *found;
  }
  at::Tensor over_parts(at::Tensor numbers) const {
    if (!linear->collective()) return numbers;
    numbers.mul_(share);
    context.ranks().sum(numbers);
    return numbers;
  }
};

// body() of the operator as all ranks apply it together.
template <typename Body>
auto together(const Operator& o, const Context& context, const Body& body) {
  if (context.ranks().alone() || o.linear->collective()) return body(*o.linear);
  const Context::Scope scope(context);
  require_same(*o.linear, context);
  DividedColumns divided(*o.linear, context);
  return body(static_cast<LinearOperator&>(divided));
}

// In several sums side by side, so that the compiler can do with vectors what libtorch takes microseconds to
// begin with.
template <typename T>
double sum_of(const T* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  std::array<double, kLanes> sums = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      sums[static_cast<size_t>(lane)] += static_cast<double>(x[i + lane]);
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

CurvatureOptions curvature_options(const py::dict& given) {
  CurvatureOptions o;
  for (const auto& [key, value] : given) {
    const std::string name = key.cast<std::string>();
    if (name == "kind") {
      o.kind = parse_curvature(value.cast<std::string>());
    } else if (name == "dtype") {
      o.dtype = parse_dtype(value.cast<std::string>());
    } else if (name == "products") {
      o.products = parse_products(value.cast<std::string>());
    } else if (name == "precision") {
      o.precision = parse_precision(value.cast<std::string>());
    } else if (name == "replay") {
      o.replay = value.cast<std::optional<bool>>();
    } else if (name == "batch_size") {
      o.batch_size = value.cast<int64_t>();
    } else if (name == "l2") {
      o.l2 = value.cast<double>();
    } else if (name == "draws") {
      o.draws = value.cast<int64_t>();
    } else if (name == "seed") {
      o.seed = value.cast<uint64_t>();
    } else {
      throw py::key_error(name);
    }
  }
  o.validate();
  return o;
}

SolverOptions solver_options(const py::dict& given) {
  SolverOptions o;
  for (const auto& [key, value] : given) {
    const std::string name = key.cast<std::string>();
    if (name == "method") {
      o.method = parse_method(value.cast<std::string>());
    } else if (name == "k") {
      o.k = value.cast<int64_t>();
    } else if (name == "products") {
      o.products = value.cast<int64_t>();
    } else if (name == "tolerance") {
      o.tolerance = value.cast<double>();
    } else if (name == "error") {
      o.error = value.cast<double>();
    } else if (name == "selection") {
      o.selection = parse_selection(value.cast<std::string>());
    } else if (name == "seed") {
      o.seed = value.cast<uint64_t>();
    } else if (name == "probes") {
      o.probes = value.cast<int64_t>();
    } else if (name == "checks") {
      o.checks = value.cast<int64_t>();
    } else if (name == "block") {
      o.block = value.cast<int64_t>();
    } else if (name == "start") {
      o.start = Eigenvectors(value.cast<at::Tensor>());
    } else {
      throw py::key_error(name);
    }
  }
  return o;
}

Loss named_loss(const std::string& kind, double smoothing) {
  return {parse_loss(kind), smoothing};
}

py::object tensor_or_none(const at::Tensor& tensor) {
  return tensor.defined() ? py::cast(tensor) : py::none();
}

py::dict certificates(const EigenResult& result) {
  const Certificates& c = result.certificates;
  py::dict all;
  for (const auto& [name, tensor] : std::map<std::string, at::Tensor>{{"trust", c.trust},
                                                                      {"angle", c.angle},
                                                                      {"low", c.low},
                                                                      {"high", c.high},
                                                                      {"first", c.first},
                                                                      {"last", c.last},
                                                                      {"subspace", c.subspace}})
    all[name.c_str()] = tensor_or_none(tensor);
  return all;
}

py::object error_of(const EigenResult& result) {
  if (!result.error) return py::none();
  py::dict e;
  e["probes"] = result.error->probes;
  e["error"] = result.error->error();
  e["frobenius"] = result.error->frobenius();
  e["relative"] = result.error->relative_error();
  return e;
}

py::dict curves_dict(const OverlapCurves& c) {
  py::dict all;
  all["magnitude"] = c.magnitude;
  all["best"] = c.best;
  all["chance"] = c.chance;
  all["mask"] = c.mask;
  all["magnitude_low"] = tensor_or_none(c.magnitude_low);
  all["magnitude_high"] = tensor_or_none(c.magnitude_high);
  all["magnitude_deviation"] = tensor_or_none(c.magnitude_deviation);
  for (const auto& [name, null] :
       {std::pair("random", &c.nulls.uniform), std::pair("layer", &c.nulls.layer),
        std::pair("output_unit", &c.nulls.output_unit), std::pair("input_unit", &c.nulls.input_unit)}) {
    const std::string key = name;
    all[(key + "_mean").c_str()] = null->mean;
    all[(key + "_deviation").c_str()] = null->deviation;
  }
  const TwoWayNull& null = c.nulls.two_way;
  py::list factors;
  for (int64_t i = 0; i < null.sizes.numel(); ++i) {
    const OverlapFactors f = overlap_factors(c.nulls, i);
    py::dict one;
    one["k"] = f.size;
    one["overlap"] = f.overlap;
    one["chance"] = f.chance;
    one["layer"] = f.layer;
    one["units"] = f.units;
    one["parameter"] = f.parameter;
    one["z"] = f.z;
    one["p"] = f.p;
    one["free"] = f.free;
    one["two_way_mean"] = null.mean[i].item<double>();
    one["two_way_deviation"] = null.deviation[i].item<double>();
    one["acceptance"] = null.acceptance[i].item<double>();
    one["effective"] = null.effective[i].item<double>();
    factors.append(one);
  }
  all["factors"] = factors;
  py::dict bands;
  for (const auto& [name, band] :
       {std::pair("layer", &c.bands.layer), std::pair("output_unit", &c.bands.output_unit),
        std::pair("input_unit", &c.bands.input_unit)})
    bands[name] = py::make_tuple(band->low, band->high, band->p);
  all["bands"] = bands;
  all["eligible"] = c.eligible;
  all["tied"] = c.tied;
  return all;
}

void add_anatomy(const Anatomy& found, py::dict& all) {
  const MaskAnatomy& mask = found.masks.front();
  all["energy"] = found.space.energy;
  all["participation"] = found.space.participation;
  all["sizes"] = mask.sizes;
  all["counts"] = mask.counts;
  all["within"] = mask.within;
  py::dict ceiling, correlation;
  ceiling["layer"] = mask.ceiling_layer;
  ceiling["output_unit"] = mask.ceiling_output_unit;
  ceiling["input_unit"] = mask.ceiling_input_unit;
  for (const auto& [name, one] :
       {std::pair("layer", mask.layer), std::pair("output_unit", mask.output_unit),
        std::pair("input_unit", mask.input_unit), std::pair("two_way", mask.two_way)})
    correlation[name] = py::make_tuple(one.value, one.deviation);
  all["ceiling"] = ceiling;
  all["rank_correlation"] = correlation;
  all["mask_sizes"] = mask.mask_sizes;
  all["by_size"] = mask.by_size;
  all["by_size_layer"] = mask.by_size_layer;
  all["joint"] = py::none();
  if (!mask.joint.defined()) return;
  py::dict joint;
  joint["mean"] = mask.joint.mean;
  joint["std"] = mask.joint.deviation;
  joint["p"] = mask.joint.p;
  joint["free"] = mask.joint.free;
  all["joint"] = joint;
}

void translate(std::exception_ptr caught) {
  try {
    if (caught) std::rethrow_exception(caught);
  } catch (const PythonException& error) {
    error.restore();
  } catch (python_error& error) {  // of torch's engine: a user's backward
    error.restore();
  } catch (const Cancelled&) {
    PyErr_SetNone(PyExc_KeyboardInterrupt);
  } catch (const MemoryError& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  } catch (const FileError& error) {
    const bool missing = std::string(error.what()).find("No such file") != std::string::npos;
    PyErr_SetString(missing ? PyExc_FileNotFoundError : PyExc_OSError, error.what());
  } catch (const Error& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const c10::NotImplementedError& error) {
    PyErr_SetString(PyExc_NotImplementedError, error.what_without_backtrace());
  } catch (const c10::OutOfMemoryError& error) {
    PyErr_SetString(PyExc_MemoryError, error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    const bool memory = message.find("allocate memory") != std::string::npos ||
                        message.find("not enough memory") != std::string::npos;
    PyErr_SetString(memory ? PyExc_MemoryError : PyExc_RuntimeError, message.c_str());
  }
}

}  // namespace

void define(py::module_& m) {
  py::register_local_exception_translator(translate);
  m.attr("version") = version();
  define_runs(m);

  py::class_<Context>(m, "Context")
      .def(py::init([](int64_t memory, int64_t device_memory, int threads, const py::object& progress,
                       const py::object& group) {
             ContextOptions options;
             options.memory = memory;
             options.device_memory = device_memory;
             options.threads = threads;
             options.cancelled = interrupted;
             if (!progress.is_none()) options.progress = std::make_shared<PythonProgress>(progress);
             if (!group.is_none()) options.ranks = std::make_shared<GroupRanks>(group);
             return Context(options);
           }),
           py::arg("memory"), py::arg("device_memory"), py::arg("threads"), py::arg("progress"),
           py::arg("group"))
      .def("sharing", [](const Context& c, const std::string& device,
                         int ranks) { return sharing_device(c.on(c10::Device(device)), ranks); })
      .def_property_readonly("threads", &Context::threads)
      .def("available", [](const Context& c) { return c.memory().available(); })
      .def("ceiling", [](const Context& c) { return c.memory().ceiling(); });
  m.def("visible_devices", &visible_devices);
  m.def("parse_bytes", &parse_bytes);
  m.def("format_bytes", &format_bytes);

  py::class_<Operator, std::shared_ptr<Operator>>(m, "Operator")
      .def_property_readonly("size", [](const Operator& o) { return o.linear->size(); })
      .def_property_readonly("dtype_name", [](const Operator& o) { return dtype_name(o.linear->dtype()); })
      .def_property_readonly("name", [](const Operator& o) { return o.linear->name(); })
      .def_property_readonly("products", [](const Operator& o) { return o.linear->products(); })
      .def_property_readonly("seconds", [](const Operator& o) { return o.linear->seconds(); })
      .def_property_readonly("preferred_block", [](const Operator& o) { return o.linear->preferred_block(); })
      .def_property_readonly("product_error", [](const Operator& o) { return o.linear->product_error(); })
      .def("notes", [](const Operator& o) { return o.curvature().notes(); })
      // Those that are not only about speed.
      .def("warnings", [](const Operator& o) { return o.curvature().CurvatureOperator::notes(); })
      .def_property_readonly(
          "by_differences",
          [](const Operator& o) { return o.curvature().options().products == Products::difference; })
      .def_property_readonly("way", [](const Operator& o) { return o.curvature().way(); })
      .def_property_readonly("batch_size", [](const Operator& o) { return o.curvature().batch_size(); })
      .def(
          "apply",
          [](Operator& o, const at::Tensor& block, const Context& context) {
            const std::lock_guard lock(o.busy);
            const Context::Scope scope(context);
            return o.linear->apply(block);
          },
          Released())
      .def(
          "loss",
          [](Operator& o) {
            const std::lock_guard lock(o.busy);
            return o.over_parts(at::full({1}, o.curvature().loss(), at::kDouble)).item<double>();
          },
          Released())
      .def(
          "gradient",
          [](Operator& o) {
            const std::lock_guard lock(o.busy);
            return o.over_parts(o.curvature().gradient());
          },
          Released());

  m.def("curvature", [](py::object source, const py::dict& options, const std::string& name, bool check,
                        const Context& context) {
    const auto wanted = curvature_options(options);
    const std::shared_ptr<const GraphSource> from = std::make_shared<PythonSource>(std::move(source));
    const AfterTorch clean;
    const py::gil_scoped_release released;
    std::shared_ptr<LinearOperator> made = check ? make_checked_operator(from, wanted, name, context)
                                                 : make_curvature_operator(from, wanted, name, context);
    return std::make_shared<Operator>(std::move(made));
  });
  // The sum over all ranks, which must call this together, of each one's matrix times its share.
  m.def(
      "sharded",
      [](const Operator& own, double share, const Context& context) {
        return std::make_shared<Operator>(own.part, share, context);
      },
      Released());
  // Of the library's own networks, at flat parameters [D], with cross-entropy: for benchmarks beside those of
  // Python.
  m.def("own_network", [](const std::string& network, const std::vector<int64_t>& shape, int64_t classes,
                          const at::Tensor& parameters, const at::Tensor& x, const at::Tensor& y,
                          const py::dict& options, const Context& context) {
    const auto wanted = curvature_options(options);
    const py::gil_scoped_release released;
    ModelOptions of;
    of.kind = network;
    const std::shared_ptr<Model> model = make_model(of, shape, classes);
    auto op =
        make_curvature_operator(*model, parameters, {}, Dataset{x, y, classes}, wanted, network, context);
    // The operator needs its model for as long as it lives.
    return std::make_shared<Operator>(
        std::shared_ptr<LinearOperator>(op.release(), [model](LinearOperator* last) { delete last; }));
  });
  // Changes with any change of the tensors' numbers, but for unlikely ones.
  m.def(
      "checksum",
      [](const std::vector<at::Tensor>& tensors) {
        double sum = 0;
        int64_t i = 1;
        std::vector<at::Tensor> elsewhere;  // waited for once
        for (const at::Tensor& t : tensors) {
          const bool plain = t.is_contiguous() && t.device().is_cpu();
          const double weight = static_cast<double>(i++);
          if (plain && t.scalar_type() == at::kFloat) {
            sum += weight * sum_of(t.const_data_ptr<float>(), t.numel());
          } else if (plain && t.scalar_type() == at::kDouble) {
            sum += weight * sum_of(t.const_data_ptr<double>(), t.numel());
          } else {
            elsewhere.push_back(t.detach().sum(at::kDouble) * weight);
          }
        }
        if (!elsewhere.empty()) sum += at::stack(elsewhere).sum().item<double>();
        return std::isnan(sum) ? 0 : sum;
      },
      Released());
  m.def("matrix", [](const at::Tensor& matrix, const std::string& name) {
    return std::make_shared<Operator>(std::make_shared<MatrixOperator>(matrix, name));
  });
  m.def("callable", [](py::object multiply, int64_t size, const std::string& dtype, const std::string& name) {
    return std::make_shared<Operator>(
        std::make_shared<CallableOperator>(std::move(multiply), size, parse_dtype(dtype), name));
  });

  py::class_<EigenResult, std::shared_ptr<EigenResult>>(m, "Result")
      .def_readonly("method", &EigenResult::method)
      .def_property_readonly("selection", [](const EigenResult& r) { return to_string(r.selection); })
      .def_readonly("eigenvalues", &EigenResult::eigenvalues)
      .def_readonly("rank", &EigenResult::rank)
      .def_readonly("products", &EigenResult::products)
      .def_readonly("seconds", &EigenResult::seconds)
      .def_readonly("peak_bytes", &EigenResult::peak_bytes)
      .def_readonly("rounding", &EigenResult::rounding)
      .def_property_readonly("residuals", [](const EigenResult& r) { return tensor_or_none(r.residuals); })
      .def_property_readonly("spectrum", [](const EigenResult& r) { return tensor_or_none(r.spectrum); })
      .def_property_readonly("error", &error_of)
      .def_property_readonly("frobenius", [](const EigenResult& r) { return r.frobenius; })
      .def("certificates", &certificates)
      .def("certified",
           [](const EigenResult& r) { return r.residuals.defined() ? r.certificates.certified() : 0; })
      .def("wanted", &EigenResult::wanted)
      .def_property_readonly(
          "dimension",
          [](const EigenResult& r) { return r.eigenvectors.count() > 0 ? r.eigenvectors.dimension() : 0; })
      .def_property_readonly("has_vectors", [](const EigenResult& r) { return r.eigenvectors.count() > 0; })
      .def(
          "columns",
          [](const EigenResult& r, int64_t begin, int64_t count) {
            return r.eigenvectors.columns(begin, count);
          },
          Released())
      .def(
          "rows", [](const EigenResult& r, const at::Tensor& index) { return r.eigenvectors.rows(index); },
          Released())
      .def(
          "project",
          [](const EigenResult& r, const at::Tensor& x) { return r.eigenvectors.transposed_times(x); },
          Released());

  m.def("eigh", [](Operator& o, const py::dict& options, const Context& context) {
    const SolverOptions wanted = solver_options(options);
    const py::gil_scoped_release released;
    const std::lock_guard lock(o.busy);
    const Context::Scope scope(context);
    const int64_t bytes =
        wanted.k * o.linear->size() * static_cast<int64_t>(c10::elementSize(o.linear->dtype()));
    if (!context.ranks().alone()) {
      const int64_t left = context.ranks().least(context.memory().available());
      if (bytes > left)
        throw MemoryError(text_of("the ", wanted.k, " eigenvectors take ", format_bytes(bytes),
                                  " in every process, where the least that is left is ", format_bytes(left),
                                  "; lower k, or start fewer processes on a machine"));
      if (!o.linear->collective()) require_same(*o.linear, context);
    }
    auto result = std::make_shared<EigenResult>(seigh::eigh(*o.linear, wanted, context));
    // Python's callers would have to ask for them together.
    result->eigenvectors = result->eigenvectors.on_every_rank();
    return result;
  });

  m.def("trace", [](Operator& o, int64_t products, uint64_t seed, const Context& context) {
    const TraceResult r = [&] {
      const py::gil_scoped_release released;
      const std::lock_guard lock(o.busy);
      return together(o, context, [&](LinearOperator& op) {
        return trace(op, {.products = products, .seed = seed}, context);
      });
    }();
    return py::make_tuple(r.trace, r.error, r.exact, r.products, r.seconds);
  });
  m.def("diagonal", [](Operator& o, int64_t products, uint64_t seed, const Context& context) {
    const DiagonalResult r = [&] {
      const py::gil_scoped_release released;
      const std::lock_guard lock(o.busy);
      return together(o, context, [&](LinearOperator& op) {
        return diagonal(op, {.products = products, .seed = seed}, context);
      });
    }();
    return py::make_tuple(r.diagonal, r.error, r.relative_error, r.exact, r.products, r.seconds);
  });
  py::class_<Density, std::shared_ptr<Density>>(m, "Density")
      .def_readonly("nodes", &Density::nodes)
      .def_readonly("weights", &Density::weights)
      .def_readonly("exact", &Density::exact)
      .def_readonly("products", &Density::products)
      .def_readonly("seconds", &Density::seconds)
      .def_property_readonly("lowest", &Density::lowest)
      .def_property_readonly("highest", &Density::highest)
      .def_property_readonly("resolved_width", &Density::resolved_width)
      .def("grid", &Density::grid)
      .def("cumulative",
           [](const Density& d, const at::Tensor& grid) {
             const Curve c = d.cumulative(grid);
             return std::make_pair(c.value, c.error);
           })
      .def("smoothed",
           [](const Density& d, const at::Tensor& grid, double width) {
             const Curve c = d.smoothed(grid, width);
             return std::make_pair(c.value, c.error);
           })
      .def("moment", [](const Density& d, int64_t p) {
        const Curve c = d.moment(p);
        return std::make_pair(c.value.item<double>(), c.error.item<double>());
      });
  m.def("density", [](Operator& o, int64_t vectors, int64_t steps, uint64_t seed, const Context& context) {
    const py::gil_scoped_release released;
    const std::lock_guard lock(o.busy);
    return std::make_shared<Density>(together(o, context, [&](LinearOperator& op) {
      return density(op, {.vectors = vectors, .steps = steps, .seed = seed}, context);
    }));
  });

  m.def(
      "save",
      [](const std::string& path, const EigenResult& result, const std::string& matrix, int64_t parameters,
         int64_t samples, int64_t k, const std::string& dtype,
         const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors, const Context& context) {
        EigenFileInfo info;
        info.matrix = matrix;
        info.parameters = parameters;
        info.samples = samples;
        info.k = k;
        info.s = result.products;
        info.dtype = dtype;
        for (const auto& [name, shape] : tensors) info.tensors.push_back({name, shape});
        info.sample_indices = samples > 0 ? at::arange(samples, at::kLong) : at::Tensor();
        write_eigen_file(path, info, result, result.eigenvectors.count() > 0, context);
      },
      Released());
  m.def("load", [](const std::string& path, const Context& context) {
    EigenFile file = [&] {
      const py::gil_scoped_release released;
      return read_eigen_file(path, Vectors::if_small, context);
    }();
    py::dict info;
    info["matrix"] = file.info.matrix;
    info["split"] = file.info.split;
    info["step"] = file.info.step;
    info["parameters"] = file.info.parameters;
    info["samples"] = file.info.samples;
    info["k"] = file.info.k;
    info["dtype"] = file.info.dtype;
    std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
    for (const ParameterSpec& spec : file.info.tensors) tensors.emplace_back(spec.name, spec.shape);
    info["tensors"] = tensors;
    return py::make_tuple(std::make_shared<EigenResult>(std::move(file.result)), info);
  });

  m.def("overlap",
        [](const EigenResult& result, const at::Tensor& parameters,
           const std::vector<std::tuple<std::string, std::vector<int64_t>, int64_t, bool>>& tensors,
           const std::vector<std::pair<int64_t, std::vector<std::array<int64_t, 3>>>>& units,
           const std::vector<bool>& eligible, int64_t random_masks, uint64_t seed, const Context& context) {
          OverlapCurves curves;
          Anatomy found;
          {
            const py::gil_scoped_release released;
            const Context::Scope scope(context);
            const OverlapOptions options{.random_masks = random_masks, .seed = seed};
            const ResultEigenspace computed(result.eigenvectors);
            const std::unique_ptr<const Eigenspace> copy = copy_on_device(computed, context);
            const Eigenspace& space = copy ? *copy : computed;
            std::vector<NamedShape> named;
            std::vector<int64_t> begins{0};
            for (const auto& [name, shape, parts, transposed] : tensors) {
              named.push_back({name, shape, parts, transposed});
              begins.push_back(begins.back() + ParameterSpec{name, shape}.numel());
            }
            std::vector<UnitGroup> groups;
            for (const auto& [count, blocks] : units) {
              UnitGroup& group = groups.emplace_back(UnitGroup{count, {}});
              for (const auto& [number, outer, inner] : blocks)
                group.blocks.push_back({begins.at(static_cast<size_t>(number)), outer, inner});
            }
            std::vector<UnitLayout> layouts = unit_layouts(named);
            const std::vector<size_t> tensor = tensors_of(layouts);
            for (size_t i = 0; i < layouts.size(); ++i) layouts[i].eligible = eligible.at(tensor[i]);
            curves = overlap_curves(space, parameters, layouts, options, context);
            if (result.replicates.defined())
              curves.spread_magnitude(space, result.replicates);
            else if (result.residuals.defined())
              curves.bound_magnitude(result.certificates.subspace);
            found = anatomy(space,
                            {{.scores = parameters,
                              .layouts = &layouts,
                              .curves = &curves,
                              .units = &groups,
                              .permutations = std::max<int64_t>(200, random_masks),
                              .seed = seed}},
                            options.piece_bytes, context);
          }
          py::dict all = curves_dict(curves);
          add_anatomy(found, all);
          return all;
        });
  m.def("nested_overlap", &nested_overlap, Released());
  m.def("magnitude_order", &magnitude_order, py::arg("parameters"), py::arg("count"),
        py::arg("eligible") = std::vector<char>(), Released());
  m.def("principal_angles", &principal_angles, Released());
  m.def(
      "metric",
      [](const std::string& name, const at::Tensor& angles) {
        return metric(metric_from_name(name), angles);
      },
      Released());

  // Losses by name (nn/loss.h), whose derivatives keep their digits.
  m.def(
      "loss_sum",
      [](const std::string& kind, double smoothing, const at::Tensor& outputs, const at::Tensor& targets) {
        return accurate_loss_sum(named_loss(kind, smoothing), outputs, targets);
      },
      Released());
  m.def("target_count", &target_count);
  m.def(
      "output_gradient",
      [](const std::string& kind, double smoothing, const at::Tensor& outputs, const at::Tensor& targets) {
        return output_gradient(named_loss(kind, smoothing), outputs, targets);
      },
      Released());
  m.def(
      "output_hessian_product",
      [](const std::string& kind, double smoothing, const at::Tensor& outputs, const at::Tensor& targets,
         const at::Tensor& u) {
        return output_hessian_product(named_loss(kind, smoothing), outputs, targets, u);
      },
      Released());
  m.def(
      "sampled_output_gradient",
      [](const std::string& kind, double smoothing, const at::Tensor& outputs, uint64_t seed, int64_t draw,
         int64_t row_begin) {
        return sampled_output_gradient(named_loss(kind, smoothing), outputs, seed, draw, row_begin);
      },
      Released());
}

}  // namespace seigh::python

PYBIND11_MODULE(_core, m) {
  seigh::python::define(m);
}
