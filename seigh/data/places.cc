#include "seigh/data/places.h"

#include <cstdlib>

namespace seigh {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

fs::path cache_folder() {
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) return fs::path(cache) / "seigh";
  if (const std::string home = variable("HOME"); !home.empty()) return fs::path(home) / ".cache/seigh";
  return {};
}

std::vector<fs::path> data_places(const fs::path& data_folder, const std::string& name) {
  std::vector<fs::path> places;
  const auto add = [&](const fs::path& folder) {
    if (folder.empty()) return;
    places.push_back(folder / name);
    places.push_back(folder);
  };
  if (!data_folder.empty()) {
    add(data_folder);
    return places;
  }
  add(variable("SEIGH_DATA"));
  add(cache_folder());
  // Debian's packages. Never its neighbours: different data sets have the same file names.
  places.push_back(fs::path("/usr/share/datasets") / name);
  return places;
}

std::string listed(const std::vector<fs::path>& places) {
  std::string text;
  for (const fs::path& place : places) text += (text.empty() ? "" : ", ") + place.string();
  return text;
}

}  // namespace seigh
