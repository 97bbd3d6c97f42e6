"""What a multiprocessor does in a cycle: rates, latencies, and where each number comes from.

A number is one of three things: published or measured (with its source), assumed (said so), or unknown: several numbers,
from which the clock makes its range. None is fitted to a kernel's speed.

Sources
  guide   CUDA C++ Programming Guide, "Throughput of native arithmetic instructions", results a cycle and multiprocessor
  ga100, gh100, gb202   NVIDIA's white papers of the architectures
  micro   bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-micro.jsonl, measured on an H100 SXM
"""
from dataclasses import dataclass, field, replace

SUBCORES = 4  # of a multiprocessor: each issues an instruction a cycle


@dataclass(frozen=True)
class Machine:
    name: str
    compute: int
    multiprocessors: int
    clock: tuple  # MHz: least, typical, most, under mma.sync
    # Cycles that an instruction of a warp holds a pipe of its sub-core: 32 lanes / (results a cycle / SUBCORES).
    fma: int  # FFMA, FADD, FMUL
    mma: tuple  # multiply-adds of fp16 a cycle and multiprocessor by mma.sync, from and to; tf32 half of it
    latency: tuple  # cycles from the issue of a cp.async to its arrival, all multiprocessors copying
    rate: tuple  # bytes a cycle and multiprocessor
    # Of results that an instruction waits for by a scoreboard, in cycles.
    latencies: dict = field(default_factory=dict)
    hmma_latency: tuple = (25, 33)  # of mma.sync's result: assumed
    wgmma_clock: tuple = ()  # under wgmma
    tma_latency: tuple = ()  # of a whole block of keys by TMA
    alu: int = 2  # 64 results a cycle (guide): compares, FMNMX, logic, adds of integers; F2FP: measured 63.5 (micro)
    imad: int = 2  # 64 (guide)
    mufu: int = 8  # 16 (guide); measured 16.0 (micro)
    half: int = 1  # HFMA2 and the like: 256 (guide), two to a lane
    convert: int = 8  # I2F, F2I: 16 (guide, conversions from 32 bits to others)
    tensor_queue: float = 99  # wgmma that may wait in the tensor cores
    wgmma_rs: int = 64  # cycles of m64n128k16 with A in registers; see _WGMMA_POINTS
    wgmma_start: int = 8  # with wgmma_drain what a lone loop of 8 needs beyond 8 x 64: 73 (micro)
    wgmma_drain: int = 55
    turn: int = 28  # from bar.arrive to the other warp's next instruction; 35 (micro) with what is between
    mbarrier: int = 55  # from arrive to a try_wait that succeeds; 93 (micro) with what is between
    producer: int = 60  # cycles of the producer's warp for a copy: assumed; see README
    bulk_read: int = 300  # until a bulk store has read shared memory: assumed
    launch: int = 700  # from a block's end to its successor's first instruction: assumed


# micro: dependent chains (ex2 17, shfl 24), try_wait 18. Others, by a few cycles, assumed.
_LATENCIES = {"MUFU": 17, "SHFL": 24, "SYNCS": 18, "LDS": 29, "LDSM": 33, "LDC": 30, "ULDC": 30, "S2R": 20, "S2UR": 20,
              "R2UR": 12, "STS": 12, "STSM": 12, "BAR": 10, "VOTE": 12, "I2F": 20, "F2I": 20, "REDUX": 24,
              "LDG": 600, "LD": 600, "LDL": 40, "ATOMG": 800, "FENCE": 30, "MEMBAR": 30, "UTMASTG": 20, "UTMALDG": 20,
              "LDGSTS": 20, "STG": 20}

# Multiply-adds of fp16 a cycle and multiprocessor by wgmma: m64n128k16 takes 64.0 cycles (micro).
WGMMA_RATE = 2048

# Clock under wgmma: 1254 is what cuBLAS' 8192^3 product, 678 TFLOP/s in the benchmark's own run, needs if its tensor
# cores never pause (678e12 / (132 x 4096 x 1e6)); 1320 if they do for 5 % of the time: assumed typical, under that
# card's limit of 700 W; 1664 the most over a second of wgmma of random numbers (micro). Under mma.sync, which leaves
# half of the tensor cores idle, it was not measured: from 1664 to 1980, the card's most; 1830 is the data sheet's.
# TMA, 32 KiB: alone 663 cycles; all multiprocessors, four copies in flight as of two stages of K and V, 1554 cycles
# where they read the same in step. Rates: different tiles 30 bytes; the same in step 48 with two in flight, 80 with
# four (micro). mma.sync: from sm_80's rate, 1024, to 62 % of 2048, which is reported (not measured here).
# Latency of cp.async from L2: assumed.
H100 = Machine("H100", 90, 132, clock=(1664, 1830, 1980), fma=1, mma=(1024, 1270), latency=(300, 700), rate=(30, 80),
               wgmma_clock=(1254, 1320, 1664), tma_latency=(663, 1554), latencies=_LATENCIES)

# ga100: 64 fp32, 16 SFU, 1024 fp16 multiply-adds of a multiprocessor and cycle; boost 1410 MHz, which it holds at 400
# W or not: from 10 % less. L2 gives 5120 bytes a cycle to 108 multiprocessors. Latency of cp.async from L2: assumed.
A100 = Machine("A100", 80, 108, clock=(1275, 1410, 1410), fma=2, mma=(1024, 1024), latency=(300, 700), rate=(32, 47),
               latencies=_LATENCIES)

# gb202: 128 fp32, 512 fp16 multiply-adds where sums are fp32 on workstation cards, half on GeForce. Other numbers as on
# sm_90: assumed.
GB202 = Machine("RTX PRO 6000 / 5090", 120, 170, clock=(2300, 2450, 2600), fma=1, mma=(256, 512), latency=(400, 900),
                rate=(16, 32), latencies=_LATENCIES)

MACHINES = {80: A100, 90: H100, 120: GB202}

# The points at which a kernel is replayed, as shares of a range: the range of the answer is that of these. wgmma with
# A in registers took 64.1 cycles with two warpgroups at a time, 72.0 with one alone (micro); which of them a turn of
# one warpgroup is, is unknown. Nobody publishes how many wgmma wait in the tensor cores: 4 stands for few.
POINTS = ("best", "typical", "worst")
_WGMMA_POINTS = (dict(latency=0, rate=1), dict(latency=1, rate=0.36),
                 dict(latency=1, rate=0, wgmma_rs=72, tensor_queue=4))
_MMA_POINTS = (dict(latency=0, rate=1, mma=1), dict(latency=0.5, rate=0.5, mma=0), dict(latency=1, rate=0, mma=0))


def at_point(machine, wgmma, point, **fixed):
    """The machine with one value for each range; what is in `fixed` and not None prevails."""
    number = POINTS.index(point)
    values = dict((_WGMMA_POINTS if wgmma else _MMA_POINTS)[number])
    for name in ("latency", "rate", "mma"):
        low, high = machine.tma_latency if wgmma and name == "latency" else getattr(machine, name)
        values[name] = low + (high - low) * values.get(name, 0)
    values["clock"] = (machine.wgmma_clock if wgmma else machine.clock)[2 - number]
    low, high = machine.hmma_latency
    values["latencies"] = machine.latencies | {"HMMA": low + (high - low) * number / 2}
    return replace(machine, **values | {name: value for name, value in fixed.items() if value is not None})


# Which families of instructions hold which pipe, for as many cycles as the field of Machine says that has its name.
_PIPES = {
    "mufu": "MUFU",
    "fma": "FFMA FADD FMUL FFMA2 FADD2 FMUL2",
    "imad": "IMAD IMUL",
    "half": "HFMA2 HADD2 HMUL2 HSET2 HSETP2 HMNMX2",
    "alu": "FMNMX FMNMX3 FSEL SEL ISETP FSETP FSET LOP3 PLOP3 SHF SHL SHR LEA IADD3 IADD VIADD VIADDMNMX PRMT F2FP MOV "
           "CS2R IMNMX VIMNMX VIMNMX3 IABS SGXT FLO POPC LOP P2R R2P BMSK FCHK UMOV",
    "convert": "I2F F2I I2I F2F FRND I2FP F2IP",
}
_PIPE_OF = {family: pipe for pipe, families in _PIPES.items() for family in families.split()}

# Wavefronts of shared memory, of which a multiprocessor has one a cycle (128 bytes: ga100, gh100). Warps of all four
# sub-cores do the same at the same time, so that each holds the pipe four times as long. No bank conflicts.
_WAVEFRONTS = ((".128", 4), (".M88.4", 4), (".MT88.4", 4), (".M88.2", 2), (".MT88.2", 2), (".64", 2))


def wavefronts(opcode):
    return next((count for name, count in _WAVEFRONTS if name in opcode), 1)


def mma_cycles(machine, opcode):
    """Cycles of a sub-core's tensor core for a warp's mma.sync."""
    shape = opcode.split(".")[1]
    multiply_adds = {"16816": 16 * 8 * 16, "1688": 16 * 8 * 8, "1684": 16 * 8 * 4}[shape]
    rate = machine.mma / SUBCORES
    return multiply_adds / (rate / 2 if "TF32" in opcode else rate)


def pipe_of(machine, instruction):
    """(pipe, cycles that it is held) or (None, 0)."""
    family, opcode = instruction.family, instruction.opcode
    if family == "HMMA":
        return "tensor", mma_cycles(machine, opcode)
    if family in ("LDS", "LDSM", "STS", "STSM", "LDGSTS", "ATOMS"):
        return "shared", SUBCORES * wavefronts(opcode)
    if family == "SHFL":
        return "shared", SUBCORES  # 32 lanes a cycle (guide); measured 32.0 (micro)
    if family in ("LDG", "STG", "LD", "ST", "LDL", "STL", "ATOMG", "RED"):
        return "memory", SUBCORES
    pipe = _PIPE_OF.get(family)
    return pipe, getattr(machine, pipe) if pipe else 0


def wgmma_cycles(machine, instruction):
    """Cycles of a multiprocessor's tensor cores for a warpgroup's wgmma."""
    m, n, k = (int(x) for x in instruction.opcode.split(".")[1].split("x"))
    cycles = m * n * k / WGMMA_RATE
    first_source = instruction.text.split(",")[1].strip()
    return cycles * (machine.wgmma_rs / 64 if first_source.startswith("R") else 1)
