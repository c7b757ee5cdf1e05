#include "seigh/base/version.h"

namespace seigh {

std::string version() {
  return SEIGH_VERSION;
}

}  // namespace seigh
