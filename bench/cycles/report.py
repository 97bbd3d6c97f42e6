"""What people read: a kernel's cycles, pipes, waits and estimates, builds side by side."""
from dataclasses import dataclass

import machine as machines
from predict import Range, tflops

LENGTHS = (512, 4096, 16384)


@dataclass(frozen=True)
class Column:
    """A kernel of one build, at all points."""
    title: str
    description: object
    assembler: str
    at: dict  # point: (Machine, Result)

    def range(self, value):
        return str(Range.of([value(*self.at[point]) for point in machines.POINTS]))


def _rows(column):
    machine, typical = column.at["typical"]
    yield "ptxas", column.assembler
    yield "instructions a block and warp", str(typical.instructions)
    yield "cycles a block", column.range(lambda m, r: r.block)
    yield "  tensor cores alone", column.range(lambda m, r: r.ideal)
    yield "cycles a tile beside", column.range(lambda m, r: r.tile)
    for length in LENGTHS:
        yield f"TFLOP/s, full, {length}", column.range(lambda m, r: tflops(column.description, m, r, length))
    for pipe, share in sorted(typical.use.items(), key=lambda use: -use[1]):
        if share >= 0.01:
            yield f"  {pipe} pipe", f"{share * 100:.0f} %"
    for warp, waits in sorted(typical.waits.items()):
        step = typical.block * (1 if column.description.wgmma else column.description.blocks())
        yield f"{warp} waits, cycles a step", f"{sum(waits.values()):.0f} of {step:.0f}"
        for why, cycles in sorted(waits.items(), key=lambda wait: -wait[1]):
            if cycles >= max(10, typical.block / 200):
                yield f"  {why}", f"{cycles:.0f}"
        if not column.description.wgmma:
            break  # the others are like it


def table(columns):
    """Text: a row for each thing, a column for each build."""
    names, cells = [], []
    for n, column in enumerate(columns):
        rows = list(_rows(column))
        labels, seen = [], {}
        for label, _ in rows:  # "  turn0" may stand under each warp
            head = label if not label.startswith("  ") else (seen.get("head"), label)
            if not label.startswith("  "):
                seen["head"] = label
            labels.append(head)
        cells.append(dict(zip(labels, (value for _, value in rows))))
        for at, label in enumerate(labels):
            if label not in names:
                before = names.index(labels[at - 1]) + 1 if at else 0
                names.insert(before, label)
    grid = [["", *(column.title for column in columns)]]
    for name in names:
        grid.append([name if isinstance(name, str) else name[1], *(cell.get(name, "-") for cell in cells)])
    widths = [max(len(row[n]) for row in grid) for n in range(len(grid[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in grid)


def heading(column):
    d, machine = column.description, column.at["typical"][0]
    resident = "one block" if d.wgmma else f"{d.blocks()} blocks"
    return (f"{d.name} on {machine.name} (sm_{d.compute}): {d.tile_q} rows x {d.tile_kv} keys, "
            f"{resident} on a multiprocessor\n"
            "Estimates, not measurements; in brackets the range of what is unknown (bench/cycles/README.md).")
