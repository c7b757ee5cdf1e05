#include "seigh/data/cifar.h"

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/data/places.h"
#include "seigh/io/file.h"

extern char** environ;

namespace seigh {
namespace {

constexpr int64_t kClasses = 10, kChannels = 3, kSide = 32, kPlane = kSide * kSide,
                  kRecord = 1 + kChannels * kPlane;
constexpr const char* kName = "cifar-10";
constexpr const char* kSubfolder = "cifar-10-batches-bin";
constexpr const char* kArchive = "cifar-10-binary.tar.xz";
constexpr const char* kTestFile = "test_batch.bin";
constexpr const char* kAdvice =
    "; get the binary version of CIFAR-10 from its authors and pass its folder with --data";
const std::vector<std::string> kTrainFiles = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                              "data_batch_4.bin", "data_batch_5.bin"};

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Of the six files, how many `folder` has; the first it lacks.
struct Inventory {
  size_t found = 0;
  std::string missing;
  bool complete() const { return missing.empty(); }
};

Inventory inventory(const fs::path& folder) {
  std::vector<std::string> files = kTrainFiles;
  files.push_back(kTestFile);
  Inventory result;
  for (const std::string& file : files) {
    if (is_file(folder / file))
      ++result.found;
    else if (result.missing.empty())
      result.missing = file;
  }
  return result;
}

// Runs `tar -xJf archive -C folder`, silently; its first complaint is the message of the error thrown.
void run_tar(const fs::path& archive, const fs::path& folder) {
  const std::string archive_name = fs::absolute(archive).string(), folder_name = folder.string();
  const fs::path complaints = folder_name + ".stderr";
  const std::vector<const char*> arguments = {"tar",  "-xJf", archive_name.c_str(), "-C", folder_name.c_str(),
                                              nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, complaints.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                   0666);
  pid_t child = 0;
  const int spawned =
      posix_spawnp(&child, "tar", &actions, nullptr, const_cast<char* const*>(arguments.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (spawned == 0) {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  std::string reason;
  if (spawned != 0) {
    reason = std::strerror(spawned);
  } else if (status != 0) {
    reason = is_file(complaints) ? read_file(complaints) : "";
    reason = reason.substr(0, reason.find('\n'));
    if (reason.empty()) reason = "tar ended with status " + std::to_string(status);
  }
  std::error_code ignored;
  fs::remove(complaints, ignored);
  require(reason.empty(), "cannot unpack ", archive_name, " into ", folder_name, " with tar and xz: ", reason,
          "; are both installed, is the archive whole and the disk not full?");
}

// A folder that is removed with its content, unless it was renamed.
struct TemporaryFolder {
  fs::path path;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

// The folder of the six files in the cache, unpacked from `archive` unless it is there already.
fs::path unpacked(const fs::path& archive) {
  const fs::path cache = cache_folder();
  require(!cache.empty(), "cannot unpack ", archive.string(), ": neither XDG_CACHE_HOME nor HOME is set");
  const fs::path target = cache / kName / kSubfolder;
  if (inventory(target).complete()) return target;

  const TemporaryFolder temporary{unique_name(cache / kName)};
  std::error_code error;
  fs::create_directories(temporary.path, error);
  if (!error) fs::create_directories(target.parent_path(), error);
  require(!error, "cannot unpack ", archive.string(), ": no folder can be made in ", cache.string(), ": ",
          error.message(), "; set XDG_CACHE_HOME");
  run_tar(archive, temporary.path);
  const std::string missing = inventory(temporary.path / kSubfolder).missing;
  require(missing.empty(), archive.string(), ": holds no ", kSubfolder, "/", missing, kAdvice);
  fs::rename(temporary.path / kSubfolder, target, error);
  // Another process may have been faster; then its copy serves.
  require(!error || inventory(target).complete(), "cannot move the unpacked data to ", target.string(), ": ",
          error.message(), "; remove that folder");
  return target;
}

fs::path find_folder(const CifarOptions& options) {
  std::vector<fs::path> folders;
  for (const fs::path& place : data_places(options.data_folder, kName)) {
    folders.push_back(place / kSubfolder);
    folders.push_back(place);
  }
  for (const fs::path& folder : folders) {
    const Inventory files = inventory(folder);
    if (files.complete()) return folder;
    // Parts of two copies are never mixed.
    require(files.found == 0, "the data set ", kName, " in ", folder.string(), " lacks ", files.missing,
            kAdvice);
  }
  const std::vector<fs::path> places = data_places(options.data_folder, kName);
  for (const fs::path& place : places) {
    if (is_file(place / kArchive)) return unpacked(place / kArchive);
  }
  fail("the data set ", kName, " is not here: no ", kTrainFiles[0], " and no ", kArchive, " in ",
       listed(places), kAdvice);
}

// Pixels in [0, 1] to x [n, 3, 32, 32], labels to y [n], n = samples_per_file.
void read_records(const fs::path& path, int64_t samples, const at::Tensor& x, const at::Tensor& y) {
  const std::string bytes = read_file(path);
  require(static_cast<int64_t>(bytes.size()) == samples * kRecord, path.string(), ": expected ",
          samples * kRecord, " bytes (", samples, " records of ", kRecord, ") but it has ", bytes.size(),
          "; get it again");
  float* pixel = x.data_ptr<float>();
  int64_t* label = y.data_ptr<int64_t>();
  const auto* byte = reinterpret_cast<const uint8_t*>(bytes.data());
  for (int64_t n = 0; n < samples; ++n) {
    label[n] = *byte++;
    require(label[n] < kClasses, path.string(), ": label ", label[n], " of sample ", n, " is not among 0..",
            kClasses - 1, "; get it again");
    for (int64_t p = 0; p < kRecord - 1; ++p) *pixel++ = static_cast<float>(*byte++) / 255.0f;
  }
}

}  // namespace

DataSplits load_cifar10(const CifarOptions& options) {
  const int64_t per_file = options.samples_per_file, files = static_cast<int64_t>(kTrainFiles.size());
  require(per_file >= 1, "a CIFAR-10 file cannot have ", per_file, " samples");
  const int64_t all = files * per_file, train = all - options.validation_samples;
  require(options.validation_samples >= 0 && train >= 1, "validation samples must be between 0 and ", all - 1,
          ", not ", options.validation_samples);
  const fs::path folder = find_folder(options);

  const at::Tensor x = at::empty({all + per_file, kChannels, kSide, kSide}, at::kFloat);
  const at::Tensor y = at::empty({all + per_file}, at::kLong);
  for (int64_t i = 0; i <= files; ++i) {
    read_records(folder / (i < files ? kTrainFiles[static_cast<size_t>(i)] : kTestFile), per_file,
                 x.narrow(0, i * per_file, per_file), y.narrow(0, i * per_file, per_file));
  }
  if (options.normalise) {
    for (int64_t c = 0; c < kChannels; ++c) {
      const float* pixel = x.data_ptr<float>() + c * kPlane;
      double sum = 0, squares = 0;
      for (int64_t n = 0; n < train; ++n) {
        for (int64_t p = 0; p < kPlane; ++p) {
          const double value = pixel[n * kChannels * kPlane + p];
          sum += value;
          squares += value * value;
        }
      }
      const double count = static_cast<double>(train * kPlane), mean = sum / count;
      const double std = std::sqrt(squares / count - mean * mean);
      require(std > 1e-6, "channel ", c, " of the training images in ", folder.string(),
              " is constant and cannot be normalised");
      x.select(1, c).sub_(mean).div_(std);
    }
  }
  // Views of one tensor: the rows of all three are contiguous.
  const auto part = [&](int64_t begin, int64_t count) {
    return Dataset{x.narrow(0, begin, count), y.narrow(0, begin, count), kClasses};
  };
  DataSplits splits;
  splits.name = kName;
  splits.source = folder.string();
  splits.train = part(0, train);
  splits.validation = part(train, options.validation_samples);
  splits.test = part(all, per_file);
  return splits;
}

}  // namespace seigh
