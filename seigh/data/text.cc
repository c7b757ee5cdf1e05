#include "seigh/data/text.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>

#include <array>
#include <system_error>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/data/places.h"
#include "seigh/io/file.h"

namespace seigh {

namespace {

fs::path find_text(const TextOptions& options) {
  require(!options.name.empty() && options.name.find('/') == std::string::npos,
          "a text is named without its folder, not \"", options.name, "\"; pass --data FOLDER");
  const std::vector<fs::path> places = data_places(options.data_folder, options.name);
  for (const fs::path& place : places) {
    std::error_code ignored;
    if (fs::is_regular_file(place / (options.name + ".txt"), ignored)) return place / (options.name + ".txt");
  }
  fail("the text ", options.name, " is not here: no ", options.name, ".txt in ", listed(places),
       "; pass --data FOLDER");
}

}  // namespace

DataSplits load_text(const TextOptions& options) {
  const int64_t context = options.context;
  require(context >= 1, "a context of ", context, " characters is not possible");
  const fs::path path = find_text(options);
  const std::string bytes = read_file(path);

  std::array<int64_t, 256> rank{};
  for (const char c : bytes) rank[static_cast<uint8_t>(c)] = 1;
  int64_t classes = 0;
  for (int64_t& entry : rank) entry = entry == 0 ? -1 : classes++;

  // Windows of bytes [begin, end): T characters and the one after them.
  const auto part = [&](int64_t begin, int64_t end, const char* what) {
    const int64_t windows = (end - begin - 1) / context;
    require(end - begin > context, path.string(), ": the ", what, " part has ", end - begin,
            " characters, too few for a context of ", context, " and the character after it");
    const at::Tensor classes_of = at::empty({windows * context + 1}, at::kLong);
    int64_t* out = classes_of.data_ptr<int64_t>();
    for (int64_t i = 0; i < classes_of.numel(); ++i)
      out[i] = rank[static_cast<uint8_t>(bytes[static_cast<size_t>(begin + i)])];
    const auto windowed = [&](int64_t shift) {
      return classes_of.narrow(0, shift, windows * context).reshape({windows, context});
    };
    return Dataset{windowed(0), windowed(1), classes};
  };
  const auto length = static_cast<int64_t>(bytes.size()), train = length * 9 / 10;
  DataSplits splits;
  splits.name = options.name;
  splits.source = path.parent_path().string();
  splits.train = part(0, train, "training");
  splits.test = part(train, length, "test");
  splits.validation = {splits.train.x.narrow(0, 0, 0), splits.train.y.narrow(0, 0, 0), classes};
  return splits;
}

at::Tensor first_subset(int64_t samples, int64_t count, int64_t subset) {
  require(0 <= count && count <= samples, "a subset of ", count, " samples cannot be taken of ", samples);
  require(0 <= subset && (count == 0 || subset < samples / count), "disjoint subset number ", subset, " of ",
          count, " samples cannot be taken of ", samples, "; ask for fewer samples or subsets");
  return at::arange(subset * count, (subset + 1) * count, at::kLong);
}

}  // namespace seigh
