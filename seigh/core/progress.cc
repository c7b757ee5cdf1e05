#include "seigh/core/progress.h"

namespace seigh {

void Progress::begin(std::string_view, int64_t, std::string_view) {}
void Progress::advance(int64_t) {}
void Progress::end() {}
void Progress::note(std::string_view) {}

Progress& silent_progress() {
  static Progress silent;
  return silent;
}

}  // namespace seigh
