#!/usr/bin/env python3
"""./dev cycles: how many cycles a kernel's machine code takes, by a model. bench/cycles/README.md explains it.

    ./dev cycles                                    the kernels of head dim 128, bf16
    ./dev cycles sm90_forward                       those whose name has this in it; -l lists the names
    ./dev cycles 'sm80_forward<bf16, 128' --on 80   of one architecture
    ./dev cycles sm90 --build build/release/libqkv.so --build other.cubin    side by side
"""
import argparse
import os
import sys

import cubin
import kernels
import machine as machines
import report
from clock import Clock

LIBRARY = os.path.join(cubin.ROOT, "build", "release", "libqkv.so")


def arguments(words):
    parser = argparse.ArgumentParser(prog="./dev cycles", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", nargs="?", help="what the name has in it")
    parser.add_argument("--build", action="append", metavar="FILE",
                        help="library, program, object or cubin; several: side by side")
    parser.add_argument("--on", type=int, choices=sorted(machines.MACHINES), help="architecture")
    parser.add_argument("-l", "--list", action="store_true", help="names of the kernels")
    parser.add_argument("--latency", type=float, help="cycles of a copy, instead of the range")
    parser.add_argument("--rate", type=float, help="bytes a cycle and multiprocessor, instead of the range")
    parser.add_argument("--clock", type=float, metavar="MHZ", help="instead of the range")
    return parser.parse_args(words)


def chosen(build, options):
    """{(name, compute): (description, cubin.Kernel)} of what a build has and somebody asked for."""
    found = {}
    for kernel in cubin.kernels_of(build):
        d = kernels.describe(kernel)
        if d is None or options.on not in (None, d.compute):
            continue
        if options.kernel is None and not options.list and ("bf16, 128" not in d.name and "bf16, plain" not in d.name):
            continue
        if options.kernel is None or options.kernel in d.name:
            found[d.name, d.compute] = (d, kernel)
    return found


def column(title, description, kernel, options):
    clock = Clock(description, kernel.instructions())
    at = {}
    for point in machines.POINTS:
        machine = machines.at_point(machines.MACHINES[description.compute], description.wgmma, point,
                                    latency=options.latency, rate=options.rate, clock=options.clock)
        at[point] = machine, clock.at(machine)
    return report.Column(title, description, cubin.assembler_of(kernel), at)


def main(words):
    options = arguments(words)
    builds = options.build or [LIBRARY]
    for build in builds:
        if not os.path.exists(build):
            sys.exit(f"{build} is not there; ./dev test builds the library")
    try:
        of_build = [(build, chosen(build, options)) for build in builds]
        names = list(dict.fromkeys(name for _, found in of_build for name in found))
        if not names:
            sys.exit(f"no kernel of tensor cores has {options.kernel!r} in its name")
        for name in names:
            if options.list:
                print(f"{name[0]} sm_{name[1]}")
                continue
            columns = [column(os.path.relpath(build), *found[name], options)
                       for build, found in of_build if name in found]
            print(report.heading(columns[0]) + "\n\n" + report.table(columns) + "\n", flush=True)
    except cubin.Missing as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main(sys.argv[1:])
