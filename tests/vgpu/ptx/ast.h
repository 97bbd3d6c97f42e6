// What the parser makes of PTX text: a module of variables and functions, and, one function at a
// time and only when a launch needs it, a body of statements whose register names are resolved.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/types.h"

namespace vgpu::ptx {

// PTX ISA 9.0 section 5.2: fundamental and alternate types.
enum class Type : u8 {
  kNone,
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kBf16,
  kBf16x2,
  kTf32,
  kF32,
  kF64,
  kU16x2,
  kS16x2,
  kE4m3,
  kE5m2,
  kE4m3x2,
  kE5m2x2,
  kE2m3x2,
  kE3m2x2,
  kE2m1x2,
  kU4,
  kS4,
  kB1,
  kUe8m0x2,
  kE4m3x4,
  kE5m2x4,
  kF32x2,
};
Type type_from_name(std::string_view name);  // kNone when the word is no type
std::string_view type_name(Type type);
int type_bytes(Type type);  // 0 for predicates
bool type_is_float(Type type);
bool type_is_signed(Type type);

// PTX ISA 9.0 section 5.1: state spaces.
enum class Space : u8 { kGeneric, kReg, kConst, kGlobal, kLocal, kParam, kShared };

struct Initializer {
  u64 value = 0;
  std::string symbol;  // when set: the address of this symbol plus value
  bool generic = false;
};

struct Variable {
  std::string name;
  Space space = Space::kGlobal;
  Type type = Type::kB8;
  u32 align = 1;
  u64 count = 1;         // elements
  bool unsized = false;  // extern array without a length
  bool external = false;
  std::vector<Initializer> init;
  u32 line = 0;

  u64 bytes() const { return count * static_cast<u64>(type_bytes(type)); }
};

struct Register {
  std::string name;
  Type type;
};

struct Operand {
  enum class Kind : u8 {
    kReg,      // index into Body::registers
    kInt,      // literal
    kFloat32,  // 0f literal, bits
    kFloat64,  // 0d or decimal literal, bits
    kName,     // special register, variable, function or label
    kAddress,  // [inner + offset]; inner in elements[0], more elements for tensor coordinates
    kVector,   // { ... }
    kPair,     // a|b
    kSink,     // _
  };
  Kind kind = Kind::kSink;
  bool negated = false;  // !p or -x
  u32 reg = 0;
  i64 value = 0;
  std::string name;
  std::vector<Operand> elements;
};

struct Statement {
  std::string opcode;  // with all modifiers
  std::vector<Operand> operands;
  std::vector<Operand> call_results, call_args;  // call only
  i32 guard = -1;                                // register index
  bool guard_negated = false;
  u32 line = 0;
  u32 loc = 0;  // index into Body::locations
  u32 scope = 0;
  std::string_view text;  // as written, for messages
};

// PTX ISA 9.0 section 11.5.3 (.loc).
struct Location {
  u32 file = 0, line = 0, column = 0;
  u32 inlined_at = 0;  // index of the caller's location, 0 for none
};

struct Label {
  std::string name;
  u32 scope;
  u32 statement;  // index of the first statement after it
};

struct Body {
  std::vector<Register> registers;
  std::vector<Variable> variables;  // .local, .shared, .param and .const of the body
  std::vector<Statement> statements;
  std::vector<Label> labels;
  std::vector<Location> locations{{}};
  std::vector<u32> scope_parent{0};
  std::unordered_map<std::string, std::vector<std::string>> branch_targets;  // .branchtargets
};

struct Function {
  std::string name;
  bool entry = false;
  bool external = false;
  std::vector<Variable> params;
  std::vector<Variable> results;
  u32 maxntid[3] = {0, 0, 0};  // 0: not given
  u32 reqntid[3] = {0, 0, 0};
  u32 maxnreg = 0, minnctapersm = 0;
  u32 reqncluster[3] = {0, 0, 0};
  bool noreturn = false;
  std::string_view body;  // between the braces
  u32 body_line = 0;
};

struct Module {
  std::string text;
  std::string version, target;  // "9.0", "sm_80"
  std::vector<Variable> variables;
  std::vector<Function> functions;
  std::unordered_map<u32, std::string> files;
  std::unordered_map<std::string, size_t> function_index, variable_index;
  std::unordered_map<std::string, std::string> aliases;

  const Function* find_function(const std::string& name) const;
  // What the function's address says of it: its place in `functions`, from 1 on.
  u32 function_number(const std::string& name) const;
};

// Parses everything but function bodies. Throws PtxError.
std::unique_ptr<Module> parse_module(std::string text);
// Parses one body. Throws PtxError.
Body parse_body(const Function& function);

}  // namespace vgpu::ptx
