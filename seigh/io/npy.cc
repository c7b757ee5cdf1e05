#include "seigh/io/npy.h"

#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/io/file.h"
#include "seigh/io/limits.h"

namespace seigh {
namespace {

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// Reads the header's Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. The
// three keys may come in any order.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  Header parse() {
    Header header;
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!take('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr") {
        // Structured types are lists of fields here.
        require(peek() == '\'' || peek() == '"', path_,
                ": arrays of structures cannot be read; save a plain array");
        header.descr = quoted();
        has_descr = true;
      } else if (key == "fortran_order") {
        header.fortran_order = boolean();
        has_order = true;
      } else if (key == "shape") {
        header.shape = tuple();
        has_shape = true;
      } else {
        bad("unknown key '" + key + "'");
      }
      if (!take(',') && peek() != '}') bad("',' expected");
    }
    if (!has_descr || !has_order || !has_shape) bad("descr, fortran_order or shape is missing");
    return header;
  }

 private:
  [[noreturn]] void bad(const std::string& what) const { fail(path_, ": damaged .npy header (", what, ")"); }

  char peek() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) bad(std::string("'") + c + "' expected");
  }
  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') bad("string expected");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) bad("string without end");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    peek();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    bad("True or False expected");
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> values;
    expect('(');
    while (!take(')')) {
      if (!std::isdigit(static_cast<unsigned char>(peek()))) bad("size expected");
      int64_t value = 0;
      for (; at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); ++at_)
        if (__builtin_mul_overflow(value, int64_t{10}, &value) ||
            __builtin_add_overflow(value, int64_t{text_[at_] - '0'}, &value))
          bad("size too large");
      values.push_back(value);
      if (!take(',') && peek() != ')') bad("',' expected");
    }
    return values;
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0;
};

at::ScalarType dtype_of(const std::string& descr, const std::string& path) {
  if (descr == "<f4") return at::kFloat;
  if (descr == "<f8") return at::kDouble;
  if (descr == "<c8") return at::kComplexFloat;
  if (descr == "<c16") return at::kComplexDouble;
  if (descr == "<i4") return at::kInt;
  if (descr == "<i8") return at::kLong;
  if (descr == "|u1" || descr == "<u1") return at::kByte;
  fail(path, ": dtype '", descr,
       "' cannot be read; save the array as float32, float64, complex64, complex128, int32, int64 or uint8 "
       "(little-endian), e.g. with array.astype('<f8')");
}

}  // namespace

at::Tensor read_npy(const fs::path& file) {
  const std::string path = file.string();
  std::error_code error;
  const auto status = fs::status(file, error);
  require_file(path, !fs::is_directory(status), "cannot read ", path, ": it is a folder");
  require_file(path, !fs::exists(status) || fs::is_regular_file(status), "cannot read ", path,
               ": it is no file");
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  require_file(path, in.is_open(), "cannot read ", path, ": ", std::strerror(errno));
  in.seekg(0, std::ios::end);
  const int64_t file_size = in.tellg();
  in.seekg(0);
  int64_t position = 0;
  const auto read = [&](void* into, int64_t count, const char* what) {
    require(count <= file_size - position, path, ": truncated in its ", what, " (", file_size,
            " bytes); copy it again");
    in.read(static_cast<char*>(into), count);
    require_file(path, in.good() || count == 0, "cannot read ", path, ": input error");
    position += count;
  };

  // 0x93 "NUMPY", major, minor, header length (2 bytes in version 1, 4 in 2 and 3), header.
  unsigned char start[8];
  read(start, sizeof start, "magic number");
  require(std::memcmp(start, "\x93NUMPY", 6) == 0, path, ": not a .npy file (wrong magic number)");
  require(start[6] >= 1 && start[6] <= 3 && start[7] == 0, path, ": .npy format version ", int{start[6]}, ".",
          int{start[7]}, " is unknown; 1.0, 2.0 and 3.0 can be read");
  unsigned char length[4] = {0, 0, 0, 0};
  read(length, start[6] == 1 ? 2 : 4, "header length");
  const int64_t header_size = length[0] | length[1] << 8 | length[2] << 16 | int64_t{length[3]} << 24;
  require(header_size <= file_size - position, path, ": truncated in its header (", file_size,
          " bytes); copy it again");
  constexpr int64_t kMostHeader = 1 << 20;  // numpy's own have some 100 bytes
  require(header_size <= kMostHeader, path, ": damaged .npy header (", header_size, " bytes)");
  std::string text(static_cast<size_t>(header_size), '\0');
  read(text.data(), header_size, "header");
  Header header = HeaderParser(text, path).parse();

  const at::ScalarType dtype = dtype_of(header.descr, path);
  // Sizes of empty arrays are multiplied too: [0, huge] must not overflow strides either.
  int64_t bytes = static_cast<int64_t>(c10::elementSize(dtype)), bound = bytes;
  for (const int64_t size : header.shape) {
    require(!__builtin_mul_overflow(bound, size > 0 ? size : 1, &bound), path,
            ": damaged .npy header (shape too large)");
    bytes *= size;
  }
  require(bytes == file_size - position, path, ": its shape needs ", bytes, " bytes of data but ",
          file_size - position, " follow the header; the file is ",
          bytes > file_size - position ? "truncated" : "damaged");

  // A Fortran-ordered array is the C-ordered array of the reversed shape, transposed.
  std::vector<int64_t> stored = header.shape;
  if (header.fortran_order) stored.assign(header.shape.rbegin(), header.shape.rend());
  const at::Tensor tensor = empty_for(path, stored, dtype);
  read(tensor.data_ptr(), bytes, "data");
  if (!header.fortran_order) return tensor;
  std::vector<int64_t> reversed;
  for (int64_t d = tensor.dim() - 1; d >= 0; --d) reversed.push_back(d);
  return tensor.permute(reversed).contiguous();
}

void write_npy(const fs::path& path, const at::Tensor& vector) {
  require(vector.dim() == 1 && vector.scalar_type() == at::kDouble, "write_npy: a vector of float64, not ",
          vector.scalar_type(), " ", vector.sizes());
  std::string header =
      text_of("{'descr': '<f8', 'fortran_order': False, 'shape': (", vector.numel(), ",), }");
  // Numbers begin at a multiple of 64 bytes, after ten bytes of the format's own and a line feed.
  constexpr size_t kOwn = 10, kAlign = 64;
  header.resize((kOwn + header.size() + 1 + kAlign - 1) / kAlign * kAlign - kOwn - 1, ' ');
  header += '\n';
  std::string bytes = std::string("\x93NUMPY\x01\0", 8);
  bytes += static_cast<char>(header.size() & 255);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  const at::Tensor numbers = vector.contiguous();
  bytes.append(static_cast<const char*>(numbers.const_data_ptr()), static_cast<size_t>(numbers.nbytes()));
  write_file(path, bytes);
}

}  // namespace seigh
