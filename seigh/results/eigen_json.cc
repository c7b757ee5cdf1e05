#include "seigh/results/eigen_json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

namespace seigh {
namespace {

using nlohmann::json;

json number(double x) {
  return std::isfinite(x) ? json(x) : json();
}

}  // namespace

std::string eigen_json(const EigenFileInfo& info, const EigenResult& result) {
  json data = {{"method", result.method},
               {"selection", to_string(result.selection)},
               {"matrix", info.matrix},
               {"parameters", info.parameters},
               {"k", info.k},
               {"rank", result.rank},
               {"seed", result.seed},
               {"products", result.products},
               {"seconds", result.seconds},
               {"dtype", info.dtype},
               {"certified", result.certificates.certified()},
               {"rounding", number(result.rounding)}};
  data["error"] = result.error ? number(result.error->error()) : json();
  data["frobenius"] = result.error               ? number(result.error->frobenius())
                      : result.method == "dense" ? number(result.frobenius)
                                                 : json();
  const Certificates& c = result.certificates;
  json pairs = json::array();
  for (int64_t i = 0; i < result.rank; ++i) {
    json pair = {{"eigenvalue", number(result.eigenvalues[i].item<double>())}};
    if (result.residuals.defined()) {
      const double angle = c.angle[i].item<double>();
      const Trust trust = static_cast<Trust>(c.trust[i].item<int64_t>());
      pair["residual"] = number(result.residuals[i].item<double>());
      pair["trust"] = to_string(trust);
      pair["angle"] = trust >= Trust::cluster ? number(angle) : json();
      pair["enclosure"] = {number(c.low[i].item<double>()), number(c.high[i].item<double>())};
      pair["place"] = {c.first[i].item<int64_t>(), c.last[i].item<int64_t>()};
    }
    pairs.push_back(std::move(pair));
  }
  data["pairs"] = std::move(pairs);
  return data.dump(1, ' ', false, json::error_handler_t::replace);
}

}  // namespace seigh
