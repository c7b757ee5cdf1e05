// What a computation says on the way.
#pragma once

#include <string>
#include <string_view>

#include "seigh/core/progress.h"

namespace seigh::test {

struct Notes final : Progress {
  void note(std::string_view text) override { all += text; }
  std::string all;
};

}  // namespace seigh::test
