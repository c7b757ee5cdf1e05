#include "seigh/core/progress.h"

namespace seigh {

void Progress::begin(std::string_view, int64_t, std::string_view) {}
void Progress::advance(int64_t) {}
void Progress::end() {}
void Progress::note(std::string_view) {}

}  // namespace seigh
