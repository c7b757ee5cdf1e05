// A few numbers that tell one matrix from another, so that what was begun with one is not continued with the
// other.
#pragma once

#include <string>

namespace seigh {

/// A fingerprint is text, a line an entry, so that files can hold it.
class Fingerprint {
 public:
  /// `what` is for people: "samples". Two values within the larger `tolerance` are the same: sums depend on
  /// threads, batches and machines.
  void add(const std::string& what, double value, double tolerance);
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// What differs first between two texts, in words ("samples"); "" where nothing does. What only one of them
/// has is not compared: an empty one belongs to everything.
std::string first_difference(const std::string& a, const std::string& b);

/// Throws Error, naming `file` and what differs, unless the fingerprint `written` there is `now`'s;
/// `begin_anew` is the file or folder to delete for that.
void require_same_matrix(const std::string& file, const std::string& written, const std::string& now,
                         const std::string& begin_anew);

}  // namespace seigh
