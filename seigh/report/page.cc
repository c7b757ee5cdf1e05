#include "seigh/report/page.h"

#include "seigh/core/error.h"
#include "seigh/io/file.h"
#include "seigh/report/template.h"

namespace seigh {
namespace {

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
  return text;
}

const std::string kOpening = "<script type=\"application/json\" id=\"data\">";

}  // namespace

std::string report_page(const std::string& title, const std::string& data) {
  std::string escaped = replaced(replaced(replaced(title, "&", "&amp;"), "<", "&lt;"), ">", "&gt;");
  std::string page(report_template());
  page = replaced(std::move(page), "<!--SEIGH:TITLE-->", escaped);
  return replaced(std::move(page), "<!--SEIGH:DATA-->", replaced(data, "<", "\\u003c"));
}

void write_report_page(const fs::path& path, const std::string& title, const std::string& data) {
  write_file(path, report_page(title, data));
}

std::string read_report_data(const fs::path& path) {
  const std::string page = read_file(path);
  const size_t begin = page.find(kOpening);
  const size_t end = begin == std::string::npos ? begin : page.find("</script>", begin);
  require(end != std::string::npos, path.string(), " is no report page of seigh");
  return page.substr(begin + kOpening.size(), end - begin - kOpening.size());
}

}  // namespace seigh
