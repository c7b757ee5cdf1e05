#include "seigh/data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/io/limits.h"

namespace seigh {

at::Tensor read_idx(const fs::path& file, int64_t rank, int64_t times) {
  const std::string path = file.string();
  require_file(path, !fs::is_directory(file), "cannot read ", path, ": it is a folder");
  errno = 0;
  // gzopen reads files that are not compressed as they are.
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> in(gzopen(path.c_str(), "rb"), gzclose_r);
  require_file(path, in != nullptr, "cannot read ", path, ": ",
               errno != 0 ? std::strerror(errno) : "out of memory");
  gzbuffer(in.get(), 1 << 18);
  // Bytes read; fewer than `count` only at the end of the file.
  const auto read = [&](unsigned char* into, int64_t count) {
    const int got = gzread(in.get(), into, static_cast<unsigned>(count));
    int error = Z_OK;
    const char* message = gzerror(in.get(), &error);
    // Z_BUF_ERROR is gzip data that stop before their end: to the caller, a short file.
    require(got >= 0 && (error == Z_OK || error == Z_BUF_ERROR), path, ": damaged gzip data (", message,
            "); get it again");
    return int64_t{got};
  };

  // 00 00 08 rank, then the sizes and the data. 08: unsigned bytes.
  std::vector<unsigned char> header(static_cast<size_t>(4 + 4 * rank));
  const int64_t header_bytes = read(header.data(), static_cast<int64_t>(header.size()));
  require(header_bytes >= 4, path, ": truncated in its magic number (", header_bytes,
          " bytes); get it again");
  require(header[0] == 0 && header[1] == 0 && header[2] == 8, path,
          ": not an IDX file of unsigned bytes (it begins with ", int{header[0]}, " ", int{header[1]}, " ",
          int{header[2]}, ", not 0 0 8)");
  require(header[3] == rank, path, ": has rank ", int{header[3]}, ", not ", rank,
          "; are the files of images and labels mixed up?");
  require(header_bytes == static_cast<int64_t>(header.size()), path,
          ": truncated in its sizes; get it again");
  std::vector<int64_t> shape;
  int64_t size = 1;
  for (int64_t d = 0; d < rank; ++d) {
    const unsigned char* b = header.data() + 4 + 4 * d;
    shape.push_back(int64_t{b[0]} << 24 | b[1] << 16 | b[2] << 8 | b[3]);
    require(!__builtin_mul_overflow(size, std::max<int64_t>(1, shape.back()), &size), path,
            ": damaged (sizes too large)");
  }
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) size = 0;

  // Deflate makes at most 1032 bytes of one: what its sizes promise beyond that cannot be there.
  constexpr uint64_t kMostOfAByte = 1032;
  std::error_code unknown;
  const uint64_t stored = fs::file_size(file, unknown);
  require(unknown || static_cast<uint64_t>(size) / kMostOfAByte <= stored, path,
          ": truncated: its sizes promise ", size, " bytes of data, which a file of ", stored,
          " bytes cannot hold; get it again");
  require_room(path, size > room() / times ? std::numeric_limits<int64_t>::max() : size * times);
  const at::Tensor tensor = empty_for(path, shape, at::kByte);
  auto* const data = tensor.data_ptr<unsigned char>();
  constexpr int64_t kPiece = 16 << 20;
  for (int64_t used = 0; used < size;) {
    const int64_t want = std::min(kPiece, size - used), got = read(data + used, want);
    used += got;
    require(got == want, path, ": truncated: its sizes promise ", size, " bytes of data but ", used,
            " are there; get it again");
  }
  unsigned char extra = 0;
  require(read(&extra, 1) == 0, path, ": damaged: more than the ", size,
          " bytes of data its sizes promise; get it again");
  // A compressed file ends with a checksum; without it the last bytes are unproven.
  int error = Z_OK;
  gzerror(in.get(), &error);
  require(error == Z_OK, path, ": truncated at its end; get it again");

  return tensor;
}

}  // namespace seigh
