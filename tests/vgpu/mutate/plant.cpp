#include "mutate/plant.h"

#include <initializer_list>
#include <stdexcept>
#include <string_view>

namespace vgpu {
namespace {

// What a kernel begins with. On the line of its brace, so that no line number changes.
std::string first_words(const std::string& fault) {
  if (fault == "hang") return " VGPU_PLANT: bra VGPU_PLANT;";
  if (fault == "trap") return " trap;";
  if (fault == "address")
    return " { .reg .b64 %plant_a; .reg .b32 %plant_x; mov.u64 %plant_a, 64; mov.u32 %plant_x, 0;"
           " st.global.u32 [%plant_a], %plant_x; }";
  if (fault == "wrong") return "";
  throw std::invalid_argument("there is no fault '" + fault + "' to plant");
}

// The brace that closes the one at `open`; blocks within may stand at the beginning of lines too.
size_t closing_brace(const std::string& text, size_t open) {
  int depth = 0;
  for (size_t at = open; at < text.size(); ++at) {
    if (text[at] == '{') ++depth;
    if (text[at] == '}' && --depth == 0) return at;
  }
  return std::string::npos;
}

[[noreturn]] void changes_nothing(const std::string& plant, const std::string& kernel) {
  throw std::invalid_argument(plant + ": " + kernel + " has no exponential");
}

void append(std::string* out, std::initializer_list<std::string_view> pieces) {
  for (const std::string_view piece : pieces) *out += piece;
}

// Before each `ex2.approx[.ftz].f32 d, a;` of the body: `mul[.ftz].f32 d, a, 1 + 2^-4;`, and
// ex2 takes d.
std::string with_larger_exponents(const std::string& body) {
  const std::string blanks = " \t\n";
  std::string out;
  size_t from = 0;
  for (size_t at; (at = body.find("ex2.approx.", from)) != std::string::npos;) {
    const size_t opcode_end = body.find_first_of(blanks, at), comma = body.find(',', at),
                 end = body.find(';', at);
    if (end == std::string::npos || comma > end || opcode_end > comma) break;
    out += body.substr(from, at - from);
    const std::string opcode = body.substr(at, opcode_end - at);
    const std::string suffix = opcode.substr(std::string("ex2.approx").size());
    if (suffix != ".f32" && suffix != ".ftz.f32") {
      out += body.substr(at, end - at);
    } else {
      const size_t to = body.find_first_not_of(blanks, opcode_end);
      const std::string result = body.substr(to, comma - to);
      const std::string operand = body.substr(comma + 1, end - comma - 1);
      append(&out, {"mul", suffix, " ", result, ",", operand, ", 0f3F880000; "});
      append(&out, {opcode, " ", result, ", ", result});
    }
    from = end;
  }
  return out + body.substr(from);
}

}  // namespace

std::string planted(const std::string& text, const std::string& plant, int* count) {
  const size_t colon = plant.find(':');
  const std::string fault = plant.substr(0, colon);
  const std::string words = first_words(fault);
  const std::string kernel = colon == std::string::npos ? "" : plant.substr(colon + 1);
  if (kernel.empty()) throw std::invalid_argument("a plant is FAULT:KERNEL, not '" + plant + "'");
  std::string out;
  size_t from = 0;
  for (size_t entry; (entry = text.find(".entry ", from)) != std::string::npos;) {
    const size_t open = text.find('{', entry), close = closing_brace(text, open);
    if (open == std::string::npos || close == std::string::npos) break;
    const std::string name = text.substr(entry, text.find_first_of("( \n", entry + 7) - entry);
    const std::string body = text.substr(open + 1, close - open - 1);
    out += text.substr(from, open + 1 - from);
    if (name.find(kernel) == std::string::npos) {
      out += body;
    } else {
      std::string changed = words;
      changed += fault == "wrong" ? with_larger_exponents(body) : body;
      if (changed == body) changes_nothing(plant, name);
      out += changed;
      ++*count;
    }
    from = close;
  }
  return out + text.substr(from);
}

}  // namespace vgpu
