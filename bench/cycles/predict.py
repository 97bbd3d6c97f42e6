"""From cycles to TFLOP/s: how many tiles a problem has, and how many of them a multiprocessor computes."""
from dataclasses import dataclass

TOKENS, HEADS = 16384, 16  # batch x length and heads of the benchmark's sweep, head dim 128: hidden size 2048


def up(a, b):
    return -(-a // b)


def tflops(description, machine, result, length):
    """Without a mask, queries as many as keys. Estimate: `machine.clock` is one number here."""
    d = description
    heads = HEADS * 128 // d.dim
    tiles = TOKENS // length * heads * up(length, d.tile_q)
    slots = 1 if d.wgmma else d.blocks()
    # `result` is of a multiprocessor: slots tiles side by side take as long as one after the other.
    rounds = up(tiles, machine.multiprocessors * slots) * slots
    cycles = rounds * (result.tile + up(length, d.tile_kv) * result.block)
    return 2 * TOKENS * length * heads * (d.dim + (getattr(d, "dim_v", 0) or d.dim)) / (cycles / (machine.clock * 1e6)) / 1e12


@dataclass(frozen=True)
class Range:
    low: float
    typical: float
    high: float

    @staticmethod
    def of(values):
        best, typical, worst = values
        return Range(min(values), typical, max(values))

    def __str__(self):
        text = f"{self.typical:.0f}"
        return text if f"{self.low:.0f}" == f"{self.high:.0f}" else f"{text} ({self.low:.0f} to {self.high:.0f})"
