"""Replays the warps of one sub-core, instruction by instruction.

The four sub-cores of a multiprocessor do the same: one is replayed, and what they share (shared memory, the way from
L2) is held four times as long. An instruction issues when all of this is so:

    its warp's last instruction is as many cycles ago as that one's stall count says
    the scoreboards that it waits for are free
    its pipe is free, or there is room in the tensor cores' queue
    what it waits for has come: barrier, copies, products (WARPGROUP.DEPBAR)
    no other warp issues in this cycle; of those that could, the one that could first

What kept it last is what the warp is said to have waited for.
"""
import re
from collections import Counter, deque
from dataclasses import dataclass, replace

import machine as machines
from sass import NO_SCOREBOARD

COPY_BYTES = 512  # of a warp's LDGSTS.128


class Stuck(Exception):
    pass


@dataclass(frozen=True)
class Op:
    """An instruction as the replay needs it."""
    text: str
    family: str
    stall: int
    waits: tuple
    result: int
    operands: int
    latency: float
    pipe: str | None
    busy: float
    kind: str = ""  # what else it does: see _kind
    amount: float = 0
    signal: str | None = None  # that it waits for or arrives at
    first: bool = False  # of a tile


def _kind(machine, i):
    if i.family == "HGMMA":
        return "wgmma", machines.wgmma_cycles(machine, i)
    if i.text.startswith("WARPGROUP.DEPBAR"):
        return "wgmma wait", int(i.text.split(",")[1], 16)
    if i.family == "LDGSTS" and i.predicate != "!PT":
        return "copy", COPY_BYTES * machines.SUBCORES
    if i.family == "LDGDEPBAR":
        return "copies end", 0
    if i.family == "DEPBAR":
        match = re.search(r"SB(\d), (0x[0-9a-f]+)", i.text)
        return ("copy wait", int(match[2], 16)) if match else ("", 0)
    if i.family == "UTMASTG":
        return "bulk store", machine.bulk_read
    if i.opcode.startswith("BAR.SYNC"):
        return "sync", 0
    if i.opcode.startswith("BAR.ARV"):
        return "pass", 0
    if i.opcode.startswith("SYNCS.PHASECHK"):
        return "wait", 0
    if i.opcode.startswith("SYNCS.ARRIVE"):
        return "arrive", 0
    return "", 0


SIGNALLING = ("sync", "pass", "wait", "arrive")


def compile_way(machine, instructions, signs):
    """A way's instructions as Ops. `signs`: (kind, name of a signal) for each that waits or arrives, in order.

    A bar.sync ("sync") arrives and then waits. One whose sign is "wait" has arrived before.
    """
    ops, left = [], deque(signs)
    for i in instructions:
        pipe, busy = machines.pipe_of(machine, i)
        kind, amount = _kind(machine, i)
        signal = None
        if kind in SIGNALLING:
            if not left or left[0][0] != kind and (kind, left[0][0]) != ("sync", "wait"):
                raise Stuck(f"{i.address:#x} {i.text}: the protocol has {left[0] if left else 'no sign'} here")
            kind, signal = left.popleft()
        op = Op(i.text, i.family, max(i.stall, 1), i.waits, i.result, i.operands,
                machine.latencies.get(i.family, 20), pipe, busy, kind, amount, signal)
        if kind == "sync":
            ops.append(replace(op, stall=1, result=NO_SCOREBOARD, operands=NO_SCOREBOARD, kind="pass"))
            op = replace(op, waits=(), kind="wait")
        ops.append(op)
    if left:
        raise Stuck(f"the way ends before {left[0]}")
    return ops


class Warp:
    def __init__(self, name, ops, start=0):
        self.name = name
        self.ops = ops
        self.at = 0
        self.ready = start
        self.boards = [0] * 6
        self.board_of = [""] * 6
        self.waited = {}  # signal: how often
        self.groups = []  # ends of committed groups of wgmma
        self.open_group = 0
        self.copies, self.open_copies = [], 0
        self.starts = []  # when it issued the first instruction of each way
        self.waits = Counter()  # cycles, by what it waited for


class Replay:
    """Warps, signals by name, a link for copies; producers that copy on their own."""

    def __init__(self, machine, warps, signals, link, producers=()):
        self.machine, self.warps, self.signals, self.link = machine, warps, signals, link
        self.producers = producers
        self.pipes = {}  # pipe: when it is free
        self.busy = Counter()  # pipe: cycles held
        self.tensor_end = 0
        self.tensor_queue = deque()  # ends of wgmma that are not done
        self.port = 0  # when the next instruction may issue
        self.last = None
        for producer in producers:
            producer.advance()

    def earliest(self, warp):
        """(when the warp's next instruction may issue, what keeps it), or (None, signal) where that is not known."""
        op = warp.ops[warp.at]
        time, why = warp.ready, "stall count"
        for n in op.waits:
            if warp.boards[n] > time:
                time, why = warp.boards[n], warp.board_of[n]
        if op.pipe and self.pipes.get(op.pipe, 0) > time:
            time, why = self.pipes[op.pipe], f"{op.pipe} pipe"
        kind = op.kind
        if not kind:
            return time, why
        if kind == "wgmma":
            queue = self.tensor_queue
            while queue and queue[0] <= time:
                queue.popleft()
            if len(queue) >= self.machine.tensor_queue:
                return queue[-int(self.machine.tensor_queue)], "tensor queue"
        elif kind == "wgmma wait":
            pending = len(warp.groups) - int(op.amount)
            if pending > 0 and warp.groups[pending - 1] > time:
                return warp.groups[pending - 1], "products"
        elif kind == "copy wait":
            pending = len(warp.copies) - int(op.amount)
            if pending > 0 and max(warp.copies[:pending]) > time:
                return max(warp.copies[:pending]), "copies"
        elif kind == "wait":
            there = self.signals[op.signal].time(warp.waited.get(op.signal, 0))
            if there is None:
                return None, op.signal
            if there > time:
                return there, op.signal
        return time, why

    def issue(self, warp, time):
        op = warp.ops[warp.at]
        if op.pipe:
            self.pipes[op.pipe] = time + op.busy
            self.busy[op.pipe] += op.busy
        warp.ready = time + op.stall
        if op.result != NO_SCOREBOARD:
            self._occupy(warp, op.result, time + op.latency, op.family)
        if op.operands != NO_SCOREBOARD:
            self._occupy(warp, op.operands, time + max(10, op.busy), op.family)
        if op.first:
            warp.starts.append(time)
        warp.at += 1
        self.port = time + 1
        self.last = warp
        if op.kind:
            self._act(warp, op, time)

    def _occupy(self, warp, board, until, family):
        if until > warp.boards[board]:
            warp.boards[board], warp.board_of[board] = until, family

    def _act(self, warp, op, time):
        kind = op.kind
        if kind == "wgmma":
            end = max(time + self.machine.wgmma_start, self.tensor_end) + op.amount
            self.tensor_end = end
            self.busy["tensor"] += op.amount
            self.tensor_queue.append(end)
            warp.open_group = end + self.machine.wgmma_drain
            if "gsb0" in op.text:
                warp.groups.append(warp.open_group)
        elif kind == "copy":
            warp.open_copies = self.link.copy(time, op.amount)
            self.busy["link"] += op.amount / self.link.rate
        elif kind == "bulk store":
            warp.open_copies = time + op.amount
            warp.copies = [warp.open_copies]
        elif kind == "copies end":
            warp.copies.append(warp.open_copies)
            del warp.copies[:-8]
        elif kind == "wait":
            warp.waited[op.signal] = warp.waited.get(op.signal, 0) + 1
        elif kind in ("arrive", "pass"):
            self.signals[op.signal].arrive(warp.name, time)
            while any([producer.advance() for producer in self.producers]):
                pass

    def run(self, until):
        """Issues until the warp `until` has no more instructions."""
        while until.at < len(until.ops):
            best = best_time = best_why = None
            for warp in self.warps:
                if warp.at >= len(warp.ops):
                    continue
                time, why = self.earliest(warp)
                if time is None:
                    continue
                if best is None or time < best_time or time == best_time and best is self.last:
                    best, best_time, best_why = warp, time, why
            if best is None:
                raise Stuck("all wait: " + ", ".join(
                    f"{w.name} at {w.ops[w.at].text}" for w in self.warps if w.at < len(w.ops)))
            time = max(best_time, self.port)
            if time > best.ready:
                best.waits[best_why if best_time >= time else "issue slot"] += time - best.ready
            self.issue(best, time)
        return self
