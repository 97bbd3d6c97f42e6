"""Which instructions a warp issues: loops in machine code, and ways from one place to another.

A kernel's code has branches for masks, rare scores, ends of sequences. A way is named by its marks: what a warp must
meet on it, in this order, and nothing else of the kinds that the marks name. Of all such ways the shortest counts.
"""
import re
from bisect import bisect_left
from collections import deque


# A branch on a second predicate, of the warp's own or uniform, or on divergence: "BRA P1, ...", "BRA.U !UP0, ...".
_CONDITION = re.compile(r"BRA(\.U)? !?U?P\d|BRA\.DIV")


class NoWay(Exception):
    pass


class Code:
    """A function's instructions, and where each may be followed by which."""

    def __init__(self, instructions):
        self.all = instructions
        self.addresses = [i.address for i in instructions]
        self.next = [self._next(n) for n in range(len(instructions))]
        self._marked = {}

    def at(self, address):
        return bisect_left(self.addresses, address)

    def _next(self, n):
        i = self.all[n]
        through = [n + 1] if n + 1 < len(self.all) else []
        if i.family == "EXIT":
            return through if i.predicate else []
        if i.family in ("RET", "BRX", "KILL", "NANOSLEEP") and not i.predicate:
            return []
        # ptxas ends some loops by a call that does not come back. Other calls are of rare numbers.
        if i.family == "CALL" and (i.target is None or "$" in i.text):
            return []
        if i.family in ("BRA", "CALL"):
            always = not i.predicate and not _CONDITION.match(i.text)
            return [self.at(i.target)] if always else through + [self.at(i.target)]
        return through

    def marked(self, marks):
        """Marks, and for each instruction which of them it is."""
        key = tuple(marks)
        if key not in self._marked:
            wanted = Marks(marks)
            self._marked[key] = wanted, [wanted.of(i) for i in self.all]
        return self._marked[key]

    def backward_branches(self):
        """(first, last) indices of the loops, shortest first."""
        loops = [(to, n) for n, i in enumerate(self.all) if i.family == "BRA"
                 for to in self.next[n] if to <= n]
        return sorted(loops, key=lambda loop: loop[1] - loop[0])


class Marks:
    """[(pattern of the text, how many)], in order; 0: none on the whole way."""

    def __init__(self, marks):
        self.expected = [n for n, (_, count) in enumerate(marks) for _ in range(count)]
        self.words = ", ".join(f"{count} {pattern}" for pattern, count in marks)
        self.patterns = [re.compile(pattern) for pattern, _ in marks]

    def __str__(self):
        return self.words

    def of(self, instruction):
        """The numbers of the marks that the instruction is."""
        return [n for n, pattern in enumerate(self.patterns) if pattern.match(instruction.text)]

    def step(self, position, kinds):
        """The position after an instruction of these kinds, or None where it must not come."""
        if not kinds:
            return position
        if position < len(self.expected) and self.expected[position] in kinds:
            return position + 1
        return None


def find_way(code, start, end, marks):
    """Indices of the shortest way from instruction `start` up to, but without, `end` that has the marks."""
    return _find(code, start, end, *code.marked(marks))


def _find(code, start, end, wanted, kinds):
    begin, goal = (start, 0), (end, len(wanted.expected))
    before, queue = {begin: None}, deque([begin])
    while queue and goal not in before:
        state = queue.popleft()
        after = wanted.step(state[1], kinds[state[0]])
        if after is None or state[0] == end:
            continue
        for to in code.next[state[0]]:
            if (to, after) not in before:
                before[to, after] = state
                queue.append((to, after))
    if goal not in before:
        raise NoWay(f"no way from {code.all[start].address:#x} has the marks " + str(wanted))
    way, state = [], before[goal]
    while state is not None:
        way.append(state[0])
        state = before[state]
    return way[::-1]


def find_loop(code, marks):
    """The way through the shortest loop that has the marks: indices, from its head to its last branch."""
    for first, last in code.backward_branches():
        try:
            return find_way(code, first, last, marks) + [last]
        except NoWay:
            pass
    raise NoWay("no loop has the marks " + str(Marks(marks)))
