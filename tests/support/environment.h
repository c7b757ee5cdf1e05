// Environment variables for one test.
#pragma once

#include <cstdlib>
#include <map>
#include <string>

#include "seigh/core/filesystem.h"

namespace seigh::test {

/// Sets variables and puts their old values back; an empty value unsets.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const auto& [name, value] : variables) {
      const char* old = std::getenv(name.c_str());
      old_[name] = old != nullptr ? old : "";
      set(name, value);
    }
  }
  ~Environment() {
    for (const auto& [name, value] : old_) set(name, value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  static void set(const std::string& name, const std::string& value) {
    value.empty() ? unsetenv(name.c_str()) : setenv(name.c_str(), value.c_str(), 1);
  }
  std::map<std::string, std::string> old_;
};

}  // namespace seigh::test
