#!/usr/bin/env python3
"""The clock's error: what it predicts for machine code whose speed somebody has published or measured.

    bench/cycles/calibrate.py [build/release/libqkv.so]

Fetches two wheels of FlashAttention by pip into .deps/calibration (100 MB), once, and takes their kernels out. Nothing
of them becomes part of this project. Prints the table of README.md.
"""
import os
import subprocess
import sys
import zipfile

import cubin
import kernels
import machine as machines
from clock import Clock
from predict import Range, tflops

FOLDER = os.path.join(cubin.ROOT, ".deps", "calibration")
WHEELS = ("fa3-fwd==0.0.3", "vllm-flash-attn==2.6.2")

# What was published: FlashAttention's assets/flash3_fp16_fwd.png (H100 SXM, 2024, fp16, 16384 tokens, hidden size 2048;
# bf16 here: the same machine code but for types). Of A100 there is no figure for the forward pass alone: its author
# says around 70 % of peak (issue 1059 of that repository).
# What was measured, bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-table.txt, of slightly older sources.
KNOWN = (
    ("FlashAttention-3<128x176, full>", 90, "published", {512: 467, 4096: 638, 16384: 648}),
    ("FlashAttention-2<128x64>", 80, "published", {16384: 220}),
    ("sm90_forward<bf16, 128, plain>", 90, "measured", {512: 433, 4096: 663, 16384: 703}),
    ("sm80_forward<bf16, 128, tall>", 90, "measured", {512: 282, 4096: 349, 16384: 368}),
)


def fetch(wheel):
    """The shared libraries of a wheel."""
    place = os.path.join(FOLDER, wheel.split("=")[0])
    if not os.path.isdir(place):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--only-binary", ":all:", "--python-version", "3.11", "--dest", place + ".new", wheel],
                       check=True)
        for name in os.listdir(place + ".new"):
            with zipfile.ZipFile(os.path.join(place + ".new", name)) as packed:
                packed.extractall(place + ".new", [member for member in packed.namelist() if member.endswith(".so")])
            os.remove(os.path.join(place + ".new", name))
        os.rename(place + ".new", place)
    return [os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names if name.endswith(".so")]


def main(words):
    libraries = words or [os.path.join(cubin.ROOT, "build", "release", "libqkv.so")]
    libraries = [library for library in libraries if os.path.exists(library)]
    found = {}
    for library in libraries + [library for wheel in WHEELS for library in fetch(wheel)]:
        for kernel in cubin.kernels_of(library):
            if description := kernels.describe(kernel):
                found[description.name, description.compute] = description, kernel
    print("| kernel | on | length | clock says | known | | error |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name, compute, source, speeds in KNOWN:
        if (name, compute) not in found:
            print(f"| `{name}` | not in {', '.join(libraries)} |")
            continue
        description, kernel = found[name, compute]
        clock = Clock(description, kernel.instructions())
        points = [machines.at_point(machines.MACHINES[compute], description.wgmma, point) for point in machines.POINTS]
        results = [(machine, clock.at(machine)) for machine in points]
        for length, known in speeds.items():
            says = Range.of([tflops(description, machine, result, length) for machine, result in results])
            row = f"`{name}`", points[0].name, length, says, known, source, f"{says.typical / known - 1:+.0%}"
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except cubin.Missing as missing:
        sys.exit(str(missing))
