// Devices by name.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "seigh/core/context.h"
#include "seigh/core/ranks.h"

namespace seigh {

/// "cpu", "cuda", "cuda:1" or what else libtorch has a name for; without a number the first one. Throws
/// Error, which says what to do, unless tensors can be made and computed with there: on a name that libtorch
/// does not know, a libtorch built without such devices, a machine without them, and a number out of range.
/// Of several ranks on one machine that see the same devices, each takes the next one where the name has no
/// number.
c10::Device usable_device(const std::string& name, const Ranks& ranks = Ranks());

/// What tells libtorch which accelerators of the machine to see, from the environment: processes for which it
/// is the same number them alike.
std::string visible_devices();

/// The context on that device. Ranks that take the same one have equal parts of its memory, unless the
/// context has a ceiling for it.
Context on_device(const Context& context, const std::string& name);
/// A context of one of so many ranks that compute on its device.
Context sharing_device(const Context& context, int ranks);

}  // namespace seigh
