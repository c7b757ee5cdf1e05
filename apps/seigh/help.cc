// seigh help [COMMAND]: the same as --help.
#include <memory>
#include <string>

#include "apps/seigh/commands.h"
#include "seigh/core/error.h"

namespace seigh::app {

void add_help(CLI::App& app, Action& action) {
  const auto topic = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("help", "Help on seigh or on a command, as --help gives it");
  command->add_option("COMMAND", *topic, "The command");
  command->footer("Example:\n  seigh help run");
  command->callback([topic, &app, &action] {
    action = [topic, &app](const Tools&) {
      std::string names;
      bool known = topic->empty();
      for (const CLI::App* other : app.get_subcommands([](const CLI::App*) { return true; })) {
        names += (names.empty() ? "" : ", ") + other->get_name();
        known = known || other->get_name() == *topic;
      }
      require(known, "unknown command \"", *topic, "\"; the commands are ", names, "; see seigh --help");
      try {
        app.parse(*topic + " --help");
      } catch (const CLI::Success& done) {
        app.exit(done);
      }
    };
  });
}

}  // namespace seigh::app
