// The program `qkv`. Exit code 0: done; 1: it failed; 2: wrong usage or bad input.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "commands.h"
#include "errors.h"
#include "host/io/array.h"
#include "qkv/qkv.hpp"

namespace {

using namespace qkv::cli;

std::string version_text() {
  return fmt::format("qkv {}.{}.{}", QKV_VERSION_MAJOR, QKV_VERSION_MINOR, QKV_VERSION_PATCH);
}

int report(const std::string& command, const std::string& message, int code) {
  std::fflush(stdout);
  fmt::print(stderr, "{}: {}\n", command, message);
  return code;
}

// A call that the library refuses is the user's input; a device that fails is not.
int exit_code(const qkv::Error& error) {
  const qkv_status status_class = error.status_class();
  return status_class == QKV_INVALID_ARGUMENT || status_class == QKV_UNSUPPORTED ? kBadInput
                                                                                 : kFailed;
}

int parse_and_run(CLI::App* app, int argc, char** argv, std::string* name) {
  Command chosen;
  for (const auto add : kCommands) add(app, &chosen);
  const auto command_name = [&] {
    for (const CLI::App* sub : app->get_subcommands()) return "qkv " + sub->get_name();
    return std::string("qkv");
  };
  try {
    app->parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help, --version
    return app->exit(help);
  } catch (const CLI::ParseError& error) {
    *name = command_name();
    return report(*name, fmt::format("{}\nSee '{} --help'.", error.what(), *name), kBadInput);
  } catch (...) {  // from the options' own checks
    *name = command_name();
    throw;
  }
  *name = command_name();
  return chosen();
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = "qkv";
  int code = kFailed;
  try {
    CLI::App app("Attention on the CPU and on CUDA GPUs.", "qkv");
    app.set_version_flag("--version", version_text());
    app.require_subcommand(1);
    app.failure_message(CLI::FailureMessage::simple);
    code = parse_and_run(&app, argc, argv, &name);
  } catch (const BadInput& error) {
    code = report(name, error.what(), kBadInput);
  } catch (const qkv::io::FormatError& error) {
    code = report(name, error.what(), kBadInput);
  } catch (const qkv::Error& error) {
    code = report(name, error.what(), exit_code(error));
  } catch (const std::bad_alloc&) {
    code = report(name, "out of memory", kFailed);
  } catch (const std::exception& error) {
    code = report(name, error.what(), kFailed);
  }
  // A full disk or a closed pipe behind stdout must not look like success.
  if (std::fflush(stdout) != 0 && code == kDone) {
    code = report(name, "cannot write to standard output", kFailed);
  }
  return code;
}
