#include "machine/decoder.h"

#include <algorithm>

#include "machine/cta.h"

namespace vgpu {
namespace {

// Marks an operand's offset as relative to the literals until these have their place.
constexpr u32 kLiteralBit = 0x80000000u;

constexpr std::pair<std::string_view, Special> kSpecials[] = {
    {"%tid.x", Special::kTidX},
    {"%tid.y", Special::kTidY},
    {"%tid.z", Special::kTidZ},
    {"%ntid.x", Special::kNtidX},
    {"%ntid.y", Special::kNtidY},
    {"%ntid.z", Special::kNtidZ},
    {"%ctaid.x", Special::kCtaidX},
    {"%ctaid.y", Special::kCtaidY},
    {"%ctaid.z", Special::kCtaidZ},
    {"%nctaid.x", Special::kNctaidX},
    {"%nctaid.y", Special::kNctaidY},
    {"%nctaid.z", Special::kNctaidZ},
    {"%laneid", Special::kLaneid},
    {"%warpid", Special::kWarpid},
    {"%nwarpid", Special::kNwarpid},
    {"%smid", Special::kSmid},
    {"%nsmid", Special::kNsmid},
    {"%gridid", Special::kGridid},
    {"%lanemask_eq", Special::kLanemaskEq},
    {"%lanemask_le", Special::kLanemaskLe},
    {"%lanemask_lt", Special::kLanemaskLt},
    {"%lanemask_ge", Special::kLanemaskGe},
    {"%lanemask_gt", Special::kLanemaskGt},
    {"%dynamic_smem_size", Special::kDynamicSmem},
    {"%total_smem_size", Special::kTotalSmem},
    {"%clusterid.x", Special::kClusterIdX},
    {"%clusterid.y", Special::kClusterIdY},
    {"%clusterid.z", Special::kClusterIdZ},
    {"%nclusterid.x", Special::kNclusterIdX},
    {"%nclusterid.y", Special::kNclusterIdY},
    {"%nclusterid.z", Special::kNclusterIdZ},
    {"%cluster_ctaid.x", Special::kClusterCtaidX},
    {"%cluster_ctaid.y", Special::kClusterCtaidY},
    {"%cluster_ctaid.z", Special::kClusterCtaidZ},
    {"%cluster_nctaid.x", Special::kClusterNctaidX},
    {"%cluster_nctaid.y", Special::kClusterNctaidY},
    {"%cluster_nctaid.z", Special::kClusterNctaidZ},
    {"%cluster_ctarank", Special::kClusterCtarank},
    {"%cluster_nctarank", Special::kClusterNctarank},
    {"%is_explicit_cluster", Special::kIsExplicitCluster},
    {"%reserved_smem_offset_begin", Special::kReservedSmemBegin},
    {"%reserved_smem_offset_end", Special::kReservedSmemEnd},
    {"%reserved_smem_offset_cap", Special::kReservedSmemCap},
    {"%reserved_smem_offset_0", Special::kReservedSmem0},
    {"%reserved_smem_offset_1", Special::kReservedSmem1},
    {"%envreg1", Special::kWorkspaceHigh},
    {"%envreg2", Special::kWorkspaceLow},
    {"%clock", Special::kClock},
    {"%clock_hi", Special::kClockHi},
    {"%clock64", Special::kClock64},
    {"%globaltimer", Special::kGlobaltimer},
    {"%globaltimer_lo", Special::kGlobaltimerLo},
    {"%globaltimer_hi", Special::kGlobaltimerHi},
};

int slot_bytes(ptx::Type type) {
  const int bytes = ptx::type_bytes(type);
  return bytes == 1 ? 2 : bytes;
}

}  // namespace

std::string Program::source_of(const Instr& in) const {
  std::string out;
  for (u32 i = in.loc; i != 0; i = locations[i].inlined_at) {
    const auto file = module->files.find(locations[i].file);
    if (file == module->files.end()) break;
    // Line 0 says that the code belongs to no line.
    if (locations[i].line == 0) continue;
    const std::string name = file->second.substr(file->second.rfind('/') + 1);
    out += (out.empty() ? "" : " inlined at ") + name + ":" + std::to_string(locations[i].line);
  }
  return out;
}

Modifiers::Modifiers(std::string_view opcode) {
  for (;;) {
    const size_t dot = opcode.find('.');
    parts_.push_back(opcode.substr(0, dot));
    if (dot == std::string_view::npos) break;
    opcode = opcode.substr(dot + 1);
  }
  used_.assign(parts_.size(), false);
  used_[0] = true;
}
bool Modifiers::take(std::string_view word) {
  for (size_t i = 1; i < parts_.size(); ++i) {
    if (!used_[i] && parts_[i] == word) {
      used_[i] = true;
      return true;
    }
  }
  return false;
}
bool Modifiers::has(std::string_view word) const {
  return std::find(parts_.begin() + 1, parts_.end(), word) != parts_.end();
}
ptx::Type Modifiers::take_type() {
  for (size_t i = 1; i < parts_.size(); ++i) {
    if (used_[i]) continue;
    const ptx::Type type = ptx::type_from_name(parts_[i]);
    if (type != ptx::Type::kNone) {
      used_[i] = true;
      return type;
    }
  }
  return ptx::Type::kNone;
}
int Modifiers::take_one(std::initializer_list<std::string_view> words) {
  int i = 0;
  for (std::string_view w : words) {
    if (take(w)) return i;
    ++i;
  }
  return -1;
}
std::string_view Modifiers::take_any() {
  for (size_t i = 1; i < parts_.size(); ++i) {
    if (!used_[i]) {
      used_[i] = true;
      return parts_[i];
    }
  }
  return {};
}
std::string Modifiers::leftover() const {
  std::string out;
  for (size_t i = 1; i < parts_.size(); ++i)
    if (!used_[i]) out += "." + std::string(parts_[i]);
  return out;
}

void Decoder::fail(const std::string& what) const {
  const u32 line = statement_ == nullptr ? 0 : statement_->line;
  const std::string text = statement_ == nullptr ? "" : std::string(statement_->text);
  throw PtxError(line, what + (text.empty() ? "" : ": " + text));
}

Operand Decoder::new_slot(int bytes) {
  Operand o;
  o.valid = true;
  o.width = static_cast<u8>(bytes);
  o.off = file_top_;
  file_top_ += static_cast<u32>(align_up(bytes == 0 ? 4 : static_cast<u64>(bytes) * kLanes, 64));
  o.id = program_->slot_ids++;
  return o;
}
Operand Decoder::scratch(int bytes) { return new_slot(bytes); }
Operand Decoder::carry_flag() {
  if (!carry_.valid) carry_ = new_slot(0);
  return carry_;
}

Operand Decoder::literal(u64 value, int bytes) {
  if (bytes == 1) bytes = 2;
  if (bytes < 8 && bytes > 0) value &= (u64{1} << (bytes * 8)) - 1;
  auto& image = program_->constants;
  const auto [it, fresh] = literals_.try_emplace({value, bytes}, static_cast<u32>(image.size()));
  if (fresh) {
    if (bytes == 0) {
      const u32 mask = value != 0 ? kAllLanes : 0;
      image.resize(image.size() + 64);
      std::memcpy(&image[it->second], &mask, sizeof mask);
    } else {
      const auto width = static_cast<size_t>(bytes);
      image.resize(image.size() + align_up(width * kLanes, 64));
      for (size_t lane = 0; lane < kLanes; ++lane)
        std::memcpy(&image[it->second + lane * width], &value, std::min<size_t>(width, 8));
    }
  }
  Operand o;
  o.valid = true;
  o.width = static_cast<u8>(bytes);
  o.off = kLiteralBit | it->second;
  return o;
}

Operand Decoder::place_literal(const Place& place, i64 offset, int bytes) {
  const u64 address = place.address + static_cast<u64>(offset);
  if (place.space != ptx::Space::kShared || bytes < 4) return literal(address, bytes);
  // A number of its own, that no other literal is merged with.
  const auto known = shared_literals_.find({address, bytes});
  if (known != shared_literals_.end()) return known->second;
  const auto other = literals_.extract({address, bytes});
  const Operand o = literal(address, bytes);
  literals_.erase({address, bytes});
  if (!other.empty()) literals_.insert({other.key(), other.mapped()});
  program_->shared_literals.push_back({o.off & ~kLiteralBit, static_cast<u32>(bytes)});
  return shared_literals_[{address, bytes}] = o;
}

Operand Decoder::special(const std::string& name, int bytes) {
  for (const auto& [text, special] : kSpecials) {
    if (text != name) continue;
    const std::pair key(static_cast<int>(special), bytes);
    const auto known = specials_.find(key);
    if (known != specials_.end()) return known->second;
    if (special == Special::kReservedSmem0 || special == Special::kReservedSmem1)
      program_->uses_reserved_shared = true;
    if (special == Special::kWorkspaceLow) program_->uses_grid_workspace = true;
    Operand slot = new_slot(bytes);
    program_->specials.emplace_back(special, slot);
    specials_[key] = slot;
    return slot;
  }
  fail("name '" + name + "' is unknown");
}

std::optional<Decoder::Place> Decoder::find(const std::string& name) const {
  const auto local = names_.find(name);
  if (local != names_.end()) return local->second;
  const auto shared = shared_.find(name);
  if (shared != shared_.end()) return shared->second;
  if (const auto address = symbols_.address(name))
    return Place{ptx::Space::kGlobal, *address, 0, false};
  return std::nullopt;
}

bool Decoder::is_function(const std::string& name) const {
  return module_->find_function(name) != nullptr;
}
u32 Decoder::function_id(const std::string& name) {
  const ptx::Function* f = module_->find_function(name);
  const auto it = f == nullptr ? function_ids_.end() : function_ids_.find(f->name);
  if (it == function_ids_.end()) fail("function '" + name + "' is unknown");
  return it->second;
}

std::optional<u32> Decoder::frame_offset(const ptx::Operand& op) const {
  if (op.kind != ptx::Operand::Kind::kName) return std::nullopt;
  const auto place = find(op.name);
  if (!place || !place->in_frame) return std::nullopt;
  return static_cast<u32>(place->address + static_cast<u64>(op.value));
}

Operand Decoder::source(const ptx::Operand& op, ptx::Type type) {
  if (op.kind == ptx::Operand::Kind::kFloat64 && type == ptx::Type::kF32)
    return literal(bits<u32>(static_cast<float>(bits<double>(op.value))), 4);
  if (op.kind == ptx::Operand::Kind::kFloat32 && type == ptx::Type::kF64)
    return literal(bits<u64>(static_cast<double>(bits<float>(static_cast<u32>(op.value)))), 8);
  return source_bytes(op, slot_bytes(type));
}

Operand Decoder::source_bytes(const ptx::Operand& op, int bytes) {
  using Kind = ptx::Operand::Kind;
  switch (op.kind) {
    case Kind::kReg: {
      Operand o = registers_[op.reg];
      o.negated = op.negated;
      return o;
    }
    case Kind::kInt:
    case Kind::kFloat32:
    case Kind::kFloat64:
      return literal(static_cast<u64>(op.value), bytes);
    case Kind::kName: {
      if (const auto place = find(op.name)) return place_literal(*place, op.value, bytes);
      if (is_function(op.name)) {
        return literal(*symbols_.address("") + module_->function_number(op.name), bytes);
      }
      if (op.name == "WARP_SZ") return literal(kLanes, bytes);
      return special(op.name, bytes);
    }
    case Kind::kVector:
      if (op.elements.size() == 1) return source_bytes(op.elements[0], bytes);
      break;
    default:
      break;
  }
  fail("a register or constant is expected");
}

Operand Decoder::dest(const ptx::Operand& op, int bytes_if_sink) {
  if (op.kind == ptx::Operand::Kind::kReg) return registers_[op.reg];
  if (op.kind == ptx::Operand::Kind::kSink) return new_slot(bytes_if_sink == 1 ? 2 : bytes_if_sink);
  if (op.kind == ptx::Operand::Kind::kVector && op.elements.size() == 1)
    return dest(op.elements[0], bytes_if_sink);
  fail("a destination register is expected");
}

Operand Decoder::predicate(const ptx::Operand& op) {
  const Operand o = source_bytes(op, 0);
  if (o.width != 0) fail("a predicate is expected");
  return o;
}

i64 Decoder::constant(const ptx::Operand& op) {
  if (op.kind != ptx::Operand::Kind::kInt) fail("a constant is expected");
  return op.value;
}

ptx::Operand Decoder::resolve(const ptx::Operand& op) const {
  const auto& registers = bodies_[current_].registers;
  for (u32 i = static_cast<u32>(registers.size()); i-- > 0;) {
    if (registers[i].name != op.name) continue;
    ptx::Operand out = op;
    out.kind = ptx::Operand::Kind::kReg;
    out.reg = i;
    return out;
  }
  fail("register '" + op.name + "' is unknown");
}

void Decoder::address(const ptx::Operand& op, Instr& in) {
  if (op.kind != ptx::Operand::Kind::kAddress || op.elements.size() != 1)
    fail("an address in brackets is expected");
  const ptx::Operand& base = op.elements[0];
  in.imm = op.value;
  if (base.kind == ptx::Operand::Kind::kName) {
    if (const auto place = find(base.name)) {
      in.a = place_literal(*place, base.value, 8);
      if (place->in_frame) {
        in.space = ptx::Space::kLocal;
        in.local_symbol = true;
      } else if (place->space == ptx::Space::kShared && in.space == ptx::Space::kGeneric) {
        in.space = ptx::Space::kShared;
      }
      return;
    }
  }
  in.a = source_bytes(base, 8);
  if (in.space == ptx::Space::kParam && !in_entry()) in.space = ptx::Space::kLocal;
  if (in.a.width != 4 && in.a.width != 8) fail("the address must have 32 or 64 bits");
}

void Decoder::pool_add(const Operand& op, Instr& in) {
  if (in.pool_count == 0) in.pool = static_cast<u32>(program_->pool.size());
  program_->pool.push_back(op);
  ++in.pool_count;
}
void Decoder::pool_sources(const ptx::Operand& op, ptx::Type type, Instr& in) {
  if (op.kind != ptx::Operand::Kind::kVector) {
    pool_add(source(op, type), in);
    return;
  }
  for (const ptx::Operand& e : op.elements) pool_add(source(e, type), in);
}
void Decoder::pool_dests(const ptx::Operand& op, Instr& in, int bytes) {
  if (op.kind != ptx::Operand::Kind::kVector) {
    pool_add(dest(op, bytes), in);
    return;
  }
  for (const ptx::Operand& e : op.elements) pool_add(dest(e, bytes), in);
}

}  // namespace vgpu
