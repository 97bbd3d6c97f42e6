"""What the clock is told of each kernel, beyond its machine code: tiles, marks of its ways, who tells whom what.

The rest it finds in the code. A kernel that changes its protocol fails here, aloud: a way's signs are compared with its
barrier instructions one by one.
"""
import re
from dataclasses import dataclass, field, replace

TYPES = {"1": "f32", "2": "f16", "3": "bf16"}  # qkv::kernels::Type
_WAIT = "SYNCS.PHASECHK"  # of an mbarrier
VARIANTS = ("tall", "short", "rules")  # Sm80Variant


@dataclass(frozen=True)
class Ways:
    """Of one kind of warp: marks and signs of a step of the main loop and of what stands between two tiles' loops."""
    loop: list
    boundary: list
    loop_signs: list = field(default_factory=list)
    boundary_signs: list = field(default_factory=list)
    start: list = field(default_factory=list)  # of a block with one tile: from its beginning to the loop
    start_signs: list = field(default_factory=list)


@dataclass(frozen=True)
class Persistent:
    """Two math warpgroups that take turns and a producer; one block stays on a multiprocessor."""
    name: str
    compute: int
    tile_q: int
    tile_kv: int
    dim: int
    math: tuple  # Ways of warpgroups 0 and 1
    signals: dict  # name: (parties, delay: "turn" or "mbarrier", completions ahead)
    seeds: list  # (signal, party) that has arrived before the first tile
    copies: object  # (blocks) -> a tile's [(awaited or None, [completed], bytes)]
    before: list = field(default_factory=list)  # copies ahead of the first tile: the end of one that is not replayed
    dim_v: int = 0  # 0: dim
    # A block computes one tile: a start before the loop, and in the boundary's stead an end; of the first `inside`
    # warpgroups from the loop's head on, since a block of keys ends in it.
    one_tile: bool = False

    wgmma = True
    inside = 1  # blocks of a tile whose products stand in the boundary


@dataclass(frozen=True)
class Resident:
    """Four warps a block, one on each sub-core; a block computes one tile; as many on a multiprocessor as fit."""
    name: str
    compute: int
    tile_q: int
    tile_kv: int
    dim: int
    smem: int  # bytes a block, with the KiB that CUDA takes
    ways: Ways  # boundary: from the loop to the end; `start`: from the beginning to the loop
    start: list
    registers: int = 0
    inside: int = 0  # blocks of a tile whose products stand in the boundary

    wgmma = False

    def blocks(self):
        of_smem = {80: 164, 90: 228, 120: 100}[self.compute] * 1024 // self.smem
        of_registers = 65536 // (128 * (-(-self.registers // 8) * 8))
        return min(of_smem, of_registers)


def turns(parties=("W0", "W1")):
    return {f"turn{n}": ((party, parties[n - 1]), "turn", 0) for n, party in enumerate(parties)}


# By (d_qk, d_v) as compiled: math warpgroups, keys of a block, buffers of Q, buffers that K and V share
# (sm90_forward/policy.h).
SM90_SHAPES = {(64, 64): (3, 128, 2, 10), (96, 96): (2, 128, 2, 5), (128, 128): (2, 128, 2, 5),
               (192, 128): (2, 128, 1, 4), (256, 256): (2, 80, 1, 4)}


SM90_RULES_SHAPES = {(64, 64): (2, 96, 2, 8), (96, 96): (2, 80, 2, 6), (128, 128): (2, 80, 2, 6),
                     (192, 128): (2, 80, 2, 4)}
SM90_VARIANTS = ("plain", "softcap", "rules")  # Sm90Variant


def sm90_forward(kernel_type, dim_qk, dim_v, variant):
    """kernels/README.md, sm90_forward: S1, A1 and so on are the turns, K+, K- and so on the mbarriers."""
    shapes = SM90_RULES_SHAPES if variant == "rules" else SM90_SHAPES
    warpgroups, tile_kv, q_buffers, kv_buffers = shapes[dim_qk, dim_v]
    ahead = q_buffers == 2 and warpgroups == 2 and variant != "rules" and (variant, dim_qk) != ("softcap", 96)  # the next tile's first Q K^T
    qk, pv = (f"HGMMA.64x{tile_kv}x", dim_qk // 16), (f"HGMMA.64x{dim_v}x", tile_kv // 16)
    # Of the weights and, but with three warpgroups, of the rescale, which O is spared where no row rises.
    exponentials = [("MUFU.EX2", tile_kv // 2 * (2 if variant == "softcap" else 1) + (2 if warpgroups == 2 else 0))]
    panels = -(-dim_v // 64)
    store = [("STSM", dim_v // 16), ("UTMASTG", panels)]  # O, by the leading lane
    stored = [("DEPBAR.LE SB0", 1), ("SYNCS.ARRIVE", 1)]  # shared memory has been read

    def ways(me):
        mine, other = f"turn{me}", f"turn{(me + 1) % warpgroups}"
        turn = [("sync", mine), ("wait", "K+"), ("pass", other)]
        products = [("HGMMA", tile_kv // 16), ("HGMMA", dim_qk // 16)]
        if ahead:
            boundary = [("HGMMA", tile_kv // 16 + dim_qk // 16), ("SYNCS.ARRIVE", 1)] + store
            boundary += [("SYNCS.ARRIVE", 1)] + exponentials + stored
            signs = [("wait", "V+"), ("wait", f"Q+{me}")] + turn + [("arrive", "V-"), ("arrive", "K-"), ("arrive", "Q-")]
        else:
            boundary = products[:1] + [("SYNCS.ARRIVE", 1)] + store + stored + products[1:] + [("SYNCS.ARRIVE", 1)]
            signs = [("wait", "V+"), ("arrive", "V-"), ("sync", f"Q read {me}"), ("arrive", "Q-"),
                     ("wait", f"Q+{me}")] + turn + [("arrive", "K-")]
        return Ways(
            loop=[(_WAIT, 1), qk, (_WAIT, 1), pv] + exponentials, boundary=boundary,
            loop_signs=[("sync", mine), ("wait", "K+"), ("wait", "V+"), ("pass", other), ("arrive", "K-"),
                        ("arrive", "V-")],
            boundary_signs=signs)

    # K of block n has number 2n of the ring, V 2n + 1: with an odd number of buffers K is copied when a V is released,
    # and V when a K is, else each into its own.
    odd = kv_buffers % 2
    key, value = (("V-" if odd else "K-", ["K+"], tile_kv * -(-dim_qk // 64) * 128),
                  ("K-" if odd else "V-", ["V+"], tile_kv * panels * 128))
    queries = [("Q-" if w == 0 else None, [f"Q+{w}"], 128 * -(-dim_qk // 64) * 64) for w in range(warpgroups)]

    def copies(blocks):
        tile = [queries[0], key, *queries[1:], value] if q_buffers == 2 else [key, value, *queries]
        return tile + [key, value] * (blocks - 1)

    warps, producer = tuple(f"W{w}" for w in range(warpgroups)), ("producer",)
    return Persistent(
        f"sm90_forward<{kernel_type}, {dim_qk}{'' if dim_qk == dim_v else f'/{dim_v}'}, "
        f"{variant}>", 90, 64 * warpgroups, tile_kv, dim_qk,
        tuple(map(ways, range(warpgroups))),
        signals={**turns(warps), "K+": (producer, "mbarrier", 0), "V+": (producer, "mbarrier", 0),
                 **{f"Q+{w}": (producer, "mbarrier", 0) for w in range(warpgroups)},
                 **{f"Q read {w}": ((warps[w],), "turn", 0) for w in range(warpgroups)},
                 "K-": (warps, "mbarrier", kv_buffers // 2), "V-": (warps, "mbarrier", (kv_buffers + 1) // 2),
                 "Q-": (warps, "mbarrier", 2 * (q_buffers - 1))},
        seeds=[("turn0", warps[-1])], copies=copies, dim_v=dim_v)


def sm90_wide(kernel_type, softcap):
    """kernels/README.md, sm90_wide, head dim 512: W0 multiplies K's 8 pieces and its 4 of V, W1 the other 4 of V. The
    loop begins behind Q K^T of a block and ends behind that of the next one. Of two blocks in step each copies half of
    every piece for both."""
    stages, k_pieces, v_pieces, cluster = 8, 8, 4, 2
    weights = [("MUFU.EX2", 130 if softcap else 66)]
    narrow = [("HGMMA.64x64x", 0), ("HGMMA.64x192x", 0)]  # of fewer columns of O
    wide, release = "HGMMA.64x256x", r"SYNCS.ARRIVE\S*RED"
    qk = ("HGMMA.64x128x", 4 * k_pieces)
    pv = [(wide, 4), (release, 1), (wide, 2), (release, 1), (wide, 2), (release, 2)]
    store = [("STSM", 16), ("UTMASTG", 4)]

    def pieces(name, count):
        """Each waits for its piece, then releases the one before."""
        return [("wait", f"{name}+")] + [("wait", f"{name}+"), ("arrive", f"{name}-")] * (count - 1)

    # P-: W1 has used a buffer of P, of two; the end's wait for the last but one is never long.
    weigh = [("wait", "P-"), ("sync", "P written")] + pieces("L", v_pieces)
    next_qk = [("wait", "K+"), ("arrive", "L-")] + [("wait", "K+"), ("arrive", "K-")] * (k_pieces - 1)
    w0 = Ways(
        loop=weights + [("STSM", 8), (wide, 2 * v_pieces)] + narrow + [qk],
        loop_signs=weigh + next_qk + [("arrive", "P+"), ("arrive", "K-")],
        boundary=weights + [("STSM", 8)] + pv + narrow + store,
        boundary_signs=weigh + [("arrive", "P+"), ("arrive", "L-"), ("wait", "free"), ("arrive", "P+")],
        start=[qk], start_signs=[("sync", "begun"), ("wait", "Q+")] + pieces("K", k_pieces) + [("arrive", "K-")])
    w1 = Ways(loop=pv + narrow,
              loop_signs=[("wait", "P+")] + pieces("R", v_pieces) + [("arrive", "R-"), ("arrive", "P-")],
              boundary=store, boundary_signs=[("wait", "P+")], start=[], start_signs=[("sync", "begun")])

    def copies(blocks):
        order = []
        for block in range(blocks):
            order += ["K"] * k_pieces + ["R"] * (v_pieces if block else 0) + ["L"] * v_pieces
        order += ["R"] * v_pieces
        ring = [(order[n - stages] + "-" if n >= stages else None, [kind + "+"], 16384 / cluster)
                for n, kind in enumerate(order)]
        # Behind a tile all stages are free again: the next one begins with others.
        return [("begun", ["Q+"], 65536)] + ring + [(kind + "-", [], 0) for kind in order[-stages:]]

    producer, first, second = ("producer",), ("W0",), ("W1",)
    return Persistent(
        f"sm90_wide<{kernel_type}, {'softcap' if softcap else 'plain'}>", 90, 64, 128, 512, (w0, w1),
        signals={"Q+": (producer, "mbarrier", 0), "K+": (producer, "mbarrier", 0), "L+": (producer, "mbarrier", 0),
                 "R+": (producer, "mbarrier", 0), "K-": (first, "mbarrier", 0), "L-": (first, "mbarrier", 0),
                 "R-": (second, "mbarrier", 0), "P+": (first, "mbarrier", 0), "P-": (second, "mbarrier", 2),
                 "P written": (first, "turn", 0), "begun": (first + second, "turn", 0), "free": ((), "turn", 0)},
        seeds=[], copies=copies, one_tile=True)


# By d_qk as compiled: buffers of Q, buffers of K (sm90_hard/policy.h).
SM90_HARD_STAGES = {64: (2, 11), 96: (2, 4), 128: (2, 4), 192: (1, 3), 256: (1, 2)}


def sm90_hard(kernel_type, dim):
    """Three math warpgroups that do not wait for each other. Its loop is that of blocks without a new best score; the
    boundary is without the rows of V and O."""
    q_buffers, k_buffers = SM90_HARD_STAGES[dim]
    rows = -(-dim // 64) * 128  # bytes of a row of Q or K in shared memory
    ways = Ways(loop=[(_WAIT, 1), ("HGMMA.64x128x", dim // 16), ("SYNCS.ARRIVE", 1), ("VOTE", 1)],
                loop_signs=[("wait", "K+"), ("arrive", "K-")],
                boundary=[("SYNCS.ARRIVE", 1), (_WAIT, 1)], boundary_signs=[("arrive", "Q-"), ("wait", "Q+")])
    warps, producer = ("W0", "W1", "W2"), ("producer",)
    return Persistent(
        f"sm90_hard<{kernel_type}, {dim}>", 90, 192, 128, dim, (ways,) * 3,
        signals={"K+": (producer, "mbarrier", 0), "K-": (warps, "mbarrier", k_buffers),
                 "Q+": (producer, "mbarrier", 0), "Q-": (warps, "mbarrier", q_buffers - 1)},
        seeds=[], copies=lambda blocks: [("Q-", ["Q+"], 192 * rows)] + [("K-", ["K+"], 128 * rows)] * blocks)


def flash3(causal):
    """FlashAttention-3's forward of head dim 128, bf16, one block to a cluster (calibrate.py). Warpgroup 1 does not
    wait for K and V: the turn tells it."""
    tile_kv = 128 if causal else 176
    qk, pv = f"HGMMA.64x{tile_kv}", "HGMMA.64x128x16.F32.BF16 R[0-9]+, R"
    qk = qk + "x16.F32.BF16 R[0-9]+, gdesc"

    def ways(me):
        mine, other = f"turn{me}", f"turn{1 - me}"
        first = me == 0
        scheduler = [("wait", "work"), ("pass", "work read")] if causal else []
        return Ways(
            loop=[(_WAIT, 1), (qk, 8), (_WAIT, 1), (pv, tile_kv // 16)] if first else
            [(_WAIT, 0), (qk, 8), (pv, tile_kv // 16)],
            boundary=[(_WAIT, 1), (pv, tile_kv // 16), ("STSM", 8), ("UTMASTG", 0 if first else 2), (_WAIT, 2),
                      (qk, 8)],
            loop_signs=([("wait", "K+")] if first else []) + [("sync", mine)] + ([("wait", "V+")] if first else []) +
            [("pass", other), ("arrive", "K-"), ("arrive", "V-")],
            boundary_signs=[("pass", "Q-"), ("wait", "V+" if first else "last V+"), ("arrive", "V-")] + scheduler +
            [("sync", "epilogue"), ("pass", "O written")] +
            ([] if first else [("wait", "O written"), ("arrive", "O stored")]) +
            [("wait", f"Q+{me}"), ("wait", "K+" if first else "first K+"), ("arrive", "K-")])

    size = tile_kv * 256
    last = [("V-", ["V+", "last V+"], size)] + ([("work read", ["work"], 0)] if causal else [])

    def copies(blocks):
        first = [("K-", ["K+", "first K+"], size), ("Q-", ["Q+0", "Q+1"], 32768), ("O stored", [], 0)]
        middle = [("K-", ["K+"], size), ("V-", ["V+"], size)] * (blocks - 1)
        return first + middle + last

    warps, producer = ("W0", "W1"), ("producer",)
    signals = {name: (producer, "mbarrier", 0) for name in ("K+", "V+", "first K+", "last V+", "Q+0", "Q+1")}
    signals |= {"K-": (warps, "mbarrier", 2), "V-": (warps, "mbarrier", 2), "Q-": (warps, "turn", 1),
                "epilogue": (warps, "turn", 0), "O written": (warps, "turn", 0), "O stored": (("W1",), "mbarrier", 1)}
    if causal:
        signals |= {"work": (producer, "turn", 0), "work read": (warps, "turn", 1)}
    return Persistent(f"FlashAttention-3<128x{tile_kv}, {'causal' if causal else 'full'}>", 90, 128, tile_kv, 128,
                      (ways(0), ways(1)), signals | turns(), [("turn0", "W1")], copies, last)


def sm80_forward(compute, registers, kernel_type, dim, variant):
    tile_q, tile_kv, stages = {(64, 0): (128, 64, 2), (128, 0): (128, 48, 2), (256, 2): (64, 32, 1)}.get(
        (dim, variant), (64, 64, 1))
    name = f"sm80_forward<{kernel_type}, {dim}, {VARIANTS[variant]}>"
    return _resident(name, compute, registers, tile_q, tile_kv, dim, stages)


def flash2(compute, registers):
    """FlashAttention-2's causal forward of head dim 128, bf16, on sm_80 (calibrate.py): its loop without masks. ptxas
    has turned that loop round: it begins with the copy of K, and the last P V is behind it."""
    step = [("LDGSTS", 8), ("HMMA", 128)]
    return replace(_resident("FlashAttention-2<128x64>", compute, registers, 128, 64, 128),
                   ways=Ways(loop=step * 2, boundary=[("HMMA", 128), ("LDGSTS", 0)]),
                   start=[("LDGSTS", 24)] + step * 3, inside=2)


def _resident(name, compute, registers, tile_q, tile_kv, dim, stages=1):
    """With one stage V is copied before Q K^T and the next K behind it, with two both before it."""
    copies = tile_kv * dim * 2 // 2048  # 128 threads copy 16 bytes each
    products = tile_q // 64 * (tile_kv // 8) * (dim // 16)
    loop = {1: [("LDGSTS", copies), ("HMMA", products)] * 2, 2: [("LDGSTS", 2 * copies), ("HMMA", 2 * products)]}
    return Resident(
        name, compute, tile_q, tile_kv, dim, 2 * dim * (tile_q + 2 * stages * tile_kv) + 1024,
        Ways(loop=loop[stages], boundary=[("HMMA", 0), ("LDGSTS", 0)]),
        start=[("LDGSTS", tile_q * dim * 2 // 2048 + stages * copies), ("HMMA", 0)], registers=registers)


def sm80_tf32x3(compute, registers, dim, rules):
    tile_kv = 16 if (dim, rules) == (128, True) else 32
    copies = tile_kv * dim * 4 // 2048
    qk = 3 * (tile_kv // 8) * (dim // 8)
    return Resident(
        f"sm80_tf32x3<{dim}, {'rules' if rules else 'plain'}>", compute, 64, tile_kv, dim,
        4 * (dim * (64 + 2 * tile_kv) + 64 * tile_kv) + 1024,
        Ways(loop=[("LDGSTS", copies), ("HMMA", qk), ("LDGSTS", copies), ("HMMA", qk + tile_kv // 16 * (dim // 8))],
             boundary=[("HMMA", 0), ("LDGSTS", 0)]),
        start=[("LDGSTS", 64 * dim * 4 // 2048 + copies), ("HMMA", 0)], registers=registers)


def sm80_hard(compute, registers, kernel_type, dim, rules):
    """Its loop is that of blocks without a new best score. Q lies in two of the three stages of K."""
    tile_q, tile_kv = (64, 32) if rules else (128, 64)
    copies = tile_kv * dim * 2 // 2048
    return Resident(
        f"sm80_hard<{kernel_type}, {dim}, {'rules' if rules else 'plain'}>", compute, tile_q, tile_kv, dim,
        2 * dim * 3 * tile_kv + 1024,
        Ways(loop=[("LDGSTS", copies), ("HMMA", tile_q // 64 * (tile_kv // 8) * (dim // 16)), ("VOTE", 1)],
             boundary=[("HMMA", 0), ("LDGSTS", 0)]),
        start=[("LDGSTS", 4 * copies), ("HMMA", 0)], registers=registers)


def sm80_tf32x3_hard(compute, registers, dim, rules):
    """Its loop is that of blocks of finite scores, without a new best one: a vote each."""
    tile_kv = 16 if dim == 256 else 32
    copies = tile_kv * dim * 4 // 2048
    return Resident(
        f"sm80_tf32x3_hard<{dim}, {'rules' if rules else 'plain'}>", compute, 64, tile_kv, dim,
        4 * dim * (64 + 3 * tile_kv) + 1024,
        Ways(loop=[("LDGSTS", copies), ("HMMA", 3 * (tile_kv // 8) * (dim // 8)), ("VOTE", 2),
                   ("WARPSYNC.COLLECTIVE", 0)],
             boundary=[("HMMA", 0), ("LDGSTS", 0)]),
        start=[("LDGSTS", 64 * dim * 4 // 2048 + 2 * copies), ("HMMA", 0)], registers=registers)


def sm80_top_k(compute, registers, kernel_type, dim, rules):
    """Its loop is that of blocks without a score above a bar; with lists of 10 keys."""
    tile_q, tile_kv = 64 if rules else 128, 32
    copies = tile_kv * dim * 2 // 2048
    return Resident(
        f"sm80_top_k<{kernel_type}, {dim}, {'rules' if rules else 'plain'}>", compute, tile_q, tile_kv, dim,
        2 * dim * 3 * tile_kv + tile_q * 43 * 8 + 1024,
        Ways(loop=[("LDGSTS", copies), ("HMMA", tile_q // 64 * (tile_kv // 8) * (dim // 16)), ("VOTE", 1)],
             boundary=[("HMMA", 0), ("LDGSTS", 0)]),
        start=[("LDGSTS", tile_q * dim * 2 // 2048 + 2 * copies), ("HMMA", 0)], registers=registers)


def sm80_additive(compute, registers, kernel_type, dim, rules):
    """A block of keys of d_qk = dim: chunks of 8 dims, of which each has 4 products of 16 for 4 dims; then P V. Its loop
    is that of chunks whose elements are all in the series' range."""
    tile_q, tile_kv = (64, 64) if rules else (128, {64: 64, 128: 48}[dim])
    fragments = tile_q // 64 * (tile_kv // 8)
    products = fragments * 8 * (dim // 8) + fragments * (dim // 16)
    return Resident(
        f"sm80_additive<{kernel_type}, {dim}, {'rules' if rules else 'plain'}>", compute, tile_q, tile_kv, dim,
        2 * dim * (tile_q + tile_kv) + 4 * dim + 2 * (256 * tile_kv + tile_kv) + 1024,
        Ways(loop=[("LDGSTS", tile_kv * dim * 2 // 2048), ("HMMA", products)],
             boundary=[("HMMA", 0), ("LDGSTS", 0)]),
        start=[("LDGSTS", tile_q * dim * 2 // 2048), ("HMMA", 0)], registers=registers)


def simt_additive(compute, registers, kernel_type):
    """A block of 64 keys of d_qk = d_v = 128: 4 chunks of 32 dims, each in 8 steps of two multiply-adds for a thread's
    128 pairs, in fp32 of three and ahead of them nine for each of its 32 features; softmax; P V, 64 columns and 32 keys
    at a time. Its warps are those of the plain CUDA cores."""
    dim, fine = 128, kernel_type == "f32"
    chunk = [("BAR.SYNC", 1), ("FFMA", 32 * 9 if fine else 0), ("BAR.SYNC", 1), ("FFMA", 8 * 128 * (3 if fine else 2))]
    return Resident(
        f"simt_additive<{kernel_type}, plain>", compute, 64, 64, dim, 26784 + 1024,
        Ways(loop=[("BAR.SYNC", 0 if fine else 1)] + chunk * 4 + [("BAR.SYNC", 1), ("FFMA", 40)]
             + [("BAR.SYNC", 2), ("FFMA", 8 * 128)] * 4,
             boundary=[("SHFL", 32), ("BAR.SYNC", 4)]),
        start=[("BAR.SYNC", 0)], registers=registers)


_NAMES = (
    (r"12sm90_forwardILNS0_4TypeE(\d)ELi(\d+)ELi(\d+)ELNS0_11Sm90VariantE(\d)E",
     lambda k, t, dim_qk, dim_v, variant: sm90_forward(TYPES[t], int(dim_qk), int(dim_v), SM90_VARIANTS[int(variant)])),
    (r"9sm90_hardILNS0_4TypeE(\d)ELi(\d+)E", lambda k, t, dim: sm90_hard(TYPES[t], int(dim))),
    (r"9sm90_wideILNS0_4TypeE(\d)ELb([01])E", lambda k, t, softcap: sm90_wide(TYPES[t], softcap == "1")),
    (r"12sm80_forwardILNS0_4TypeE(\d)ELi(\d+)ELNS0_11Sm80VariantE(\d)E",
     lambda k, t, dim, variant: sm80_forward(k.compute, k.registers, TYPES[t], int(dim), int(variant))),
    (r"11sm80_tf32x3ILi(\d+)ELb([01])E",
     lambda k, dim, rules: sm80_tf32x3(k.compute, k.registers, int(dim), rules == "1")),
    (r"9sm80_hardILNS0_4TypeE(\d)ELi(\d+)ELb([01])E",
     lambda k, t, dim, rules: sm80_hard(k.compute, k.registers, TYPES[t], int(dim), rules == "1")),
    (r"16sm80_tf32x3_hardILi(\d+)ELb([01])E",
     lambda k, dim, rules: sm80_tf32x3_hard(k.compute, k.registers, int(dim), rules == "1")),
    (r"10sm80_top_kILNS0_4TypeE(\d)ELi(\d+)ELb([01])E",
     lambda k, t, dim, rules: sm80_top_k(k.compute, k.registers, TYPES[t], int(dim), rules == "1")),
    (r"13sm80_additiveILNS0_4TypeE(\d)ELi(\d+)ELb([01])E",
     lambda k, t, dim, rules: sm80_additive(k.compute, k.registers, TYPES[t], int(dim), rules == "1")),
    (r"13simt_additiveILNS0_4TypeE(\d)E", lambda k, t: simt_additive(k.compute, k.registers, TYPES[t])),
    # <2 stages, cluster 1 x 1 x 1, tile 128 x N x 128, ..., causal, local, softcap, varlen, paged, append, Qv, P in
    # registers, overlap, PackGQA, split, ...>
    (r"CollectiveMainloopFwdSm90ILi2EN4cute5tupleIJNS5_1CILi1EEES8_S8_EEENS6_IJNS7_ILi128EEE(?:SA_|NS7_ILi176EEE)SA_EEE"
     r"Li128ENS_10bfloat16_tEfNS_4arch4Sm90ELb([01])ELb0ELb0ELb0ELb0ELb0ELb0ELb1ELb1ELb0ELb0ELb0E",
     lambda k, causal: flash3(causal == "1")),
    (r"16flash_fwd_kernelI23Flash_fwd_kernel_traitsILi128ELi128ELi64ELi4ELb0ELb0EN7cutlass10bfloat16_tE"
     r"\w+ELb0ELb1ELb0ELb0ELb1ELb1ELb0ELb0EEv", lambda k: flash2(k.compute, k.registers)),
)


def describe(kernel):
    """The description of a cubin.Kernel, or None: not one of the tensor cores' kernels."""
    for pattern, make in _NAMES:
        if match := re.search(pattern, kernel.mangled):
            return make(kernel, *match.groups())
    return None
