// Devices by name.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace seigh {

/// "cpu", "cuda", "cuda:1" or what else libtorch has a name for; without a number the first one. Throws
/// Error, which says what to do, unless tensors can be made and computed with there: on a name that libtorch
/// does not know, a libtorch built without such devices, a machine without them, and a number out of range.
c10::Device usable_device(const std::string& name);

}  // namespace seigh
