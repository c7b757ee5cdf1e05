// How the learning rate changes over training.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace seigh {

struct Schedule {
  enum class Kind {
    constant,
    cosine,  ///< (1 + cos(pi (t - 1 - warmup) / (steps - warmup))) / 2 (Loshchilov & Hutter, "SGDR", 2017,
             ///< without restarts): 1 at the first step after warm-up, zero after step `steps`
    step,    ///< `decay` to the power of the number of milestones before t
  };
  Kind kind = Kind::constant;
  int64_t warmup = 0;  ///< the first steps; step t <= warmup takes t / warmup of the rate: linear, reaching 1
  int64_t steps = 0;   ///< of cosine: length of the whole training, warm-up included
  std::vector<int64_t> milestones = {};  ///< of step: ascending, at least 1
  double decay = 0.1;                    ///< of step: positive, at most 1

  /// Throws Error on values outside these ranges, and on a warm-up as long as a cosine.
  void validate() const;
  /// What the learning rate is multiplied by at step t (counted from 1).
  double factor(int64_t t) const;
};

/// "constant", "cosine" or "step"; throws Error on another name.
Schedule::Kind parse_schedule(const std::string& name);

}  // namespace seigh
