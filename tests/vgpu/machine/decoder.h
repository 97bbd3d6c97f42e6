// From a parsed kernel to a Program: the linker collects the functions that the kernel reaches,
// places registers, literals and variables, and turns each statement into an instruction with the
// help of the opcode table, which the families of instructions in ops/ fill.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "machine/ir.h"
#include "ptx/ast.h"

namespace vgpu {

// The dotted parts of an opcode, taken off one by one. What is left over is not supported.
class Modifiers {
 public:
  explicit Modifiers(std::string_view opcode);
  const std::string_view& name() const { return parts_[0]; }
  bool take(std::string_view word);
  // Takes the next type word; kNone when there is none.
  ptx::Type take_type();
  // Takes the first of `words` that is there; -1 when none is.
  int take_one(std::initializer_list<std::string_view> words);
  bool has(std::string_view word) const;
  std::string_view take_any();  // next unused part, empty at the end
  std::string leftover() const;

 private:
  std::vector<std::string_view> parts_;
  std::vector<bool> used_;
};

class Decoder;
using DecodeFn = void (*)(Decoder&, const ptx::Statement&, Modifiers&, Instr&);

// Base opcode ("add", "ld", "mma") to its decoder.
const std::unordered_map<std::string_view, DecodeFn>& opcode_table();
using OpcodeMap = std::unordered_map<std::string_view, DecodeFn>;

// Where module-level names live in memory.
struct SymbolTable {
  std::function<std::optional<u64>(const std::string&)> address;
};

std::shared_ptr<Program> link_program(std::shared_ptr<const ptx::Module> module,
                                      const std::string& kernel, const SymbolTable& symbols);

class Decoder {
 public:
  Decoder(std::shared_ptr<const ptx::Module> module, const SymbolTable& symbols);
  std::shared_ptr<Program> link(const std::string& kernel);

  // For the families of instructions. `bytes` is what a literal should be as wide as; a register
  // keeps its own width.
  Operand source(const ptx::Operand& op, ptx::Type type);
  Operand source_bytes(const ptx::Operand& op, int bytes);
  Operand dest(const ptx::Operand& op, int bytes_if_sink = 4);
  Operand predicate(const ptx::Operand& op);
  Operand literal(u64 value, int bytes);
  Operand scratch(int bytes);
  Operand carry_flag();  // the condition code register
  // [address]: sets a, imm and, for names, what they stand for.
  void address(const ptx::Operand& op, Instr& in);
  // Elements of {..} or the operand itself, appended to the pool.
  void pool_sources(const ptx::Operand& op, ptx::Type type, Instr& in);
  void pool_dests(const ptx::Operand& op, Instr& in, int bytes);
  void pool_add(const Operand& op, Instr& in);
  i64 constant(const ptx::Operand& op);
  // The register that a name without its selector stands for.
  ptx::Operand resolve(const ptx::Operand& op) const;
  bool is_constant(const ptx::Operand& op) const { return op.kind == ptx::Operand::Kind::kInt; }

  void branch_to(const std::string& label);    // the statement's instruction jumps there
  u32 branch_table(const std::string& table);  // index into Program::branch_tables
  u32 add_call(const ptx::Statement& st);
  u32 function_id(const std::string& name);
  bool is_function(const std::string& name) const;
  u32 current_function() const { return current_; }

  // Offset in the stack frame when `op` names a .local or .param variable of a called function.
  std::optional<u32> frame_offset(const ptx::Operand& op) const;
  bool in_entry() const { return current_ == 0; }

  [[noreturn]] void fail(const std::string& what) const;
  Program& program() { return *program_; }

 private:
  struct Place {
    ptx::Space space;
    u64 address;  // offset for shared, local and param; generic address otherwise
    u32 bytes = 0;
    bool in_frame = false;
  };
  Operand new_slot(int bytes);
  void collect(u32 index);
  void collect_function(const std::string& name);
  void collect_addressed();
  void decode_function(u32 index);
  std::optional<Place> find(const std::string& name) const;
  Operand special(const std::string& name, int bytes);
  // An address that is known before the launch; that of a shared variable lacks the CTA's rank.
  Operand place_literal(const Place& place, i64 offset, int bytes);
  void place_variables(const ptx::Body& body, FunctionInfo& info, bool entry);
  void place_shared();
  void relocate();
  void watch_registers();
  void measure_frames();
  void decode_statement(const ptx::Statement& st);
  u32 resolve_label(const std::string& name) const;
  void call_params(const std::vector<ptx::Operand>& operands,
                   std::vector<FunctionInfo::Param>& out);

  std::shared_ptr<const ptx::Module> module_;
  const SymbolTable& symbols_;
  std::shared_ptr<Program> program_;
  std::vector<ptx::Body> bodies_;
  std::vector<const ptx::Function*> sources_;
  std::unordered_map<std::string, u32> function_ids_;
  std::unordered_map<std::string, Place> shared_;  // module-level and of functions
  std::unordered_map<std::string, Place> names_;   // of the current function
  std::vector<Operand> registers_;                 // of the current function
  std::map<std::pair<u64, int>, u32> literals_;    // value, bytes -> index
  std::map<std::pair<u64, int>, Operand> shared_literals_;
  std::vector<std::pair<u64, int>> literal_values_;
  std::map<std::pair<int, int>, Operand> specials_;
  std::vector<u32> first_instruction_;  // of each statement of the current function
  struct Fixup {
    u32 instruction;  // or table
    u32 entry;        // of the table
    u32 statement;
    bool table;
  };
  std::vector<Fixup> fixups_;
  Operand carry_;
  bool indirect_ = false;  // something is called by address
  const ptx::Statement* statement_ = nullptr;
  u32 current_ = 0;
  u32 location_base_ = 0;
  u32 file_top_ = 0;
};

}  // namespace vgpu
