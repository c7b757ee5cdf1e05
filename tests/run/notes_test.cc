// What could not be done the fast way is told, once in a run.
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/io/file.h"
#include "seigh/run/stages.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

struct Listener final : Progress {
  void note(std::string_view text) override { notes.emplace_back(text); }
  std::vector<std::string> notes;
};

// Three matrices of a small transformer; what the user is told.
std::vector<std::string> notes_of_a_run(const fs::path& folder) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += i % 3 == 0 ? "abcd" : i % 7 == 0 ? "ba" : "dca";
  write_file(folder / "letters.txt", text);
  write_file(folder / "recipe.toml",
             "[data]\nname = \"text\"\ntext = \"letters\"\ncontext = 4\nvocabulary = 4\n"
             "[model]\nkind = \"transformer\"\nwidth = 4\ndepth = 1\nheads = 2\nmlp_ratio = 2\n"
             "[train]\nsteps = 2\nbatch_size = 6\ncheckpoints = [1, 2]\n"
             "[curvature]\nsamples = 6\nsteps = [1, 2]\nsplits = [\"train\"]\n"
             "[eigh]\nk = 3\nproducts = 8\nprobes = 2\n[dense]\nsteps = [2]\n[overlap]\nrandom_masks = 4\n");
  const Recipe recipe = load_recipe(folder / "recipe.toml", {});
  const auto heard = std::make_shared<Listener>();
  const Context context({.progress = heard});
  Listener& listener = *heard;
  Run run(RunFolder::start(folder / "run", recipe, /*resume=*/false, context), folder, context);
  run.train();
  run.eigh();
  const std::string log = read_file(folder / "run/log.jsonl");
  size_t logged = 0;
  for (size_t at = log.find("\"event\":\"note\""); at != std::string::npos;
       at = log.find("\"event\":\"note\"", at + 1))
    ++logged;
  if (logged != listener.notes.size()) listener.notes.emplace_back("the log has other notes");
  return listener.notes;
}

#if !defined(__SANITIZE_ADDRESS__)  // under which there never is a pool
TEST(Notes, AreNotNeededUsually) {
  const test::TempFolder folder;
  EXPECT_EQ(notes_of_a_run(folder.path()), std::vector<std::string>{});
}
#endif

TEST(Notes, TellOnceThatAnotherAllocatorIsInPlace) {
  // In a process of its own: an allocator stays for the life of a process.
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto child = [] {
    struct Other final : c10::Allocator {
      c10::DataPtr allocate(size_t n) override { return c10::GetDefaultCPUAllocator()->allocate(n); }
      c10::DeleterFnPtr raw_deleter() const override { return c10::GetDefaultCPUAllocator()->raw_deleter(); }
      void copy_data(void* to, const void* from, std::size_t n) const override {
        std::copy_n(static_cast<const char*>(from), n, static_cast<char*>(to));
      }
    };
    c10::SetCPUAllocator(new Other, 1);
    const test::TempFolder folder;
    const std::vector<std::string> notes = notes_of_a_run(folder.path());
    for (const std::string& note : notes) std::fprintf(stderr, "%s\n", note.c_str());
    return notes.size() == 1 ? 0 : 1;
  };
  EXPECT_EXIT(std::_Exit(child()), ::testing::ExitedWithCode(0), "no memory pool \\(.*\\): products may be");
}

}  // namespace
}  // namespace seigh
