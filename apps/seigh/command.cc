#include "apps/seigh/command.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <thread>

#include "apps/seigh/commands.h"
#include "apps/seigh/memory_limits.h"
#include "apps/seigh/terminal_progress.h"
#include "seigh/core/context.h"
#include "seigh/core/device.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/core/printable.h"
#include "seigh/core/version.h"
#ifdef SEIGH_MPI
#include "seigh/mpi/mpi.h"
#endif

namespace {

// Ranks tend to fail together, and the root says why; another one waits a moment, in which the root ends them
// all.
int complain(const seigh::Ranks& ranks, const std::string& message, int code) {
  if (!ranks.root()) {
    std::this_thread::sleep_for(std::chrono::seconds(2));
    std::fprintf(stderr, "rank %d: ", ranks.rank());
  }
  constexpr size_t kMost = 1000;
  std::fprintf(stderr, "seigh: %s\n", seigh::shortened(message, kMost).c_str());
  return code;
}

// What is wrong with the command line. CLI11 complains of what is missing before it complains of what it does
// not know, so the words it could not place come first.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  std::string help = "; see seigh --help";
  const auto chosen = app.get_subcommands();
  if (!chosen.empty()) help = "; see seigh " + chosen.front()->get_name() + " --help";
  for (const std::string& word : app.remaining(/*recurse=*/true)) {
    if (word.starts_with("-")) return "unknown option " + word + help;
  }
  if (chosen.empty()) {
    std::string commands;
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
      commands += (commands.empty() ? "" : ", ") + command->get_name();
    }
    const std::vector<std::string> words = app.remaining();
    if (!words.empty())
      return "unknown command \"" + words.front() + "\"; the commands are " + commands + help;
    if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr)
      return "name a command: " + commands + help;
  }
  return error.what() + help;
}

int not_enough_memory(const seigh::Ranks& ranks) {
  return complain(
      ranks,
      "not enough memory; choose a smaller network, fewer samples, a smaller k and s, or no dense steps", 2);
}

// Ranks that do not find each other would all do the same work in the same folder.
void require_ranks(const seigh::Ranks& ranks) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* const value = std::getenv(name);
    seigh::require(value == nullptr || std::atoi(value) <= 1 || !ranks.alone(), "started as one of ", value,
                   " ranks that do not find each other: this seigh was built ",
#ifdef SEIGH_MPI
                   "with another MPI; start it with that one's mpirun",
#else
                   "without MPI; build it with -DSEIGH_MPI=ON",
#endif
                   ", or as tasks of their own (srun --mpi=none) for seigh measure");
  }
  seigh::require(
      std::getenv("TORCHELASTIC_RUN_ID") == nullptr || !ranks.alone(),
      "started by torchrun, whose processes the command does not join; start it by mpirun, or call "
      "seigh.run(..., context=seigh.Context(group=True)) in Python");
}

// Measurements of large matrices are many files that are open at the same time.
void allow_many_files() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int seigh::app::run_command(int argc, char** argv, const CommandOptions& given) {
  const std::shared_ptr<seigh::Ranks>& ranks = given.ranks;
  CLI::App app{
      "Top eigenpairs of a neural network's curvature matrix, and whether its largest parameters lie in "
      "them."};
  app.name("seigh");
  app.set_version_flag("--version", "seigh " + seigh::version());
  app.require_subcommand(1);
  app.fallthrough();
  int threads = 0;
  app.add_option("--threads", threads, "Threads; 0: all cores")->capture_default_str();
  std::string memory;
  app.add_option(
      "--memory", memory,
      "Ceiling of this process's memory: 8G (GiB), 8GB (10^9 bytes), 512M; default: three quarters of what "
      "is available are used as needed");
  std::string device, device_memory;
  app.add_option(
      "--device", device,
      "Where networks are computed: cpu, cuda, cuda:1; default: the recipe's device, which is cpu");
  app.add_option("--device-memory", device_memory,
                 "Ceiling of what products and data may hold there, like 40G; default: what the device has");
  bool trust_code = false;
  app.add_flag(
      "--trust-code", trust_code,
      "Also run the Python code that a run folder names (model.python); a recipe's own is always run");
  app.footer(
      "From network to figure in one command:\n  seigh run recipes/mnist-mini.toml\n"
      "Help on a command, with an example:\n  seigh help run");
  seigh::app::Action action;
  seigh::app::add_run(app, action);
  seigh::app::add_train(app, action);
  seigh::app::add_eigh(app, action);
  seigh::app::add_trace(app, action);
  seigh::app::add_diagonal(app, action);
  seigh::app::add_density(app, action);
  seigh::app::add_measure(app, action);
  seigh::app::add_recover(app, action);
  seigh::app::add_verify(app, action);
  seigh::app::add_overlap(app, action);
  seigh::app::add_prune(app, action);
  seigh::app::add_dynamics(app, action);
  seigh::app::add_report(app, action);
  seigh::app::add_show(app, action);
  seigh::app::add_help(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    return complain(*ranks, explain(app, error), 2);
  }
  bool limited = false;
  try {
    require_ranks(*ranks);
    allow_many_files();
    const int processes = ranks->on_this_machine();
    seigh::ContextOptions options{
        .threads = threads != 0 ? threads : seigh::available_cores(processes),
        .memory = memory.empty() ? 0 : seigh::parse_bytes(memory),
        .device_memory = device_memory.empty() ? 0 : seigh::parse_bytes(device_memory),
        .ranks = ranks,
        .progress = std::make_shared<seigh::app::TerminalProgress>(!ranks->root()),
        .cancelled = given.cancelled};
    const int64_t limit = seigh::app::memory_within_limits(options.threads, processes);
    limited = limit > 0 && (options.memory == 0 || limit < options.memory);
    if (limited) options.memory = limit;
    const seigh::Context context(options);
    // The whole process is this context's.
    at::set_num_threads(context.threads());
    const seigh::Context::Scope scope(context);
    if (!device.empty()) seigh::usable_device(device);
    action(
        {.context = context, .make_foreign = given.make_foreign, .trust_code = trust_code, .device = device});
    errno = 0;
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      return complain(
          *ranks,
          std::string("cannot write the output: ") + (errno != 0 ? std::strerror(errno) : "output error"), 2);
    }
    return 0;
  } catch (const seigh::Error& error) {
    std::string message = error.what();
    if (limited && message.find("--memory") != std::string::npos)
      message += "; as high as the limit on this process lets it be (ulimit -v, ulimit -d)";
    return complain(*ranks, message, 2);
  } catch (const seigh::app::NotCertified& result) {
    std::fflush(stdout);
    return complain(*ranks, result.message, 3);
  } catch (const seigh::Cancelled&) {
    return complain(*ranks, "interrupted; finished files are kept, and seigh run --resume continues a run",
                    130);
  } catch (const std::bad_alloc&) {
    return not_enough_memory(*ranks);
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr)
      return complain(*ranks,
                      "too little memory on the device; lower curvature.batch_size or "
                      "train.batch_size, or compute on the CPU (--device cpu): " +
                          seigh::first_line(message),
                      2);
    if (message.find("allocate memory") != std::string::npos ||
        message.find("not enough memory") != std::string::npos) {
      return not_enough_memory(*ranks);
    }
    return complain(*ranks, "libtorch: " + seigh::first_line(message), 1);
  } catch (const std::exception& error) {
    return complain(*ranks, seigh::first_line(error.what()), 1);
  }
}
