#include "seigh/core/version.h"

namespace seigh {

std::string version() {
  return SEIGH_VERSION;
}

}  // namespace seigh
