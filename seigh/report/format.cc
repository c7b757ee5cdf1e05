#include "seigh/report/format.h"

#include <cstdarg>
#include <cstdio>

namespace seigh {

std::string format(const char* pattern, ...) {
  char text[300];
  std::va_list values;
  va_start(values, pattern);
  std::vsnprintf(text, sizeof(text), pattern, values);
  va_end(values);
  return text;
}

}  // namespace seigh
