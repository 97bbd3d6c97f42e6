// The executable form of a kernel: one array of instructions for the kernel and every function it
// can reach, with operands resolved to places in a warp's register file.
//
// Invariants:
//  - A register file is one block of bytes. Every operand is a slot of 32 lanes in it: 2, 4, 8 or
//    16 bytes per lane; a predicate is one 32-bit lane mask. Literals and per-warp special
//    registers are slots too, written once, so that execution never asks what kind an operand is.
//  - Every slot has an id; `undef[id]` has a bit per lane that holds undefined bytes. Id 0 is
//    "always defined" and is what literals and absent operands have.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/minifloat.h"
#include "common/types.h"
#include "ptx/ast.h"

namespace vgpu {

class Warp;
struct Instr;
using ExecFn = void (*)(Warp&, const Instr&, u32 mask);

struct Operand {
  u32 off = 0;   // byte offset in the register file
  u32 id = 0;    // shadow slot
  u8 width = 0;  // bytes per lane; 0: a predicate, or absent when !valid
  bool valid = false;
  bool negated = false;  // predicates only
};

// What ends the straight-line execution of a group of lanes.
enum class Flow : u8 {
  kNone,
  kBranch,
  kBranchIndexed,
  kCall,
  kReturn,
  kExit,
  kBarrier,     // bar, barrier
  kCollective,  // waits for the lanes of a member mask
  kWait,        // waits for an mbarrier or the cluster's barrier
  kAligned,     // wants the whole warp
  kYield,       // a hint that others should run
};

// How undefined bytes travel from sources to destination.
enum class ShadowRule : u8 {
  kAll,      // any undefined source byte makes the whole result undefined
  kBitwise,  // byte i depends on bytes i of the sources
  kAnd,      // like kBitwise, but a defined zero byte hides the other
  kOr,       // like kBitwise, but a defined all-ones byte hides the other
  kConvert,  // low bytes copied, the rest depends on the source's top byte
  kShift,    // the shift is applied to the undefined bits as well
  kSelect,   // selp: the chosen source
  kSelf,     // the handler writes shadows itself
};

enum class InstrClass : u8 {
  kInteger,
  kFloat,
  kHalf,
  kDouble,
  kConvert,
  kMove,
  kLogic,
  kCompare,
  kSpecial,
  kLoad,
  kStore,
  kAtomic,
  kControl,
  kBarrier,
  kShuffle,
  kMatrix,
  kAsync,
  kOther,
};
inline constexpr int kInstrClasses = 18;

enum class Compare : u8 {
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kLo,
  kLs,
  kHi,
  kHs,
  kEqu,
  kNeu,
  kLtu,
  kLeu,
  kGtu,
  kGeu,
  kNum,
  kNan,
};
enum class BoolOp : u8 { kNone, kAnd, kOr, kXor };

inline constexpr u32 kIsWgmma = ~0u;

struct Instr {
  enum class Mutation : u8 { kNone, kNoBytes, kHalfBytes, kOtherPhase, kNoWait };
  ExecFn fn = nullptr;
  Operand dst, dst2, a, b, c, d;
  Operand guard;
  u32 pool = 0;  // first of `pool_count` further operands in Program::pool
  u32 pool_count = 0;
  u32 target = 0;  // branch: instruction; call: function
  i64 imm = 0;     // address offset, or the instruction's own use
  ptx::Type type = ptx::Type::kNone, type2 = ptx::Type::kNone;
  ptx::Space space = ptx::Space::kGeneric;
  Flow flow = Flow::kNone;
  ShadowRule shadow = ShadowRule::kAll;
  InstrClass cls = InstrClass::kOther;
  Rounding rounding = Rounding::kNearestEven;
  Compare cmp = Compare::kEq;
  BoolOp bool_op = BoolOp::kNone;
  u8 vec = 1;  // elements of a vector access
  u8 sub = 0;  // the family's own sub-operation
  u8 sub2 = 0;
  bool ftz = false, sat = false, relu = false, flag = false;
  bool strong = false;  // volatile, relaxed, acquire, release or atomic access
  bool acquires = false, releases = false;
  bool in_cluster = false;              // .shared::cluster: the address may be a peer's
  bool blocks = false;                  // a wait that may suspend the thread
  Mutation mutation = Mutation::kNone;  // of an mbarrier's instruction
  bool block_start = false;             // a branch may arrive here
  bool local_symbol = false;            // address is relative to the lane's stack frame
  u8 access_bytes = 0;                  // bytes of one element of a memory access
  u8 scope = 0;                         // Scope of a strong access or a fence
  u32 flops = 0;  // FMA counts two, per lane (per warp for matrix instructions)
  u32 line = 0;   // of the PTX text
  u32 site = 0;   // index in Program::code
  u32 loc = 0;    // index into Program::locations
  u32 watch = 0;  // index into Program::watched, for exec_watched; or kIsWgmma
  std::string_view text;
};

struct FunctionInfo {
  std::string name;
  u32 entry = 0;        // first instruction
  u32 frame_bytes = 0;  // .local and .param variables of one activation
  struct Param {
    u32 offset = 0, bytes = 0;  // in the frame; or a register slot:
    Operand reg;
  };
  std::vector<Param> params, results;
  bool recursive = false;
  // Slots to save around a recursive activation.
  u32 file_begin = 0, file_end = 0, id_begin = 0, id_end = 0;
  std::vector<Operand> slots;  // its registers, when recursive
  enum class Builtin : u8 { kNone, kVprintf, kAssertFail, kMalloc, kFree } builtin = Builtin::kNone;
};

// A call site: where arguments come from and where results go, in the caller's frame.
struct CallSite {
  std::vector<FunctionInfo::Param> args, results;
};

// PTX ISA 9.0 chapter 10: special registers.
enum class Special : u8 {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneid,
  kWarpid,
  kNwarpid,
  kSmid,
  kNsmid,
  kGridid,
  kLanemaskEq,
  kLanemaskLe,
  kLanemaskLt,
  kLanemaskGe,
  kLanemaskGt,
  kDynamicSmem,
  kTotalSmem,
  kClusterIdX,
  kClusterIdY,
  kClusterIdZ,
  kNclusterIdX,
  kNclusterIdY,
  kNclusterIdZ,
  kClusterCtaidX,
  kClusterCtaidY,
  kClusterCtaidZ,
  kClusterNctaidX,
  kClusterNctaidY,
  kClusterNctaidZ,
  kClusterCtarank,
  kClusterNctarank,
  kIsExplicitCluster,
  kReservedSmemBegin,
  kReservedSmemEnd,
  kReservedSmemCap,
  kReservedSmem0,
  kReservedSmem1,
  kWorkspaceLow,
  kWorkspaceHigh,
  kClock,
  kClockHi,
  kClock64,
  kGlobaltimer,
  kGlobaltimerLo,
  kGlobaltimerHi,
  kZero,
};

// An ordinary instruction that accesses registers of a wgmma: its handler, and those registers.
struct Watched {
  ExecFn fn = nullptr;
  std::vector<u32> registers;  // ids
  bool move = false;           // mov
};

// The operands of a bulk copy, beyond what an instruction has room for.
struct BulkForm {
  struct Address {
    u32 operand = 0;  // in Program::pool
    i64 offset = 0;
    ptx::Space space = ptx::Space::kGeneric;
    bool in_cluster = false, valid = false;
  };
  Address to, from, tensor, barrier;
  i32 size = -1, mask = -1;  // operands in Program::pool, -1 for none
  u32 coordinates = 0, rank = 0;
  bool reduces = false;
  i32 value = -1;  // st.async, red.async: the first element
};

struct ParamLayout {
  u32 offset, bytes;
};

struct Program {
  std::string kernel;
  std::vector<Instr> code;
  std::vector<Operand> pool;
  std::vector<FunctionInfo> functions;  // 0 is the kernel
  std::vector<u32> by_number;           // a function's number in its module -> `functions`, or 0
  std::vector<CallSite> calls;
  std::vector<std::vector<u32>> branch_tables;
  std::vector<BulkForm> bulk;
  std::vector<ptx::Location> locations;
  std::shared_ptr<const ptx::Module> module;  // owns the text that Instr::text points into
  u32 file_bytes = 0;                         // whole register file
  u32 constants_off = 0;                      // literals: [constants_off, file_bytes), image below
  std::vector<u8> constants;
  u32 slot_ids = 1;
  std::vector<std::pair<Special, Operand>> specials;
  std::vector<ParamLayout> params;
  u32 param_bytes = 0;
  u32 static_shared = 0;
  std::vector<u32> wgmma_registers;  // ids of accumulators and fragments of A
  std::vector<Watched> watched;
  u32 max_frame_bytes = 0;            // sum of frames when no function recurs
  bool needs_order = false;           // CTAs talk to each other through global memory
  u32 shared_granule = 4;             // smallest shared-memory access in bytes
  bool uses_async_proxy = false;      // bulk copies, wgmma
  bool launches_dependents = false;   // griddepcontrol
  bool uses_reserved_shared = false;  // the system's own 1 KiB of shared memory
  bool uses_grid_workspace = false;   // cooperative groups' grid barrier
  u32 maxntid[3] = {0, 0, 0}, reqntid[3] = {0, 0, 0};
  u32 maxnreg = 0, minnctapersm = 0;
  u32 largest_increase = 0;    // operand of a setmaxnreg.inc
  u32 cluster[3] = {0, 0, 0};  // .reqnctapercluster; 0: not given
  u32 registers = 0;           // as cudaFuncAttributes tells: an estimate, not an allocation
  struct SharedLiteral {
    u32 offset, bytes;  // in `constants`; per lane
  };
  std::vector<SharedLiteral> shared_literals;  // addresses that want the rank of the CTA
  u32 global_granule = 4;                      // smallest access to global memory, at most 4

  std::string source_of(const Instr& in) const;  // "file.cu:12"
};

}  // namespace vgpu
