#!/usr/bin/env python3
"""The README's performance section and its picture, made of bench/results.

    bench/page/readme.py --write    renews README.md between its marks, and bench/results/performance.svg
    bench/page/readme.py --check    exits with 1 where they are not what the results say
"""
import math
import os
import re
import subprocess
import sys
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path[:0] = [HERE, os.path.join(HERE, "..", "cycles")]

import charts
import machine as machines
import predict
import results
import table as cycles
from charts import Point, Series, figure

BEGIN = "<!-- performance: begin; ./dev readme-performance renews it from bench/results -->"
END = "<!-- performance: end -->"
PICTURE = "bench/results/performance.svg"
NAMES = {  # as the section calls them
    "qkv": "qkv", "qkv_ctypes": "qkv", "unfused": "unfused", "torch_flash": "PyTorch", "torch_math": "PyTorch, math",
    "torch_cudnn": "cuDNN", "cudnn": "cuDNN", "torch_fa2": "FlashAttention-2", "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
ON_GPU = {"torch_flash": "FlashAttention-2"}  # what PyTorch calls flash there
LEFT_OUT = ("torch_math", "torch_efficient")
CLOCK_KNOWS_FROM = 4096  # the least length that the clock was calibrated for


def named(row):
    return ON_GPU.get(row.implementation, "") if row.device == "cuda" and row.implementation in ON_GPU else \
        NAMES.get(row.implementation, "")


def latest(folder, device, ending, wanted=lambda run: True):
    """The run of the newest file of a device, by name, of those wanted; None if there is none."""
    pattern = re.compile(rf"\d{{4}}-\d\d-\d\d-{device}-.*{ending}\.json")
    for name in sorted(filter(pattern.fullmatch, os.listdir(folder)), reverse=True):
        run = results.read(os.path.join(folder, name))
        if wanted(run):
            return run
    return None


def kernels_now():
    """git's name for the content of kernels/; "" outside of a repository."""
    try:
        return subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD:kernels"], capture_output=True,
                              text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


# --- tables


def shown(row, scale):
    if row is None:
        return "-"
    return figure(row.tflops * scale) + (" ~" if row.noisy else "")


def rates(run, type_name, scale):
    """Throughput of every length and mask of self-attention, a column for each implementation."""
    rows = [r for r in run.rows if r.type == type_name and r.sq == r.skv and r.d_qk == 128 and r.tflops > 0 and named(r)
            and r.implementation not in LEFT_OUT]
    names = list(dict.fromkeys(named(r) for r in rows))
    at = {(r.skv, r.mask, named(r)): r for r in rows}
    body = []
    for mask in ("full", "causal"):
        for length in sorted({r.skv for r in rows if r.mask == mask}):
            of = {name: at.get((length, mask, name)) for name in names}
            best = max(r.tflops for r in of.values() if r)
            cells = [f"**{shown(r, scale)}**" if r and r.tflops == best else shown(r, scale) for r in of.values()]
            body.append([str(length), mask, *cells])
    return markdown(["S", "mask", *names], body)


def decoding(run):
    """Microseconds of one query over many keys."""
    rows = [r for r in run.rows if r.sq == 1 and r.ms > 0 and named(r) and r.implementation not in LEFT_OUT]
    names = list(dict.fromkeys(named(r) for r in rows))
    body = []
    for key in dict.fromkeys((r.type, r.skv) for r in rows):
        of = {named(r): r for r in rows if (r.type, r.skv) == key}
        least = min(r.ms for r in of.values())
        cells = []
        for name in names:
            r = of.get(name)
            text = "-" if r is None else figure(r.ms * 1e3) + (" ~" if r.noisy else "")
            cells.append(f"**{text}**" if r and r.ms == least else text)
        body.append([key[0], str(key[1]), *cells])
    return markdown(["type", "keys", *names], body) if rows else ""


def markdown(head, body):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body]) + "\n"


# --- estimates


def estimates():
    """TFLOP/s by length that the clock gives today's sm90_forward in bf16, no mask."""
    kept, _ = cycles.read()
    block, tile_of_few = kept["sm90_forward<bf16, 128, plain>", "sm_90"]
    result = SimpleNamespace(block=block, tile=tile_of_few - cycles.BLOCKS * block)
    tiles = SimpleNamespace(tile_q=128, tile_kv=128, dim=128, wgmma=True)
    machine = machines.at_point(machines.H100, True, "typical")
    return {s: predict.tflops(tiles, machine, result, s) for s in (512, 1024, 2048, 4096, 8192, 16384)
            if s >= CLOCK_KNOWS_FROM}


# --- the picture


STYLE = """
svg { --paper: #fff; --ink: #1b1e23; --soft: #59616b; --line: #dcdfe3; --c0: #0b5fa5; --c1: #b8520b; --c2: #217a47;
  --c3: #8b3a92; --c4: #7a6200; font-family: system-ui, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #0d1117; --ink: #e8eaed; --soft: #a3abb5; --line: #343a42;
  --c0: #64b1f5; --c1: #f2955a; --c2: #63c98c; --c3: #d491da; --c4: #d9bd4a; } }
text { fill: var(--ink); font-size: 12px; } .tick, .label { fill: var(--soft); font-size: 11.5px; }
.head { font-size: 13.5px; font-weight: 600; } .name.own { font-weight: 700; }
.grid, .hair { stroke: var(--line); fill: none; } .axis { stroke: var(--soft); }
.line { fill: none; stroke: currentColor; stroke-width: 1.8; } .line.own { stroke-width: 3; }
.spread { stroke: currentColor; stroke-width: 5; opacity: 0.35; fill: none; }
.mark { fill: currentColor; stroke: var(--paper); } svg { overflow: visible; } .paper { fill: var(--paper); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); }
"""
STYLES = {"qkv": 0, "unfused": 1, "PyTorch": 2, "cuDNN": 2, "ONNX Runtime": 3, "FlashAttention-2": 3, "OpenVINO": 4}


def panel(key, title, run, type_name, mask, scale, unit):
    rows = [r for r in run.rows if (r.type, r.mask) == (type_name, mask) and r.sq == r.skv and r.d_qk == 128 and
            r.tflops > 0 and named(r) in STYLES and r.implementation not in LEFT_OUT]
    series = []
    for name in dict.fromkeys(map(named, rows)):
        points = []
        for r in sorted((r for r in rows if named(r) == name), key=lambda r: r.skv):
            low, high = r.rate_range()
            points.append(Point(r.skv, r.tflops * scale, low * scale, high * scale,
                                f"{name}, {r.skv}: {figure(r.tflops * scale)} {unit}"))
        series.append(Series(name, STYLES[name], points))
    lengths = sorted({r.skv for r in rows})
    top = max(max(p.y, p.high if p.high > 0 else 0) for s in series for p in s.points)
    drawn = charts.lines(key, title, f"{unit} by sequence length, {title}", series, x_label="sequence length",
                         y_label=unit, x_ticks=lengths, y_ticks=charts.nice_ticks(top))
    return title, drawn


def picture(panels):
    """Panels two in a row."""
    width, height, gap, edge = charts.WIDTH, charts.HEIGHT + 24, 24, 14
    rows = math.ceil(len(panels) / 2)
    whole = (2 * (width + edge) + gap, rows * height + (rows - 1) * gap + 2 * edge)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" width="{whole[0]}" '
           f'height="{whole[1]}" role="img"><title>Throughput over sequence length</title><style>{STYLE}</style>'
           '<rect class="paper" width="100%" height="100%" rx="6"/>']
    for n, (title, drawn) in enumerate(panels):
        x, y = edge + n % 2 * (width + gap), edge + n // 2 * (height + gap)
        out.append(f'<text class="head" x="{x + 2}" y="{y + 14}">{charts.escape(title)}</text>')
        out.append(drawn.replace("<svg ", f'<svg x="{x}" y="{y + 24}" width="{width}" height="{charts.HEIGHT}" ', 1))
    return "\n".join(out) + "\n</svg>\n"


# --- the section


def said(run):
    """Date, revision, file."""
    revision = f", revision {run.revision}" if run.revision else ""
    return f"{run.fact('date')[:10]}{revision}, [{run.name}](bench/results/{run.name})"


def dotted(version):
    """9.19.0 of 91900."""
    return f"{int(version) // 10000}.{int(version) // 100 % 100}.{int(version) % 100}" if version.isdigit() else version


def cpu_part(peers):
    packages = ", ".join(f"{name} {peers.fact(key).split('-')[0].split('+')[0]}" for name, key in (
        ("PyTorch", "torch"), ("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")) if peers.fact(key))
    noisy = sum(r.noisy for r in peers.rows)
    note = f"{peers.fact('note')}." if peers.fact("note") else ""
    spread = f"{noisy} of {len(peers.rows)} rows are noisy, and marked ~: the middle half of their repetitions is " \
        f"wider than {results.NOISY * 100:g} % of the median." if noisy else ""
    out = [f"""### On a CPU

{peers.machine}, {peers.fact('threads')} threads, {peers.fact('cpu_extensions')}; {packages}.
"Unfused" is one BLAS product for all scores, a softmax over them and a second product (OpenBLAS and Highway). Head dim
128, 8 heads, batch 1, on the same tensors, taking turns in random order; GFLOP/s of visible pairs, medians, the fastest
bold.
{spread}
{note}
{said(peers)}.
"""]
    for type_name in ("f32", "bf16", "f16"):
        if any(r.type == type_name and r.sq == r.skv for r in peers.rows):
            out.append(f"\n{type_name}:\n\n" + rates(peers, type_name, 1e3))
    decode = decoding(peers)
    if decode:
        out.append("\nDecoding, one query, 32 query and 8 key heads, microseconds:\n\n" + decode)
    return "".join(out)


def other_cpu_part(run):
    ratios = {}
    for r in run.rows:
        if r.implementation == "qkv" and r.vs_unfused > 0 and r.sq == r.skv:
            ratios.setdefault((r.type, r.mask), []).append(r)
    body = []
    for (type_name, mask), rows in ratios.items():
        best = max(rows, key=lambda r: r.tflops)
        times = [r.vs_unfused for r in rows]
        body.append([type_name, mask, f"{figure(best.tflops * 1e3)} at {best.skv}",
                     f"{min(times):.2f} to {max(times):.2f}"])
    return (f"\nWith other instructions: {run.machine}, {run.fact('threads')} threads, {run.fact('cpu_extensions')}.\n"
            f"{said(run)}.\n\n" + markdown(["type", "mask", "GFLOP/s, most", "x unfused, S 512 to 4096"], body))


def gpu_part(peers, today):
    clock = {s: f"{value:.0f}" for s, value in estimates().items()}
    measured_today = peers.fact("kernels") and peers.fact("kernels") == today
    state = "Measured on today's kernels." if measured_today else \
        f"Measured on the kernels of {peers.fact('date')[:10]}; today's are not yet measured on a GPU."
    estimate = ", ".join(f"{value} at {s}" for s, value in clock.items())
    by_clock = f"""
Not measured: by [the clock](bench/cycles/README.md), a model that replays machine code, today's `sm90_forward` (bf16,
no mask) would reach {estimate}. That model was within 10 % of measurements from length
{CLOCK_KNOWS_FROM} on.
"""
    versions = f"driver {peers.fact('driver_version', 'gpu_driver')}, PyTorch {peers.fact('torch')}, " \
        f"cuDNN {dotted(peers.fact('cudnn'))}"
    return f"""
### On GPUs

{state}

{peers.machine}, {versions}; bf16, head dim 128, 16 heads, batch x S = 16384; TFLOP/s of visible pairs,
medians; cuDNN and FlashAttention-2 through PyTorch, on the same tensors, taking turns, L2 flushed.
{said(peers)}.

{rates(peers, "bf16", 1)}{by_clock}"""


def section(folder=os.path.join(ROOT, "bench", "results")):
    """The section's text and its picture."""
    cpu, gpu = latest(folder, "cpu", "-peers"), latest(folder, "cuda", "-peers")
    extensions = cpu.fact("cpu_extensions") if cpu else ""
    other = latest(folder, "cpu", "cores", lambda run: run.fact("cpu_extensions") != extensions)
    panels, parts = [], []
    if gpu:
        panels += [panel("g-full", "H100, bf16, no mask", gpu, "bf16", "full", 1, "TFLOP/s"),
                   panel("g-causal", "H100, bf16, causal", gpu, "bf16", "causal", 1, "TFLOP/s")]
    if cpu:
        panels += [panel("c-f32", "CPU, f32, no mask", cpu, "f32", "full", 1e3, "GFLOP/s"),
                   panel("c-bf16", "CPU, bf16, causal", cpu, "bf16", "causal", 1e3, "GFLOP/s")]
        parts.append(cpu_part(cpu))
    if other:
        parts.append(other_cpu_part(other))
    parts.append(gpu_part(gpu, kernels_now()) if gpu else "\n### On GPUs\n\nNot yet measured on a GPU.\n")
    text = f"{BEGIN}\n![Throughput over sequence length, by implementation]({PICTURE})\n\n" + "".join(parts) + END
    return text, picture(panels)


def replaced(readme, text):
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise results.BadInput("README.md has no performance section between its marks")
    return readme[:begin] + text + readme[end + len(END):]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def main(words):
    if words not in (["--write"], ["--check"]):
        sys.exit(__doc__)
    text, drawn = section()
    readme, svg = os.path.join(ROOT, "README.md"), os.path.join(ROOT, PICTURE)
    wanted = {readme: replaced(read(readme), text), svg: drawn}
    if words == ["--check"]:
        stale = [path for path, content in wanted.items() if not os.path.exists(path) or read(path) != content]
        for path in stale:
            print(f"{os.path.relpath(path, ROOT)} is not what bench/results say: ./dev readme-performance renews it")
        return 1 if stale else 0
    for path, content in wanted.items():
        with open(path, "w", encoding="utf-8") as out:
            out.write(content)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except results.BadInput as error:
        sys.exit(f"readme: {error}")
