// How long is one curvature-vector product of convolutional networks and transformers, how far is it from the
// floor of 6F (Gauss-Newton 4F) floating-point operations at the machine's matrix-product rate, from the
// textbook way (double backward redone for each vector), and how does it grow with vectors and samples?
//
//   network_products [NAME]     only the networks whose name begins so
#include <ATen/Parallel.h>
#include <c10/util/accumulate.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "bench/support.h"
#include "seigh/core/context.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/nn/zoo.h"

using namespace seigh;

namespace {

struct Network {
  std::string name;
  ModelOptions model;
  std::vector<int64_t> sample;
  int64_t classes, samples, block;
};

std::vector<Network> networks() {
  std::vector<Network> all;
  ModelOptions m;
  m.kind = "3c3d";
  all.push_back({"3c3d", m, {3, 32, 32}, 10, 500, 32});
  m.kind = "all-cnn-c";
  all.push_back({"all-cnn-c", m, {3, 32, 32}, 10, 100, 8});
  m.kind = "resnet18";
  m.resnet.stem = parse_stem("imagenet");
  all.push_back({"resnet18 (imagenet stem)", m, {3, 32, 32}, 10, 500, 8});
  m.resnet.stem = parse_stem("cifar");
  all.push_back({"resnet18 (cifar stem)", m, {3, 32, 32}, 10, 64, 8});
  m.resnet.norm = parse_norm("group");
  all.push_back({"resnet18 (group norm)", m, {3, 32, 32}, 10, 64, 8});
  m.kind = "vit";
  all.push_back({"vit", m, {3, 32, 32}, 10, 100, 8});
  m.kind = "transformer";
  all.push_back({"transformer", m, {64}, 65, 100, 8});
  m.transformer.experts = 4;
  all.push_back({"transformer (4 experts)", m, {64}, 65, 100, 8});
  return all;
}

Dataset make_data(const Network& net, int64_t n) {
  const int64_t numbers = c10::multiply_integers(net.sample);
  std::vector<int64_t> shape = net.sample;
  shape.insert(shape.begin(), n);
  if (net.model.kind == "transformer") {
    const at::Tensor tokens =
        at::arange(n * numbers).mul(7919).remainder(1013).remainder(net.classes).view(shape);
    return {tokens, tokens.roll(-1, 1), net.classes};
  }
  return {random_gaussian(1, Stream::test, n, 0, numbers, at::kFloat).reshape(shape),
          at::arange(n).remainder(net.classes), net.classes};
}

// Seconds per product of the textbook way at libtorch's defaults; to be run in a process of its own, in which
// neither the memory pool nor the convolution derivatives are installed.
double textbook(const Network& net, int64_t batch) {
  const auto model = make_model(net.model, net.sample, net.classes);
  const Dataset data = make_data(net, net.samples);
  const at::Tensor leaf = model->initial_parameters(1).requires_grad_(true);
  const at::Tensor v = random_gaussian(2, Stream::test, leaf.numel(), 0, 1, at::kFloat).select(1, 0);
  return bench::median_seconds(3, [&] {
    at::Tensor sum = at::zeros_like(v);
    for (int64_t begin = 0; begin < data.size(); begin += batch) {
      const at::Tensor outputs =
          model->forward(unflatten(model->parameters(), leaf), model->initial_buffers(),
                         data.x.slice(0, begin, begin + batch));
      const at::Tensor loss =
          loss_sum({}, outputs, data.y.slice(0, begin, begin + batch)) / target_count(data.y);
      const at::Tensor g = torch::autograd::grad({loss}, {leaf}, {}, true, /*create_graph=*/true)[0];
      sum += torch::autograd::grad({g}, {leaf}, {v})[0];
    }
  });
}

double product_seconds(const Network& net, CurvatureKind kind, int64_t samples, int64_t block,
                       int repeats = 3, int64_t* peak = nullptr) {
  const Context context;
  const auto model = make_model(net.model, net.sample, net.classes);
  AutogradCurvatureOperator op(*model, model->initial_parameters(1), model->initial_buffers(),
                               make_data(net, samples), {.kind = kind}, net.name, context);
  const at::Tensor v = random_gaussian(2, Stream::test, op.size(), 0, block, at::kFloat);
  const double median = bench::median_seconds(repeats, [&] { op.apply(v); }) / static_cast<double>(block);
  if (peak != nullptr) *peak = context.memory().peak();
  return median;
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(available_cores());
  if (argc == 3 && std::string(argv[1]) == "--textbook") {
    std::printf("%.6f\n", textbook(networks()[0], std::atoi(argv[2])));
    return 0;
  }
  const double rate = bench::gemm_rate(at::kFloat);
  std::printf("matrix products on %d threads: %.0f GFLOP/s float32\n", at::get_num_threads(), rate / 1e9);
  std::printf("%-26s %9s %7s %5s %-8s %8s %8s %6s %8s %9s\n", "network", "D", "samples", "block", "matrix",
              "s/product", "floor s", "%", "GFLOP/s", "peak");
  for (const Network& net : networks()) {
    if (argc > 1 && !net.name.starts_with(argv[1])) continue;
    const auto model = make_model(net.model, net.sample, net.classes);
    const Dataset data = make_data(net, net.samples);
    const double flops = bench::count_flops([&] {
      const at::NoGradGuard no_grad;
      model->forward(unflatten(model->parameters(), model->initial_parameters(1)), model->initial_buffers(),
                     data.x);
    });
    for (const CurvatureKind kind : {CurvatureKind::hessian, CurvatureKind::ggn}) {
      int64_t peak = 0;
      const double seconds = product_seconds(net, kind, net.samples, net.block, 3, &peak);
      const double needed = (kind == CurvatureKind::hessian ? 6 : 4) * flops;
      std::printf("%-26s %9lld %7lld %5lld %-8s %8.3f %8.3f %6.1f %8.0f %9s\n", net.name.c_str(),
                  static_cast<long long>(model->parameter_count()), static_cast<long long>(net.samples),
                  static_cast<long long>(net.block), to_string(kind).c_str(), seconds, needed / rate,
                  100 * needed / rate / seconds, needed / seconds / 1e9, format_bytes(peak).c_str());
      std::fflush(stdout);
    }
  }
  if (argc > 1 && std::string(argv[1]) != "3c3d") return 0;
  const Network net = networks()[0];
  for (const int64_t block : {2, 8, 32}) {
    std::printf("3c3d, 500 samples, block of %2lld: %.3f s per product\n", static_cast<long long>(block),
                product_seconds(net, CurvatureKind::hessian, 500, block, 1));
  }
  for (const int64_t samples : {125, 250, 500, 1000}) {
    const double seconds = product_seconds(net, CurvatureKind::hessian, samples, 8, 1);
    std::printf("3c3d, %4lld samples, block of 8: %.3f s per product, %.2f ms per sample\n",
                static_cast<long long>(samples), seconds, 1e3 * seconds / static_cast<double>(samples));
  }
  for (const char* batch : {"500", "100"}) {
    std::printf("3c3d, textbook way, %s samples at once: ", batch);
    std::fflush(stdout);
    const std::string command = "'" + std::string(argv[0]) + "' --textbook " + batch;
    if (std::system(command.c_str()) != 0) return 1;
  }
}
