#!/usr/bin/env python3
"""Cycles of every instance that uses the tensor cores, and of simt_additive, beside what they were when the table was renewed.

    bench/cycles/table.py --check build/release/libqkv.so    fails where one takes over 1 % longer; 77: not checked
    bench/cycles/table.py --write build/release/libqkv.so    renews bench/cycles/table.tsv
"""
import os
import sys
from concurrent.futures import ProcessPoolExecutor

import cubin
import kernels
import machine as machines
from clock import BLOCKS, Clock

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "table.tsv")
SKIPPED = 77
ALLOWED = 1.01
COLUMNS = ("instance", "architecture", "block", f"tile_of_{BLOCKS}")


def cycles(kernel):
    """((name, architecture), cycles a block, cycles a tile of BLOCKS blocks), at the typical point."""
    d = kernels.describe(kernel)
    machine = machines.at_point(machines.MACHINES[d.compute], d.wgmma, "typical")
    result = Clock(d, kernel.instructions()).at(machine)
    return (d.name, f"sm_{d.compute}"), round(result.block), round(result.tile + BLOCKS * result.block)


def is_twin(kernel):
    """The replays of wgmma, of additive scores and of lists of keys take longest: of instances that differ in their 16-bit
    type alone bf16's is held."""
    d = kernels.describe(kernel)
    return d is not None and (d.wgmma or d.name.startswith(("sm80_additive", "sm80_top_k", "simt_additive"))) and "<f16," in d.name


def measure(library):
    """{(name, architecture): (block, tile)}, and the version of ptxas."""
    wanted = [kernel for kernel in cubin.kernels_of(library)
              if kernel.uses_tensor_cores() or (kernels.describe(kernel) and kernel.compute in machines.MACHINES)]
    wanted = [kernel for kernel in wanted if not is_twin(kernel)]
    if not wanted:
        raise cubin.Missing(f"{library} has no kernel for tensor cores")
    unknown = [kernel.mangled for kernel in wanted if not kernels.describe(kernel)]
    if unknown:
        sys.exit("kernels that bench/cycles/kernels.py does not describe: " + ", ".join(unknown))
    # The largest first: processes end together.
    wanted.sort(key=lambda kernel: -len(kernel.code))
    with ProcessPoolExecutor(int(os.environ.get("QKV_JOBS", 0)) or os.cpu_count()) as pool:
        rows = {name: values for name, *values in pool.map(cycles, wanted)}
    return rows, cubin.assembler_of(wanted[0])


def write(rows, assembler, path=TABLE):
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"# ptxas {assembler}\n" + "\t".join(COLUMNS) + "\n")
        for name in sorted(rows):
            out.write("\t".join(map(str, (*name, *rows[name]))) + "\n")


def read(path=TABLE):
    with open(path, encoding="utf-8") as lines:
        assembler = next(lines).split()[-1]
        next(lines)
        rows = [line.rstrip("\n").split("\t") for line in lines]
    return {(name, architecture): (int(block), int(tile)) for name, architecture, block, tile in rows}, assembler


def compare(now, kept):
    """What has to be said of each row, and whether the check fails."""
    failed, lines = False, []
    for name in sorted(now | kept):
        label = " ".join(name)
        if name not in now:
            # A build for some architectures alone lacks the others' rows.
            if any(architecture == name[1] for _, architecture in now):
                failed = True
                lines.append(f"{label}: is in the table, not in the library")
        elif name not in kept:
            failed = True
            lines.append(f"{label}: is not in the table")
        else:
            for what, new, old in zip(COLUMNS[2:], now[name], kept[name]):
                if new > old * ALLOWED:
                    failed = True
                    lines.append(f"{label}: {what} takes {new} cycles, {(new / old - 1) * 100:.1f} % more than {old}")
                elif new * ALLOWED < old:
                    lines.append(f"{label}: {what} takes {new} cycles, {(1 - new / old) * 100:.1f} % less than {old}")
    return lines, failed


def check(library, path=TABLE):
    now, assembler = measure(library)
    kept, of = read(path)
    lines, failed = compare(now, kept)
    if assembler != of:
        print(f"cycles: of ptxas {assembler}, the table is of {of}: differences say nothing of the sources")
        print("\n".join(lines))
        return SKIPPED
    print("\n".join(lines) or f"{len(now)} instances take no longer than bench/cycles/table.tsv says")
    if failed:
        print(f"\nIf that is meant: bench/cycles/table.py --write {os.path.relpath(library)}; say why in the commit")
    return 1 if failed else 0


def main(words):
    if len(words) != 2 or words[0] not in ("--check", "--write"):
        sys.exit(__doc__)
    if not os.path.exists(words[1]):
        sys.exit(f"{words[1]} is not there")
    try:
        if words[0] == "--check":
            return check(words[1])
        write(*measure(words[1]))
        return 0
    except cubin.Missing as missing:
        print(f"cycles: {missing}")
        return SKIPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
