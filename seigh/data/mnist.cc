// load_mnist() of dataset.h: finding, checking and preparing the four files.
#include <ATen/core/Tensor.h>

#include <string>
#include <system_error>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/data/dataset.h"
#include "seigh/data/idx.h"
#include "seigh/data/places.h"
#include "seigh/data/resize.h"
#include "seigh/io/limits.h"

namespace seigh {
namespace {

constexpr int64_t kClasses = 10;
// Bytes that are made of one of a file: itself, and 32 or 64 bits with one copy of them meanwhile.
constexpr int64_t kOfAByte = 9;
constexpr const char* kTrainImages = "train-images-idx3-ubyte";
constexpr const char* kTrainLabels = "train-labels-idx1-ubyte";
constexpr const char* kTestImages = "t10k-images-idx3-ubyte";
constexpr const char* kTestLabels = "t10k-labels-idx1-ubyte";

// `folder`/`file`, plain or else compressed; empty when neither is there.
fs::path find(const fs::path& folder, const std::string& file) {
  std::error_code ignored;
  for (const std::string& name : {file, file + ".gz"})
    if (fs::is_regular_file(folder / name, ignored)) return folder / name;
  return {};
}

// The folder to read from: the first with any of the four files. All four must be there, so that parts of two
// data sets are never mixed.
fs::path find_folder(const MnistOptions& options) {
  const std::vector<fs::path> folders = data_places(options.data_folder, options.name);
  const std::string advice =
      options.name == "mnist" ? "; put its four files there or pass --data FOLDER"
                              : "; get it with scripts/fetch-data " + options.name + " or pass --data FOLDER";
  for (const fs::path& folder : folders) {
    std::string missing;
    int found = 0;
    for (const char* file : {kTrainImages, kTrainLabels, kTestImages, kTestLabels}) {
      if (!find(folder, file).empty())
        ++found;
      else if (missing.empty())
        missing = file;
    }
    if (found == 4) return folder;
    require(found == 0, "the data set ", options.name, " in ", folder.string(), " lacks ", missing, " (or ",
            missing, ".gz)", advice);
  }
  fail("the data set ", options.name, " is not here: no ", kTrainImages, " (or ", kTrainImages, ".gz) in ",
       listed(folders), advice);
}

Dataset load(const fs::path& image_file, const fs::path& label_file, int64_t image_size) {
  const at::Tensor images = read_idx(image_file, 3, kOfAByte);
  const at::Tensor labels = read_idx(label_file, 1, kOfAByte);
  require(images.size(0) == labels.size(0), image_file.string(), " has ", images.size(0), " images but ",
          label_file.string(), " has ", labels.size(0), " labels; get both again");
  require(images.numel() > 0, image_file.string(), ": holds no images; get it again");
  const uint8_t* label = labels.data_ptr<uint8_t>();
  for (int64_t i = 0; i < labels.numel(); ++i)
    require(label[i] < kClasses, label_file.string(), ": label ", int{label[i]}, " of sample ", i,
            " is not among 0..", kClasses - 1, "; get it again");
  require_room(image_file.string() + ", resized,", images.size(0) * image_size * image_size * kOfAByte);
  const at::Tensor resized = resize_bilinear(images, image_size, image_size);
  return {resized.unsqueeze(1).to(at::kFloat).div_(255), labels.to(at::kLong), kClasses};
}

}  // namespace

DataSplits load_mnist(const MnistOptions& options) {
  require(options.name == "mnist" || options.name == "fashion-mnist", "unknown data set '", options.name,
          "'; mnist and fashion-mnist are known");
  require(options.image_size >= 1 && options.image_size <= 1024,
          "image size must be between 1 and 1024 pixels, not ", options.image_size);
  const fs::path folder = find_folder(options);
  const Dataset all = load(find(folder, kTrainImages), find(folder, kTrainLabels), options.image_size);
  require(options.validation_samples >= 0 && options.validation_samples < all.size(),
          "validation samples must be between 0 and ", all.size() - 1, " (one less than ", folder.string(),
          " has for training), not ", options.validation_samples);
  const int64_t train = all.size() - options.validation_samples;
  DataSplits splits;
  splits.name = options.name;
  splits.source = folder.string();
  // Views of one tensor: the rows of both are contiguous.
  splits.train = {all.x.narrow(0, 0, train), all.y.narrow(0, 0, train), kClasses};
  splits.validation = {all.x.narrow(0, train, options.validation_samples),
                       all.y.narrow(0, train, options.validation_samples), kClasses};
  splits.test = load(find(folder, kTestImages), find(folder, kTestLabels), options.image_size);
  return splits;
}

}  // namespace seigh
