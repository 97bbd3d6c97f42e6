// Collects what a kernel reaches, places its variables, decodes it, resolves labels.
#include <algorithm>

#include "machine/cta.h"
#include "machine/decoder.h"
#include "machine/ops/ops.h"

namespace vgpu {
namespace {

FunctionInfo::Builtin builtin_of(const std::string& name) {
  if (name == "vprintf") return FunctionInfo::Builtin::kVprintf;
  if (name == "__assertfail") return FunctionInfo::Builtin::kAssertFail;
  if (name == "malloc") return FunctionInfo::Builtin::kMalloc;
  if (name == "free") return FunctionInfo::Builtin::kFree;
  return FunctionInfo::Builtin::kNone;
}

template <class F>
void for_each_name(const ptx::Operand& op, F&& f) {
  if (op.kind == ptx::Operand::Kind::kName) f(op.name);
  for (const ptx::Operand& e : op.elements) for_each_name(e, f);
}
template <class F>
void for_each_name(const ptx::Statement& st, F&& f) {
  for (const auto* list : {&st.operands, &st.call_args, &st.call_results})
    for (const ptx::Operand& op : *list) for_each_name(op, f);
}
bool is_call(const ptx::Statement& st) { return st.opcode.rfind("call", 0) == 0; }

}  // namespace

const OpcodeMap& opcode_table() {
  static const OpcodeMap table = [] {
    OpcodeMap t;
    ops::register_all(t);
    return t;
  }();
  return table;
}

std::shared_ptr<Program> link_program(std::shared_ptr<const ptx::Module> module,
                                      const std::string& kernel, const SymbolTable& symbols) {
  return Decoder(std::move(module), symbols).link(kernel);
}

Decoder::Decoder(std::shared_ptr<const ptx::Module> module, const SymbolTable& symbols)
    : module_(std::move(module)), symbols_(symbols), program_(std::make_shared<Program>()) {}

std::shared_ptr<Program> Decoder::link(const std::string& kernel) {
  const ptx::Function* entry = module_->find_function(kernel);
  if (entry == nullptr || entry->body.data() == nullptr)
    throw PtxError(0, "kernel " + kernel + " is not in the module");
  program_->kernel = kernel;
  program_->module = module_;
  program_->locations = {{}};
  std::copy(std::begin(entry->maxntid), std::end(entry->maxntid), program_->maxntid);
  std::copy(std::begin(entry->reqntid), std::end(entry->reqntid), program_->reqntid);
  program_->maxnreg = entry->maxnreg;
  program_->minnctapersm = entry->minnctapersm;
  std::copy(std::begin(entry->reqncluster), std::end(entry->reqncluster), program_->cluster);

  function_ids_[entry->name] = 0;
  sources_.push_back(entry);
  for (u32 i = 0; i < sources_.size(); ++i) collect(i);
  if (indirect_) {
    // Whatever has an address may be called, through tables in memory as well.
    collect_addressed();
    for (u32 i = static_cast<u32>(bodies_.size()); i < sources_.size(); ++i) collect(i);
  }
  program_->by_number.resize(module_->functions.size() + 1);
  for (u32 i = 1; i < sources_.size(); ++i)
    program_->by_number[module_->function_number(sources_[i]->name)] = i;
  program_->functions.resize(sources_.size());
  place_shared();
  // A callee's code comes before its caller's, deeper groups run first anyway.
  for (u32 i = 0; i < sources_.size(); ++i) decode_function(i);
  measure_frames();
  relocate();
  watch_registers();
  return std::move(program_);
}

void Decoder::collect_function(const std::string& name) {
  const ptx::Function* f = module_->find_function(name);
  if (f == nullptr || f->entry || function_ids_.contains(f->name)) return;
  function_ids_[f->name] = static_cast<u32>(sources_.size());
  sources_.push_back(f);
}

void Decoder::collect(u32 index) {
  const ptx::Function& f = *sources_[index];
  bodies_.push_back(ptx::parse_body(f));
  const auto visit = [&](const std::string& name) {
    const ptx::Function* callee = module_->find_function(name);
    if (callee != nullptr && callee->body.data() == nullptr &&
        builtin_of(callee->name) == FunctionInfo::Builtin::kNone) {
      throw PtxError(f.body_line, "function '" + callee->name + "' has no definition");
    }
    collect_function(name);
  };
  for (const ptx::Statement& st : bodies_[index].statements) {
    for_each_name(st, visit);
    if (is_call(st) && st.operands[0].kind == ptx::Operand::Kind::kReg) indirect_ = true;
  }
}

// Functions whose address the module keeps in a variable or takes in some function.
void Decoder::collect_addressed() {
  const auto visit = [&](const std::string& name) {
    const ptx::Function* f = module_->find_function(name);
    if (f != nullptr && f->body.data() != nullptr) collect_function(name);
  };
  for (const ptx::Variable& v : module_->variables)
    for (const ptx::Initializer& i : v.init)
      if (!i.symbol.empty()) visit(i.symbol);
  for (const ptx::Function& f : module_->functions) {
    if (f.body.data() == nullptr) continue;
    for (const ptx::Statement& st : ptx::parse_body(f).statements) {
      for (const ptx::Operand& op : st.call_args) for_each_name(op, visit);
      for (size_t i = is_call(st) ? 1 : 0; i < st.operands.size(); ++i)
        for_each_name(st.operands[i], visit);
    }
  }
}

// Static variables first, then the dynamic part, where every unsized extern array begins.
void Decoder::place_shared() {
  u64 top = Cta::kSharedBase;
  std::vector<const ptx::Variable*> dynamic;
  const auto place = [&](const ptx::Variable& v) {
    if (shared_.contains(v.name)) return;
    if (v.unsized || v.external) {
      dynamic.push_back(&v);
      shared_[v.name] = {ptx::Space::kShared, 0, 0, false};
      return;
    }
    top = align_up(top, std::max<u32>(1, v.align));
    shared_[v.name] = {ptx::Space::kShared, top, static_cast<u32>(v.bytes()), false};
    top += v.bytes();
  };
  for (const ptx::Body& body : bodies_) {
    for (const ptx::Variable& v : body.variables)
      if (v.space == ptx::Space::kShared) place(v);
    for (const ptx::Statement& st : body.statements) {
      for_each_name(st, [&](const std::string& name) {
        const auto it = module_->variable_index.find(name);
        if (it == module_->variable_index.end()) return;
        const ptx::Variable& v = module_->variables[it->second];
        if (v.space == ptx::Space::kShared) place(v);
      });
    }
  }
  u32 align = 16;
  for (const ptx::Variable* v : dynamic) align = std::max(align, v->align);
  if (!dynamic.empty()) top = align_up(top, align);
  for (const ptx::Variable* v : dynamic) shared_[v->name].address = top;
  program_->static_shared = static_cast<u32>(top - Cta::kSharedBase);
}

void Decoder::place_variables(const ptx::Body& body, FunctionInfo& info, bool entry) {
  names_.clear();
  const ptx::Function& f = *sources_[current_];
  u64 frame = 0;
  const auto in_frame = [&](const ptx::Variable& v) {
    frame = align_up(frame, std::max<u32>(1, v.align));
    const u64 at = frame;
    frame += v.bytes();
    names_[v.name] = {v.space, at, static_cast<u32>(v.bytes()), true};
    return static_cast<u32>(at);
  };
  if (entry) {
    u64 top = 0;
    for (const ptx::Variable& v : f.params) {
      top = align_up(top, std::max<u32>(1, v.align));
      names_[v.name] = {ptx::Space::kParam, top, static_cast<u32>(v.bytes()), false};
      program_->params.push_back({static_cast<u32>(top), static_cast<u32>(v.bytes())});
      top += v.bytes();
    }
    program_->param_bytes = static_cast<u32>(top);
  } else {
    u32 reg = 0;
    for (const auto& [list, out] :
         {std::pair(&f.params, &info.params), {&f.results, &info.results}}) {
      for (const ptx::Variable& v : *list) {
        FunctionInfo::Param p;
        p.bytes = static_cast<u32>(v.bytes());
        if (v.space == ptx::Space::kReg) {
          p.reg = registers_[reg++];
        } else {
          p.offset = in_frame(v);
        }
        out->push_back(p);
      }
    }
  }
  // Calls declare their parameters in scopes of their own, under the same names but not of the same
  // size: one place serves all of a name.
  std::map<std::string, ptx::Variable> largest;
  for (const ptx::Variable& v : body.variables) {
    if (v.space != ptx::Space::kLocal && v.space != ptx::Space::kParam) continue;
    ptx::Variable& known = largest.try_emplace(v.name, v).first->second;
    const u32 align = std::max(known.align, v.align);
    if (v.bytes() > known.bytes()) known = v;
    known.align = align;
  }
  for (const auto& [name, v] : largest) in_frame(v);
  info.frame_bytes = static_cast<u32>(align_up(frame, 16));
}

void Decoder::decode_function(u32 index) {
  current_ = index;
  FunctionInfo& info = program_->functions[index];
  const ptx::Function& f = *sources_[index];
  const ptx::Body& body = bodies_[index];
  info.name = f.name;
  info.builtin = f.body.data() == nullptr ? builtin_of(f.name) : FunctionInfo::Builtin::kNone;
  if (info.builtin == FunctionInfo::Builtin::kMalloc ||
      info.builtin == FunctionInfo::Builtin::kFree)
    program_->needs_order = true;
  if (info.builtin != FunctionInfo::Builtin::kNone) return;
  info.entry = static_cast<u32>(program_->code.size());
  info.file_begin = file_top_;
  info.id_begin = program_->slot_ids;
  registers_.clear();
  for (const ptx::Register& r : body.registers) {
    const int bytes = ptx::type_bytes(r.type);
    registers_.push_back(new_slot(bytes == 1 ? 2 : bytes));
  }
  info.file_end = file_top_;
  info.id_end = program_->slot_ids;
  info.slots = registers_;
  if (index == 0)
    program_->registers = static_cast<u32>(std::min<size_t>(255, 16 + registers_.size() / 8));
  place_variables(body, info, index == 0);

  location_base_ = static_cast<u32>(program_->locations.size()) - 1;
  for (size_t i = 1; i < body.locations.size(); ++i) {
    ptx::Location l = body.locations[i];
    if (l.inlined_at != 0) l.inlined_at += location_base_;
    program_->locations.push_back(l);
  }
  fixups_.clear();
  first_instruction_.clear();
  for (const ptx::Statement& st : body.statements) {
    first_instruction_.push_back(static_cast<u32>(program_->code.size()));
    decode_statement(st);
  }
  first_instruction_.push_back(static_cast<u32>(program_->code.size()));
  // Falling off the end returns.
  Instr end;
  end.flow = Flow::kReturn;
  end.cls = InstrClass::kControl;
  end.text = "}";
  program_->code.push_back(end);
  for (const Fixup& fix : fixups_) {
    const u32 pc = first_instruction_[fix.statement];
    program_->code[pc].block_start = true;
    if (fix.table) {
      program_->branch_tables[fix.instruction][fix.entry] = pc;
    } else {
      program_->code[fix.instruction].target = pc;
    }
  }
  for (u32 pc = info.entry; pc + 1 < program_->code.size(); ++pc) {
    const Flow flow = program_->code[pc].flow;
    if (flow != Flow::kNone) program_->code[pc + 1].block_start = true;
  }
}

void Decoder::decode_statement(const ptx::Statement& st) {
  statement_ = &st;
  Modifiers mods(st.opcode);
  const auto it = opcode_table().find(mods.name());
  if (it == opcode_table().end()) fail("instruction '" + st.opcode + "' is not supported");
  Instr in;
  in.line = st.line;
  in.site = static_cast<u32>(program_->code.size());
  in.loc = st.loc == 0 ? 0 : st.loc + location_base_;
  in.text = st.text;
  if (st.guard >= 0) {
    in.guard = registers_[static_cast<size_t>(st.guard)];
    in.guard.negated = st.guard_negated;
  }
  it->second(*this, st, mods, in);
  const std::string left = mods.leftover();
  if (!left.empty()) fail("modifier '" + left + "' of '" + st.opcode + "' is not supported");
  if (in.fn == nullptr && in.flow == Flow::kNone)
    fail("this form of '" + st.opcode + "' is not supported");
  program_->code.push_back(in);
  statement_ = nullptr;
}

u32 Decoder::resolve_label(const std::string& name) const {
  const ptx::Body& body = bodies_[current_];
  for (u32 scope = statement_->scope;; scope = body.scope_parent[scope]) {
    for (const ptx::Label& l : body.labels)
      if (l.scope == scope && l.name == name) return l.statement;
    if (scope == 0) break;
  }
  fail("label '" + name + "' is unknown");
}

void Decoder::branch_to(const std::string& label) {
  fixups_.push_back({static_cast<u32>(program_->code.size()), 0, resolve_label(label), false});
}

u32 Decoder::branch_table(const std::string& table) {
  const auto& targets = bodies_[current_].branch_targets;
  const auto it = targets.find(table);
  if (it == targets.end()) fail("branch table '" + table + "' is unknown");
  const u32 number = static_cast<u32>(program_->branch_tables.size());
  program_->branch_tables.emplace_back(it->second.size());
  for (u32 i = 0; i < it->second.size(); ++i)
    fixups_.push_back({number, i, resolve_label(it->second[i]), true});
  return number;
}

void Decoder::call_params(const std::vector<ptx::Operand>& operands,
                          std::vector<FunctionInfo::Param>& out) {
  for (const ptx::Operand& op : operands) {
    FunctionInfo::Param p;
    const auto place = op.kind == ptx::Operand::Kind::kName ? find(op.name) : std::nullopt;
    if (place && place->in_frame) {
      p.offset = static_cast<u32>(place->address);
      p.bytes = place->bytes;
    } else {
      p.reg = source_bytes(op, 8);
      p.bytes = p.reg.width;
    }
    out.push_back(p);
  }
}

u32 Decoder::add_call(const ptx::Statement& st) {
  CallSite site;
  call_params(st.call_args, site.args);
  call_params(st.call_results, site.results);
  program_->calls.push_back(std::move(site));
  return static_cast<u32>(program_->calls.size()) - 1;
}

// The deepest stack, and which functions can call themselves.
void Decoder::measure_frames() {
  const size_t n = program_->functions.size();
  std::vector<std::vector<u32>> callees(n);
  for (size_t f = 0; f < n; ++f) {
    for (const ptx::Statement& st :
         f < bodies_.size() ? bodies_[f].statements : std::vector<ptx::Statement>{}) {
      if (!is_call(st)) continue;
      const ptx::Function* callee = module_->find_function(st.operands[0].name);
      if (callee != nullptr) callees[f].push_back(function_ids_.at(callee->name));
    }
  }
  std::vector<int> state(n, 0);
  std::vector<u64> depth(n, 0);
  const std::function<u64(u32)> visit = [&](u32 f) -> u64 {
    if (state[f] == 1) {
      for (size_t i = 0; i < n; ++i)
        if (state[i] == 1) program_->functions[i].recursive = true;
      return 0;
    }
    if (state[f] == 2) return depth[f];
    state[f] = 1;
    u64 deepest = 0;
    for (u32 c : callees[f]) deepest = std::max(deepest, visit(c));
    state[f] = 2;
    return depth[f] = program_->functions[f].frame_bytes + deepest;
  };
  for (u32 f = 0; f < n; ++f) visit(f);
  if (indirect_)
    for (u32 f = 1; f < n; ++f) program_->functions[f].recursive = true;
  program_->max_frame_bytes = static_cast<u32>(align_up(depth[0], 16));
}

// Literals go behind the registers.
void Decoder::relocate() {
  constexpr u32 kLiteralBit = 0x80000000u;
  program_->constants_off = file_top_;
  program_->file_bytes = file_top_ + static_cast<u32>(program_->constants.size());
  const auto fix = [&](Operand& o) {
    if ((o.off & kLiteralBit) != 0) o.off = (o.off & ~kLiteralBit) + file_top_;
  };
  for (Instr& in : program_->code)
    for (Operand* o : {&in.dst, &in.dst2, &in.a, &in.b, &in.c, &in.d, &in.guard}) fix(*o);
  for (Operand& o : program_->pool) fix(o);
  for (CallSite& site : program_->calls)
    for (auto* list : {&site.args, &site.results})
      for (FunctionInfo::Param& p : *list) fix(p.reg);
}

// Ordinary instructions on registers of a wgmma say so before they run.
void Decoder::watch_registers() {
  if (program_->wgmma_registers.empty()) return;
  std::vector<bool> wanted(program_->slot_ids);
  for (u32 id : program_->wgmma_registers) wanted[id] = true;
  wanted[0] = false;
  for (Instr& in : program_->code) {
    if (in.fn == nullptr || in.watch == kIsWgmma) continue;
    Watched w;
    const auto visit = [&](const Operand& o) {
      if (o.valid && wanted[o.id]) w.registers.push_back(o.id);
    };
    for (const Operand* o : {&in.dst, &in.dst2, &in.a, &in.b, &in.c, &in.d}) visit(*o);
    for (u32 i = 0; in.flow != Flow::kCall && i < in.pool_count; ++i)
      visit(program_->pool[in.pool + i]);
    if (w.registers.empty()) continue;
    w.fn = std::exchange(in.fn, ops::exec_watched);
    w.move = in.cls == InstrClass::kMove && in.text.starts_with("mov");
    in.watch = static_cast<u32>(program_->watched.size());
    program_->watched.push_back(std::move(w));
  }
}

}  // namespace vgpu
