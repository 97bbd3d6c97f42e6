#include "options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "errors.h"
#include "host/io/array.h"

namespace qkv::cli {
namespace {

using host::attention::Extent;
using host::attention::kTensorCount;
using host::attention::kTensors;
using host::attention::TensorId;
using host::attention::TensorRow;

template <class T>
bool parse(std::string_view text, T* out) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *out);
  return error == std::errc() && stop == end;
}

[[noreturn]] void refuse(const std::string& name, const std::string& value,
                         const std::string& allowed) {
  throw BadInput(fmt::format("{} is {}; allowed: {}", name, io::quoted(value), allowed));
}

template <class T>
using Choices = std::vector<std::pair<std::string, T>>;

template <class T>
std::string names(const Choices<T>& choices) {
  std::string out;
  for (const auto& [name, value] : choices) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// `Out` is T or std::optional<T>.
template <class T, class Out>
void add_choice(CLI::App* app, const std::string& name, Out* out, Choices<T> choices,
                const std::string& help) {
  const std::string text = help + ": " + names(choices);
  app->add_option_function<std::string>(
         name,
         [name, out, choices = std::move(choices)](const std::string& given) {
           for (const auto& [choice, value] : choices) {
             if (choice == given) {
               *out = value;
               return;
             }
           }
           refuse(name, given, names(choices));
         },
         text)
      ->type_name("");
}

// `Out` holds a double or an int64_t, optional or not.
template <class T, class Out>
void add_number(CLI::App* app, const std::string& name, Out* out, const std::string& allowed,
                const std::string& help) {
  app->add_option_function<std::string>(
         name,
         [name, out, allowed](const std::string& given) {
           T value{};
           if (!parse(given, &value)) refuse(name, given, allowed);
           *out = value;
         },
         help)
      ->type_name("N");
}

void add_file(CLI::App* app, const std::string& name, std::string* out, const std::string& help) {
  app->add_option(name, *out, help)->type_name("FILE");
}

std::string axes_text(const TensorRow& row, const std::vector<int>& axes) {
  const char* const last = row.shape[3] == Extent::kSkv ? "keys" : "dim";
  const std::array names{"batch", "heads", "seq", last};
  std::string out;
  for (const int axis : axes)
    out += (out.empty() ? "[" : ", ") + std::string(names[static_cast<size_t>(axis)]);
  return out + "]";
}

TensorOption tensor_option(TensorId id) {
  const TensorRow& row = kTensors[id];
  std::vector<int> own;
  for (int axis = 0; axis < 4; ++axis)
    if (row.shape[static_cast<size_t>(axis)] != Extent::kOne) own.push_back(axis);
  TensorOption out{id, std::string("--") + row.word, {}, {}};
  for (auto first = own.begin(); first != own.end(); ++first) {
    out.axes.emplace(out.axes.begin(), first, own.end());
    if ((row.broadcast >> *first & 1) == 0) break;
  }
  for (const std::vector<int>& axes : out.axes)
    out.shapes += (out.shapes.empty() ? "" : " or ") + axes_text(row, axes);
  return out;
}

// "ALiBi slopes; [heads] or [batch, heads]"
std::string help_of(const TensorOption& option) {
  std::string about = kTensors[option.id].about;
  about[0] =
      about[0] >= 'a' && about[0] <= 'z' ? static_cast<char>(about[0] - 'a' + 'A') : about[0];
  return about + "; " + option.shapes;
}

}  // namespace

std::span<const TensorOption> tensor_options() {
  static const std::vector<TensorOption> options = [] {
    std::vector<TensorOption> out;
    for (size_t id = 0; id < kTensorCount; ++id)
      if (is_optional_input(kTensors[id])) out.push_back(tensor_option(static_cast<TensorId>(id)));
    return out;
  }();
  return options;
}

void add_integers(CLI::App* app, const std::string& name, std::vector<int64_t>* out, size_t least,
                  size_t most, const std::string& form, const std::string& help) {
  app->add_option_function<std::string>(
         name,
         [=](const std::string& given) {
           out->clear();
           std::string_view rest = given;
           while (true) {
             const size_t comma = rest.find(',');
             int64_t value = 0;
             if (!parse(rest.substr(0, comma), &value)) refuse(name, given, form);
             out->push_back(value);
             if (comma == std::string_view::npos) break;
             rest.remove_prefix(comma + 1);
           }
           if (out->size() < least || out->size() > most) refuse(name, given, form);
         },
         help)
      ->type_name(form);
}

void add_layout(CLI::App* app, Layout* layout) {
  add_choice<Layout>(app, "--layout", layout, {{"bshd", Layout::kBshd}, {"bhsd", Layout::kBhsd}},
                     "Axes of q, k, v and o, default [batch, seq, heads, dim]");
}

void add_tensor_options(CLI::App* app, ProblemOptions* o) {
  for (const TensorOption& option : tensor_options())
    add_file(app, option.name, &o->files[option.id], help_of(option));
}

void add_type(CLI::App* app, ProblemOptions* o, const std::string& help) {
  add_choice<qkv_type>(app, "--type", &o->type,
                       {{"f32", QKV_TYPE_F32}, {"f16", QKV_TYPE_F16}, {"bf16", QKV_TYPE_BF16}},
                       help);
}

void add_problem_options(CLI::App* app, ProblemOptions* o) {
  app->option_defaults()->group("Tensors (FILE.npy or FILE.safetensors:NAME)");
  add_file(app, "-q,--q", &o->q, "Queries, in --layout; without batch, or [seq, dim]");
  add_file(app, "-k,--k", &o->k, "Keys");
  add_file(app, "-v,--v", &o->v, "Values");
  add_file(app, "--qkv", &o->qkv,
           "Packed: [batch, seq, 3, heads, dim] or [batch, seq, all heads, dim]");
  add_integers(app, "--qkv-heads", &o->qkv_heads, 1, 2, "HQ[,HKV]",
               "Heads of q, and of k and v, in --qkv (default: a third each)");
  add_tensor_options(app, o);
  add_layout(app, &o->layout);
  add_type(app, o, "Convert q, k and v to");
  add_settings(app, o);
}

void add_settings(CLI::App* app, ProblemOptions* o) {
  app->option_defaults()->group("What to compute");
  add_choice<qkv_score>(app, "--score", &o->score,
                        {{"dot", QKV_SCORE_DOT}, {"additive", QKV_SCORE_ADDITIVE}},
                        "q.k or w.tanh(q + k)");
  add_choice<qkv_selection>(
      app, "--selection", &o->selection,
      {{"soft", QKV_SELECT_SOFT}, {"hard", QKV_SELECT_HARD}, {"top-k", QKV_SELECT_TOP_K}},
      "A mixture of all values, the best one, or a mixture of the best");
  add_number<int32_t>(app, "--top-k", &o->top_k, "a number of keys",
                      "Keys that --selection top-k mixes");
  add_number<double>(app, "--scale", &o->scale, "a finite number",
                     "Factor on the scores (default 1/sqrt(dim); additive: 1)");
  add_number<double>(app, "--softcap", &o->softcap, "a positive number, or 0 for none",
                     "Scores become C tanh(score / C)");
  add_choice<qkv_weights_mode>(app, "--weights-mode", &o->weights_mode,
                               {{"scores", QKV_WEIGHTS_SCORES},
                                {"softcapped", QKV_WEIGHTS_SOFTCAPPED},
                                {"masked", QKV_WEIGHTS_MASKED},
                                {"probabilities", QKV_WEIGHTS_PROBABILITIES}},
                               "Of the weights output");

  app->option_defaults()->group("Which keys a query sees (i: query, j: key)");
  app->add_flag("--causal", o->causal, "Only keys j <= i + offset");
  add_choice<qkv_alignment>(app, "--align", &o->alignment,
                            {{"bottom-right", QKV_ALIGN_BOTTOM_RIGHT},
                             {"top-left", QKV_ALIGN_TOP_LEFT},
                             {"explicit", QKV_ALIGN_EXPLICIT}},
                            "The diagonal (default bottom-right)");
  add_number<int64_t>(app, "--offset", &o->offset, "a whole number",
                      "The diagonal is j = i + N; implies --align explicit");
  add_integers(app, "--window", &o->window, 2, 2, "LEFT,RIGHT",
               "Only LEFT keys before the diagonal and RIGHT after it; -1: no bound");

  app->option_defaults()->group("Where");
  app->add_option("--device", o->device, "auto, cpu, cuda or cuda:N (default auto)")
      ->type_name("DEVICE");
  add_number<int32_t>(app, "--threads", &o->threads, "a number of threads, or 0 for all",
                      "At most N threads of the CPU (default: as OpenMP says)");
  app->option_defaults()->group("Options");
}

}  // namespace qkv::cli
