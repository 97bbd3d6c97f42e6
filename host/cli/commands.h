// The program's commands. Each registers its options and what to call once they are parsed.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace qkv::cli {

using Command = std::function<int()>;  // returns the exit code; throws as errors.h says

// `app` is the whole program; the command is stored in *chosen when the user names it.
void add_attend(CLI::App* app, Command* chosen);
void add_merge(CLI::App* app, Command* chosen);
void add_project(CLI::App* app, Command* chosen);
void add_layer(CLI::App* app, Command* chosen);
void add_explain(CLI::App* app, Command* chosen);
void add_info(CLI::App* app, Command* chosen);
void add_demo(CLI::App* app, Command* chosen);
void add_verify(CLI::App* app, Command* chosen);

// All of them, in the order of --help.
inline constexpr void (*kCommands[])(CLI::App*, Command*) = {
    add_attend, add_merge, add_project, add_layer, add_explain, add_info, add_verify, add_demo};

}  // namespace qkv::cli
