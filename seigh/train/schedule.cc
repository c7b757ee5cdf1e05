#include "seigh/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "seigh/core/error.h"

namespace seigh {

Schedule::Kind parse_schedule(const std::string& name) {
  if (name == "constant") return Schedule::Kind::constant;
  if (name == "cosine") return Schedule::Kind::cosine;
  if (name == "step") return Schedule::Kind::step;
  fail("unknown schedule \"", name, "\"; choose constant, cosine or step");
}

void Schedule::validate() const {
  require(warmup >= 0, "warm-up must not be negative: ", warmup);
  require(kind != Kind::cosine || warmup < steps, "a warm-up of ", warmup, " steps leaves none of ", steps,
          " to the cosine");
  require(std::is_sorted(milestones.begin(), milestones.end()), "milestones must ascend");
  require(milestones.empty() || milestones.front() >= 1, "milestones must be at least 1");
  require(0 < decay && decay <= 1, "the decay at milestones must be positive and at most 1, not ", decay);
}

double Schedule::factor(int64_t t) const {
  if (t <= warmup) return static_cast<double>(t) / static_cast<double>(warmup);
  switch (kind) {
    case Kind::constant:
      return 1;
    case Kind::cosine: {
      const double done = static_cast<double>(t - 1 - warmup) / static_cast<double>(steps - warmup);
      return (1 + std::cos(std::numbers::pi * std::min(done, 1.0))) / 2;
    }
    case Kind::step:
      return std::pow(decay, std::lower_bound(milestones.begin(), milestones.end(), t) - milestones.begin());
  }
  fail("schedule out of range");
}

}  // namespace seigh
