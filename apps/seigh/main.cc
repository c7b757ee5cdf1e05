// The command line. Exit codes: 0 done, 2 bad input (one line says what to do), 130 interrupted, 1 anything else.
#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "apps/seigh/commands.h"
#include "seigh/base/error.h"
#include "seigh/base/interrupt.h"
#include "seigh/base/parallel.h"
#include "seigh/base/version.h"

namespace {

int complain(const std::string& message, int code) {
  std::fprintf(stderr, "seigh: %s\n", message.substr(0, message.find('\n')).c_str());
  return code;
}

int run(int argc, char** argv) {
  CLI::App app{"Top eigenpairs of a neural network's curvature matrix, and whether its largest parameters lie in them."};
  app.name("seigh");
  app.set_version_flag("--version", "seigh " + seigh::version());
  app.require_subcommand(1);
  app.fallthrough();
  int threads = 0;
  app.add_option("--threads", threads, "Threads; 0: all cores")->capture_default_str();
  app.footer("From network to figure in one command:\n  seigh run recipes/mnist-mini.toml\n"
             "Help on a command, with an example:\n  seigh run --help");
  seigh::app::Action action;
  seigh::app::add_run(app, action);
  seigh::app::add_train(app, action);
  seigh::app::add_eigh(app, action);
  seigh::app::add_overlap(app, action);
  seigh::app::add_report(app, action);
  seigh::app::add_show(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    return complain(std::string(error.what()) + "; see seigh --help", 2);
  }
  seigh::install_interrupt_handlers();
  try {
    seigh::set_threads(threads);
    action();
    return 0;
  } catch (const seigh::Error& error) {
    return complain(error.what(), 2);
  } catch (const seigh::Interrupted&) {
    return complain("interrupted; finished files are kept, and run --resume continues", 130);
  } catch (const std::bad_alloc&) {
    return complain("not enough memory", 1);
  } catch (const c10::Error& error) {
    return complain(std::string("libtorch: ") + error.what_without_backtrace(), 1);
  } catch (const std::exception& error) {
    return complain(error.what(), 1);
  }
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv); }
