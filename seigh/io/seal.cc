#include "seigh/io/seal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

#include "seigh/core/error.h"
#include "seigh/io/crc64.h"

namespace seigh {
namespace {

constexpr std::string_view kMark = "seigh seal 1\n";

// An open file, read and written at given places.
class File {
 public:
  File(const fs::path& path, int flags) : path_(path), descriptor_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (descriptor_ < 0) fail_with(std::strerror(errno));
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int64_t size() const {
    const off_t end = ::lseek(descriptor_, 0, SEEK_END);
    if (end < 0) fail_with(std::strerror(errno));
    return end;
  }

  // Fewer bytes only at the end of the file.
  size_t read(char* to, size_t count, int64_t offset) const {
    size_t used = 0;
    while (used < count) {
      const ssize_t got = ::pread(descriptor_, to + used, count - used, offset + static_cast<int64_t>(used));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_with(std::strerror(errno));
      if (got == 0) break;
      used += static_cast<size_t>(got);
    }
    return used;
  }

  void write(std::string_view bytes, int64_t offset) const {
    while (!bytes.empty()) {
      const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
      if (count < 0 && errno == EINTR) continue;
      require_file(path_, count > 0, "cannot write ", path_.string(), ": ", std::strerror(errno));
      bytes.remove_prefix(static_cast<size_t>(count));
      offset += count;
    }
  }

  // The checksum of a range, behind bytes whose checksum is `before`.
  uint64_t sum(int64_t begin, int64_t end, uint64_t before = 0) const {
    std::vector<char> piece(static_cast<size_t>(std::clamp<int64_t>(end - begin, 1, int64_t{1} << 20)));
    while (begin < end) {
      const size_t want = std::min(piece.size(), static_cast<size_t>(end - begin));
      if (read(piece.data(), want, begin) < want) fail_with("the file is truncated");
      before = crc64(piece.data(), want, before);
      begin += static_cast<int64_t>(want);
    }
    return before;
  }

  // Of all behind the seal but the parts.
  uint64_t rest(const Seal& seal, int64_t end) const {
    uint64_t sum_so_far = 0;
    int64_t begin = kSealBytes;
    for (const Seal::Part& part : seal.parts) {
      sum_so_far = sum(begin, part.offset, sum_so_far);
      begin = part.offset + part.bytes;
    }
    return sum(begin, end, sum_so_far);
  }

 private:
  [[noreturn]] void fail_with(const char* why) const {
    fail_file(path_, "cannot read ", path_.string(), ": ", why);
  }

  fs::path path_;
  int descriptor_;
};

std::string text_of_seal(const Seal& seal, int64_t bytes, uint64_t rest) {
  std::string text(kMark);
  text += "bytes " + std::to_string(bytes) + "\nrest " + hexadecimal(rest) + "\n";
  for (const Seal::Part& part : seal.parts)
    text += "part " + std::to_string(part.offset) + " " + std::to_string(part.bytes) + " " +
            (part.sum ? hexadecimal(*part.sum) : "in the file") + "\n";
  text += "seal " + hexadecimal(crc64(text)) + "\n";
  text.resize(kSealBytes, '\0');
  return text;
}

// What stands in a seal, which must be exactly what text_of_seal() makes of it.
struct Written {
  Seal seal;
  int64_t bytes = 0;
  uint64_t rest = 0;
};

std::optional<Written> parse(std::string_view text) {
  const std::string_view whole = text;
  const auto take = [&](std::string_view word) {
    if (!text.starts_with(word)) return false;
    text.remove_prefix(word.size());
    return true;
  };
  const auto number = [&](auto& value, int base, char end) {
    const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (code != std::errc() || stop == text.data() + text.size() || *stop != end) return false;
    text.remove_prefix(static_cast<size_t>(stop - text.data()) + 1);
    return true;
  };
  Written w;
  if (!take(kMark) || !take("bytes ") || !number(w.bytes, 10, '\n') || !take("rest ") ||
      !number(w.rest, 16, '\n'))
    return std::nullopt;
  int64_t end = kSealBytes;
  while (take("part ")) {
    Seal::Part part;
    uint64_t sum = 0;
    if (!number(part.offset, 10, ' ') || !number(part.bytes, 10, ' ')) return std::nullopt;
    if (!take("in the file\n")) {
      if (!number(sum, 16, '\n')) return std::nullopt;
      part.sum = sum;
    }
    if (part.offset < end || part.bytes < 0 || part.bytes > w.bytes - part.offset) return std::nullopt;
    end = part.offset + part.bytes;
    w.seal.parts.push_back(part);
  }
  if (end > w.bytes || text_of_seal(w.seal, w.bytes, w.rest) != whole) return std::nullopt;
  return w;
}

[[noreturn]] void fail_damaged(const fs::path& path, const char* what) {
  fail_file(path, path.string(), " is damaged: ", what);
}

}  // namespace

void write_seal(const fs::path& path, Seal seal) {
  const File file(path, O_RDWR);
  const int64_t size = file.size();
  std::sort(seal.parts.begin(), seal.parts.end(),
            [](const Seal::Part& a, const Seal::Part& b) { return a.offset < b.offset; });
  require(seal.parts.size() <= Seal::kMostParts, "a seal has room for ", Seal::kMostParts, " parts, not for ",
          seal.parts.size());
  for (Seal::Part& part : seal.parts)
    if (part.sum) part.sum = file.sum(part.offset, part.offset + part.bytes);
  file.write(text_of_seal(seal, size, file.rest(seal, size)), 0);
}

std::optional<Seal> checked_seal(const fs::path& path) {
  const File file(path, O_RDONLY);
  std::string text(kSealBytes, '\0');
  const size_t got = file.read(text.data(), text.size(), 0);
  if (!std::string_view(text).starts_with(kMark)) return std::nullopt;
  const std::optional<Written> written = got == text.size() ? parse(text) : std::nullopt;
  if (!written) fail_damaged(path, "its seal is not what was written");
  if (file.size() != written->bytes)
    fail_damaged(path,
                 file.size() < written->bytes ? "it is truncated" : "it is longer than what was written");
  if (file.rest(written->seal, written->bytes) != written->rest)
    fail_damaged(path, "the checksum does not match what was written");
  return written->seal;
}

void check_part(const fs::path& path, const Seal::Part& part) {
  if (part.sum && File(path, O_RDONLY).sum(part.offset, part.offset + part.bytes) != *part.sum)
    fail_damaged(path, "the checksum does not match what was written");
}

}  // namespace seigh
