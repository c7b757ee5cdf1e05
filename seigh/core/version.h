#pragma once

#include <string>

namespace seigh {

/// Version of the library: "0.1.0".
std::string version();

}  // namespace seigh
