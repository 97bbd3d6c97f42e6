"""Runs a kernel's machine code through the replay: cycles a block of keys, cycles a tile, use of the pipes, waits."""
from collections import Counter
from dataclasses import dataclass, replace

import machine as machines
from replay import Op, Replay, Warp, compile_way
from sass import NO_SCOREBOARD
from signals import Link, Producer, Signal
from ways import Code, NoWay, find_loop, find_way

BLOCKS = 4  # of a tile that is replayed
TILES = 3
# Blocks on a multiprocessor fall into step with one another, in one of several ways: the mean over so many beginnings.
LOOP_BEGINNINGS, TILE_BEGINNINGS = 4, 2
STEPS = 8  # of a loop alone


@dataclass(frozen=True)
class Result:
    """Of one point of the machine's ranges. Cycles of a multiprocessor; a tile of n blocks takes tile + n * block."""
    block: float
    tile: float
    use: dict  # pipe: share of the cycles of the loop
    waits: dict  # warp: {reason: cycles a block}
    instructions: int  # of a warp in a block
    ideal: float  # cycles a block of the tensor cores alone


class Clock:
    """A kernel's ways, found once, for replays at several points."""

    def __init__(self, description, instructions):
        self.description = description
        self.code = Code(instructions)
        d = description
        if d.wgmma:
            self.loops = [find_loop(self.code, ways.loop) for ways in d.math]
            if d.one_tile:
                self.starts = [find_way(self.code, 0, loop[0], ways.start) for loop, ways in zip(self.loops, d.math)]
                self.boundaries = [self._end(loop[0] if n < d.inside else loop[-1] + 1, ways.boundary)
                                   for n, (loop, ways) in enumerate(zip(self.loops, d.math))]
            else:
                self.boundaries = [find_way(self.code, loop[-1] + 1, loop[0], ways.boundary)
                                   for loop, ways in zip(self.loops, d.math)]
        else:
            self.loops = [find_loop(self.code, d.ways.loop)]
            self.boundaries = [self._end(self.loops[0][-1] + 1, d.ways.boundary) + find_way(self.code, 0, self.loops[0][0], d.start)]

    def _end(self, start, marks):
        """The way to the end of the program."""
        ends = []
        for n, i in enumerate(self.code.all):
            if i.family == "EXIT":
                try:
                    ends.append(find_way(self.code, start, n, marks) + [n])
                except NoWay:
                    pass
        # O's stores are on the longest of the shortest ways.
        return max(ends, key=lambda way: (sum(self.code.all[n].family == "STG" for n in way), -len(way)))

    def _ops(self, machine, way, signs):
        return compile_way(machine, [self.code.all[n] for n in way], signs)

    def at(self, machine):
        run = self._persistent if self.description.wgmma else self._resident
        loop, tile = run(machine)
        return Result(loop["cycles"], tile["cycles"] - BLOCKS * loop["cycles"],
                      {pipe: held / loop["cycles"] for pipe, held in loop["busy"].items()}, loop["waits"],
                      len(self.loops[0]), self._ideal(machine))

    def _ideal(self, machine):
        way = [self.code.all[n] for n in self.loops[0]]
        if self.description.wgmma:
            best = replace(machine, wgmma_rs=64)
            return sum(machines.wgmma_cycles(best, self.code.all[n]) for loop in self.loops for n in loop
                       if self.code.all[n].family == "HGMMA")
        return sum(machines.mma_cycles(machine, i.opcode) for i in way if i.family == "HMMA")

    def _persistent(self, machine):
        """The difference of tiles of two lengths is what a block costs."""
        short, long = self._tiles(machine, BLOCKS), self._tiles(machine, 2 * BLOCKS)
        return _combined([(1 / BLOCKS, long), (-1 / BLOCKS, short)]), short

    def _tiles(self, machine, blocks):
        d = self.description
        delays = {"turn": machine.turn, "mbarrier": machine.mbarrier}
        signals = {name: Signal(name, parties, delays[delay], ahead)
                   for name, (parties, delay, ahead) in d.signals.items()}
        for name, party in d.seeds:
            signals[name].arrive(party, 0)
        warps = []
        for n, ways in enumerate(d.math):
            boundary = self._ops(machine, self.boundaries[n], ways.boundary_signs)
            loop = self._ops(machine, self.loops[n], ways.loop_signs)
            if d.one_tile:
                launch = Op("launch", "", machine.launch, (), NO_SCOREBOARD, NO_SCOREBOARD, 0, None, 0)
                start = [launch] + self._ops(machine, self.starts[n], ways.start_signs)
                tile = start + loop * (blocks - (n < d.inside)) + boundary
            else:
                tile = boundary + loop * (blocks - d.inside)
            warps.append(Warp(f"W{n}", _repeated(tile, TILES)))
        link = Link(machine.latency, machine.rate)
        copies = [(awaited and signals[awaited], [signals[name] for name in completed], size)
                  for awaited, completed, size in d.before + d.copies(blocks) * (TILES + 1)]
        replay = Replay(machine, warps, signals, link, [Producer(copies, link, machine.producer)])
        return _measure(replay, TILES)

    def _resident(self, machine):
        """Blocks that are all in their loops; then each slot of the multiprocessor computes tile after tile, as blocks
        come and go."""
        loop = self._ops(machine, self.loops[0], self._barriers(self.loops[0]))
        boundary = self._ops(machine, self.boundaries[0], self._barriers(self.boundaries[0]))
        launch = Op("launch", "", machine.launch, (), NO_SCOREBOARD, NO_SCOREBOARD, 0, None, 0)
        tile = [launch] + boundary + loop * (BLOCKS - self.description.inside)
        alone = sum(op.stall for op in loop)
        return (self._slots(machine, loop, STEPS, alone, LOOP_BEGINNINGS),
                self._slots(machine, tile, 2, alone, TILE_BEGINNINGS))

    def _slots(self, machine, ops, rounds, alone, beginnings):
        """The slots begin one after the other, by parts of what a block takes alone."""
        slots, runs = self.description.blocks(), []
        for part in range(1, beginnings + 1):
            apart = alone * part // (beginnings * slots)
            # The others have more to do, so that the first one is never left alone.
            warps = [Warp(f"B{slot}", _repeated(ops, rounds * (4 if slot else 1)), start=slot * apart)
                     for slot in range(slots)]
            signals = {"barrier": Signal("barrier", (), machine.turn)}
            replay = Replay(machine, warps, signals, Link(machine.latency, machine.rate))
            runs.append((1 / beginnings, _measure(replay, rounds, len(ops))))
        return _combined(runs)

    def _barriers(self, way):
        """A block's warps are alike: __syncthreads takes no longer than itself."""
        return [("wait", "barrier") for n in way if self.code.all[n].opcode.startswith("BAR.SYNC")]


def _repeated(ops, times):
    """A warp's program: `ops` so often, and once more the first, which ends the last round."""
    round_ = [replace(ops[0], first=True)] + ops[1:]
    return round_ * times + [replace(ops[0], first=True, kind="", signal=None)]


def _measure(replay, rounds, size=None):
    """Runs until the first warp has done all rounds. Cycles, pipes and waits of a round of their second half.

    `size`: a round's instructions, where the warps are blocks that go their own ways. Some get on faster than others:
    a round then takes the time divided by the rounds of all of them.
    """
    watched = replay.warps[0]
    ops, half = watched.ops, rounds // 2
    watched.ops = ops[:len(ops) // rounds * half + 1]
    replay.run(watched)
    watched.ops = ops
    busy, waits = Counter(replay.busy), {warp.name: Counter(warp.waits) for warp in replay.warps}
    done = sum(warp.at for warp in replay.warps)
    replay.run(watched)
    own = rounds - half
    count = (sum(warp.at for warp in replay.warps) - done) / size if size else own
    return {"cycles": (watched.starts[-1] - watched.starts[half]) / count,
            "busy": {pipe: (held - busy[pipe]) / count for pipe, held in replay.busy.items()},
            "waits": {warp.name: {why: (cycles - waits[warp.name][why]) / own for why, cycles in warp.waits.items()}
                      for warp in replay.warps}}


def _combined(runs):
    """The sum of (factor, what _measure gave)."""
    def total(counts):
        keys = dict.fromkeys(key for _, values in counts for key in values)
        return {key: sum(factor * values.get(key, 0) for factor, values in counts) for key in keys}

    warps = {warp for _, run in runs for warp in run["waits"]}
    return {"cycles": sum(factor * run["cycles"] for factor, run in runs),
            "busy": total([(factor, run["busy"]) for factor, run in runs]),
            "waits": {warp: total([(factor, run["waits"][warp]) for factor, run in runs]) for warp in warps}}
