#include "seigh/nn/zoo.h"

#include <functional>
#include <numeric>
#include <utility>

#include "seigh/core/error.h"

namespace seigh {

const std::vector<std::string>& model_kinds() {
  static const std::vector<std::string> kinds = {"mlp",      "3c3d", "all-cnn-c",
                                                 "resnet18", "vit",  "transformer"};
  return kinds;
}

std::unique_ptr<Model> make_model(const ModelOptions& options, const std::vector<int64_t>& input_shape,
                                  int64_t classes) {
  if (options.kind == "mlp") {
    require(!input_shape.empty(),
            "mlp: samples of shape [features] or more dimensions are needed, not single numbers");
    std::vector<int64_t> widths = {
        std::accumulate(input_shape.begin(), input_shape.end(), int64_t{1}, std::multiplies<>())};
    widths.insert(widths.end(), options.mlp.hidden.begin(), options.mlp.hidden.end());
    widths.push_back(classes);
    return std::make_unique<Mlp>(std::move(widths), options.mlp.activation);
  }
  if (options.kind == "3c3d") return std::make_unique<ThreeC3d>(input_shape, classes, options.three_c3d);
  if (options.kind == "all-cnn-c") return std::make_unique<AllCnn>(input_shape, classes, options.all_cnn);
  if (options.kind == "resnet18") return std::make_unique<ResNet>(input_shape, classes, options.resnet);
  if (options.kind == "vit") return std::make_unique<Vit>(input_shape, classes, options.vit);
  if (options.kind == "transformer")
    return std::make_unique<Transformer>(input_shape, classes, options.transformer);
  std::string known;
  for (const std::string& kind : model_kinds()) known += (known.empty() ? "" : ", ") + kind;
  fail("unknown model \"", options.kind, "\"; choose one of ", known);
}

}  // namespace seigh
