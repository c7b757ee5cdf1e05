// What libtorch lacks without Python: forward derivatives of the backward passes of softmax and norm layers,
// as formulas in operations that have them.
#pragma once

namespace seigh {

/// Registers them with libtorch, once in a process; those that are there already (of torch in Python) stay.
void register_forward_formulas();

}  // namespace seigh
