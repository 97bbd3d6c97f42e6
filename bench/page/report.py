#!/usr/bin/env python3
"""Draws result files of attention_bench and peers.py as one HTML page that needs nothing else: DIR/index.html.

./dev report RESULTS... DIR

RESULTS are .json files (or .tsv: without the spread of the repetitions). Each is a part of its own, for figures of
different runs are not compared. Exits with 2 where a file is no result.
"""
import argparse
import math
import os
import sys

import charts
import results
from charts import Point, Series, figure
from markup import Html, joined, table, tag

SIZES = {"f32": 4, "f16": 2, "bf16": 2}
MIB = 1 << 20
RIVALS = {  # what could stand beside qkv, by what their implementations' names begin with
    "cuDNN": ("cudnn", "torch_cudnn"), "PyTorch": ("torch",), "ONNX Runtime": ("onnx", "ort"),
    "OpenVINO": ("openvino",), "FlashAttention": ("fa", "torch_fa", "torch_flash"), "FlashInfer": ("flashinfer",),
    "the unfused baseline": ("unfused",),
}
PACKAGES = ("PyTorch", "ONNX Runtime", "OpenVINO")  # of them, what a run is named after
ONE_SIDE = {"cpu": ("ONNX Runtime", "OpenVINO"), "cuda": ("cuDNN", "FlashAttention", "FlashInfer")}
FACTS = (  # of the context: names, what they are called on the page
    (("gpu",), "GPU"), (("gpu_architecture",), "architecture"), (("gpu_multiprocessors",), "multiprocessors"),
    (("gpu_memory",), "GPU memory"), (("gpu_l2",), "L2 cache"), (("gpu_sm_clock_under_load",), "SM clock under load"),
    (("gpu_sm_clock_limit", "clocks.max.sm"), "SM clock limit"),
    (("gpu_memory_clock_under_load", "clocks.mem"), "memory clock"),
    (("gpu_power_limit", "power.limit"), "power limit"), (("gpu_driver", "driver_version"), "driver"),
    (("cuda_runtime_version", "torch_cuda"), "CUDA"), (("cpu",), "CPU"), (("threads",), "threads"),
    (("cpu_extensions",), "CPU extensions"), (("memory",), "memory"), (("load_before",), "load before the run"),
    (("system",), "system"), (("compiler",), "compiler"), (("build_type",), "build"), (("qkv_version", "qkv"), "qkv"),
    (("torch",), "PyTorch"), (("cudnn",), "cuDNN"), (("onnxruntime",), "ONNX Runtime"), (("openvino",), "OpenVINO"),
    (("python",), "Python"), (("memory_rate_cpu",), "memory read by the CPU"),
    (("memory_rate_cuda",), "memory read by the GPU"), (("note",), "note"),
)


class Styles:
    """A contender's marker, dashes and colour, the same on the whole page."""

    def __init__(self, runs):
        names = list(dict.fromkeys(row.implementation for run in runs for row in run.rows))
        others = [n for n in names if not n.startswith("qkv") and n not in (results.UNFUSED, results.CEILING)]
        self._of = {results.UNFUSED: 1, results.CEILING: -1, **{name: 2 + n for n, name in enumerate(others)}}

    def __getitem__(self, name):
        return self._of.get(name, 0)


# --- figures' groups


class Group:
    """Rows of one plot: all but the length is the same, or the batch too where it keeps the tokens."""

    def __init__(self, rows):
        self.rows = rows
        self.first = rows[0]
        self.decode = self.first.sq != self.first.skv
        self.lengths = sorted({row.skv for row in rows})
        self.batches = {row.skv: row.b for row in rows}

    @property
    def scale_key(self):
        r = self.first
        return r.device, r.type, r.d_qk, r.d_v, self.decode

    def title(self):
        r = self.first
        widths = f"d {r.d_qk}" if r.d_qk == r.d_v else f"d {r.d_qk}, of V {r.d_v}"
        decode = f", {r.sq} quer{'y' if r.sq == 1 else 'ies'}" if self.decode else ""
        return f"{r.type}, {r.mask}, {widths}{decode}"

    def shape(self):
        r = self.first
        heads = f"{r.hq} heads" if r.hq == r.hkv else f"{r.hq} query and {r.hkv} key heads"
        batches = set(self.batches.values())
        if len(batches) == 1:
            batch = f"batch {r.b}"
        else:
            batch = f"{r.b * r.skv} tokens (batch × length)"
        return f"{heads}, {batch}" + (f", {r.options}" if r.options else "")

    def contenders(self):
        return list(dict.fromkeys(row.implementation for row in self.rows))

    def row(self, implementation, length):
        return next((r for r in self.rows if r.implementation == implementation and r.skv == length and not r.error),
                    None)

    def ceiling(self, length):
        return results.median(row.ceiling for row in self.rows if row.skv == length and not row.error)


def groups_of(rows):
    keyed = {}
    for row in rows:
        if row.operation == "forward" and row.d_qk and not row.error:
            kind = "self" if row.sq == row.skv else row.sq
            keyed.setdefault((row.device, row.type, row.d_qk, row.d_v, row.mask, row.options, row.hq, row.hkv, kind),
                             []).append(row)
    out = []
    for group in keyed.values():
        pairs = {(row.skv, row.b) for row in group}
        one_each = len({skv for skv, _ in pairs}) == len(pairs)
        if one_each and len({b for _, b in pairs}) > 1 and len({skv * b for skv, b in pairs}) > 1:
            one_each = False
        parts = {}
        for row in group:
            parts.setdefault(None if one_each else row.b, []).append(row)
        out += map(Group, parts.values())
    return out


# --- plots


def said_range(row):
    low, high = row.rate_range()
    if math.isnan(low):
        return "spread not known"
    if math.isnan(row.spread.least):
        return f"± {row.spread.deviation * 100:.1f} %"
    return f"{figure(low)} to {figure(high)} in {row.spread.count} repetitions"


def point(row, scale, where):
    low, high = row.rate_range()
    noisy = ", noisy" if row.noisy else ""
    return Point(row.skv, row.tflops * scale, low * scale, high * scale,
                 f"{row.implementation}, {where}: {figure(row.tflops)} TFLOP/s, {said_range(row)}{noisy}")


def throughput_series(group, styles, scale):
    out = []
    for name in group.contenders():
        if name == results.CEILING:
            continue
        rows = [row for row in (group.row(name, s) for s in group.lengths) if row and row.tflops > 0]
        if rows:
            out.append(Series(name, styles[name], [point(r, scale, f"length {r.skv}") for r in rows]))
    ceiling = [Point(s, group.ceiling(s) * scale) for s in group.lengths if group.ceiling(s) > 0]
    if ceiling:
        out.append(Series(ceiling_name(group.first.device), -1, ceiling))
    return out


def ceiling_name(device):
    return "GEMM 8192³" if device == "cuda" else results.CEILING


def unit_of(rows):
    """(name, what TFLOP/s are multiplied by)."""
    highest = max((max(r.tflops, r.ceiling if r.ceiling > 0 else 0) for r in rows if r.tflops > 0), default=0)
    return ("GFLOP/s", 1e3) if highest < 1 else ("TFLOP/s", 1.0)


def described(series, unit):
    """What a plot shows, in words."""
    parts = []
    for s in series:
        first, last = s.points[0], s.points[-1]
        parts.append(f"{s.name}: {figure(first.y)} at {first.x:g}" +
                     (f", {figure(last.y)} at {last.x:g}" if last is not first else ""))
    return f"{unit} by length. " + "; ".join(parts) + "."


def rate_cell(row, scale, best):
    if row is None:
        return tag("span", "-", title="not measured")
    shown = figure(row.tflops * scale)
    shown = tag("strong", shown) if best else shown
    return joined([shown, tag("span", " ~", class_="warn", title="noisy")]) if row.noisy else shown


def rates_table(group, unit, scale):
    names = [n for n in group.contenders() if n != results.CEILING]
    has_ceiling = any(group.ceiling(length) > 0 for length in group.lengths)
    rows = []
    for length in group.lengths:
        of = {name: group.row(name, length) for name in names}
        best = max((r.tflops for r in of.values() if r and r.tflops > 0), default=math.nan)
        rows.append([length, *(rate_cell(of[n], scale, of[n] is not None and of[n].tflops == best) for n in names),
                     *([figure(group.ceiling(length) * scale)] if has_ceiling else [])])
    noisy = any(row.noisy for row in group.rows)
    caption = f"{unit}, medians; the fastest is bold" + ("; ~ noisy" if noisy else "")
    head = ["keys" if group.decode else "length", *names]
    return table([*head, ceiling_name(group.first.device)] if has_ceiling else head, rows, caption)


def throughput_figure(group, styles, key, tops):
    unit, scale = tops[group.scale_key]["unit"]
    series = throughput_series(group, styles, scale)
    if not series:
        return Html()
    title = group.title()
    description = described(series, unit)
    if len(group.lengths) > 1:
        plot = charts.lines(key, title, description, series, x_label="keys" if group.decode else "sequence length",
                            y_label=unit, x_ticks=group.lengths,
                            y_ticks=charts.nice_ticks(tops[group.scale_key]["top"] * scale))
    else:
        plot = charts.bars(key, title, description, series, unit=f"{unit} at {group.lengths[0]} keys")
    return tag("figure", tag("h4", title), Html(plot), tag("figcaption", group.shape()),
               rates_table(group, unit, scale))


def scales(groups):
    out = {}
    for group in groups:
        entry = out.setdefault(group.scale_key, {"top": 0, "rows": []})
        entry["rows"] += group.rows
        for row in group.rows:
            values = [row.tflops, row.ceiling, row.rate_range()[1]]
            entry["top"] = max([entry["top"], *(v for v in values if v > 0)])
    for entry in out.values():
        entry["unit"] = unit_of(entry["rows"])
    return out


# --- memory


def tensor_bytes(row):
    """Q, K, V and O."""
    return row.b * SIZES[row.type] * (row.hq * row.sq * (row.d_qk + row.d_v) + row.hkv * row.skv *
                                      (row.d_qk + row.d_v))


def unfused_bytes(row):
    """And what the unfused baseline keeps between its products: S, on the CPU in fp32 with fp32 copies of tensors."""
    scores = row.b * row.hq * row.sq * row.skv
    if row.device == "cuda":
        return tensor_bytes(row) + scores * SIZES[row.type]
    copies = tensor_bytes(row) // SIZES[row.type] * 4 if row.type != "f32" else 0
    return tensor_bytes(row) + scores * 4 + copies


def memory_text(value):
    value = float(value)
    if math.isnan(value):
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.3g} {unit}"
        value /= 1024


def memory_figure(group, styles, key):
    first = {row.skv: row for row in reversed(group.rows)}
    lengths = [s for s in group.lengths if first[s].type in SIZES]
    if len(lengths) < 2:
        return Html()
    fused = Series("Q, K, V, O", 0, [Point(s, tensor_bytes(first[s]), title=f"length {s}: "
                                           f"{memory_text(tensor_bytes(first[s]))}, computed") for s in lengths])
    unfused = Series("with S", 1, [Point(s, unfused_bytes(first[s]), title=f"length {s}: "
                                        f"{memory_text(unfused_bytes(first[s]))}, computed") for s in lengths])
    measured = []
    for name in group.contenders():
        rows = [row for row in (group.row(name, s) for s in lengths) if row and row.memory > 0]
        if rows:
            measured.append(Series(f"{name}, measured", max(styles[name], 0) + 2,
                                   [Point(r.skv, r.memory, title=f"length {r.skv}: {memory_text(r.memory)}, measured")
                                    for r in rows]))
    series = [fused, unfused, *measured]
    values = [p.y for s in series for p in s.points]
    title = f"Memory, {group.title()}"
    description = "Bytes by length, computed: " + "; ".join(
        f"{s.name}: {memory_text(s.points[0].y)} at {s.points[0].x:g}, {memory_text(s.points[-1].y)} at "
        f"{s.points[-1].x:g}" for s in series) + "."
    base = 4 if max(values) / min(values) < 300 else 16
    plot = charts.lines(key, title, description, series, x_label="sequence length", y_label="bytes", x_ticks=lengths,
                        y_ticks=charts.log_ticks(min(values), max(values), base), y_log=True, y_text=memory_text)
    rows = [[s, memory_text(tensor_bytes(first[s])), memory_text(unfused_bytes(first[s])),
             f"{unfused_bytes(first[s]) / tensor_bytes(first[s]):.1f}",
             *(memory_text(next((p.y for p in m.points if p.x == s), math.nan)) for m in measured)] for s in lengths]
    return tag("figure", tag("h4", title), Html(plot), tag("figcaption", group.shape()),
               table(["length", "Q, K, V, O", "with S", "times", *(m.name for m in measured)], rows,
                     "computed, but for what says measured" if measured else "computed, not measured"))


def memory_part(run, groups, styles, key):
    chosen = {}
    for group in groups:
        if not group.decode and len(group.lengths) > 1:
            chosen.setdefault((group.first.device, group.first.type, group.first.d_qk), group)
    figures = [memory_figure(group, styles, f"{key}-m{n}") for n, group in enumerate(chosen.values())]
    figures = [f for f in figures if f]
    if not figures:
        return Html()
    text = joined(["Computed from the shapes, not measured: what any implementation holds (Q, K, V, O), and what the "
                   "unfused baseline holds besides, the matrix S of all scores (on CUDA in the input type; on the CPU "
                   "in fp32, with fp32 copies of 16-bit tensors). Left out: a plan's workspace, which ",
                   tag("code", "qkv explain"), " says, padding of lines, and cuBLAS's own workspace. Where it says "
                   "measured: what the benchmark allocated for the implementation, tensors, copies and workspace."])
    return joined([tag("h3", "Memory"), tag("p", text), tag("div", *figures, class_="figures")])


# --- roofline


def roofline_figure(run, rows, styles, key):
    rows = [row for row in rows if row.tflops > 0 and row.gbs > 0 and row.implementation != results.CEILING]
    if not rows:
        return Html()
    ceilings = [r.ceiling for r in run.rows if r.ceiling > 0 and r.type == rows[0].type and r.device == rows[0].device]
    peak = max(ceilings, default=math.nan)
    memory_rate = run.fact(f"memory_rate_{rows[0].device}")
    memory = results.number(leading(memory_rate)) / 1e3  # GB/s to TB/s
    by_name = {}
    for row in rows:
        by_name.setdefault(row.implementation, []).append(row)
    series = []
    for name, mine in by_name.items():
        points = []
        for row in mine:
            intensity = 1e3 * row.tflops / row.gbs
            points.append(Point(intensity, row.tflops, title=f"{row.problem}, {name}: {figure(row.tflops)} TFLOP/s at "
                                f"{figure(intensity)} FLOP/byte"))
        series.append(Series(name, styles[name], sorted(points, key=lambda p: p.x), joined=False))
    xs, ys = [p.x for s in series for p in s.points], [p.y for s in series for p in s.points]
    if peak > 0 and memory > 0:
        xs.append(peak / memory / 2)  # so that the ridge is in view
    x_ticks = charts.log_ticks(min(xs), max(xs), 2 if max(xs) / min(xs) < 40 else 10)
    low, high = x_ticks[0], x_ticks[-1]
    if peak > 0:
        series.append(Series(ceiling_name(rows[0].device), -1,
                             [Point(max(low, peak / memory) if memory > 0 else low, peak), Point(high, peak)]))
        ys.append(peak)
    if memory > 0:
        end = min(high, peak / memory) if peak > 0 else high
        if end > low:
            series.append(Series("memory", -1, [Point(low, low * memory), Point(end, end * memory)]))
            ys += [low * memory, end * memory]
    said = [f"{ceiling_name(rows[0].device)} at most {figure(peak)} TFLOP/s" if peak > 0 else
            "the products' ceiling was not measured in this run",
            f"memory {memory_rate}" if memory > 0 else "the memory's ceiling was not measured in this run"]
    title = f"Roofline, {rows[0].device}, {rows[0].type}"
    plot = charts.lines(key, title, f"TFLOP/s over FLOP per byte; {'; '.join(said)}.", series,
                        x_label="FLOP per byte that has to be moved", y_label="TFLOP/s", x_ticks=x_ticks,
                        y_ticks=(charts.fine_log_ticks if max(ys) / min(ys) < 300 else
                                 charts.log_ticks)(min(ys), max(ys)), y_log=True)
    return tag("figure", tag("h4", title), Html(plot), tag("figcaption", "Ceilings: " + "; ".join(said) + "."))


def leading(text):
    try:
        return float(text.split()[0])
    except (ValueError, IndexError):
        return math.nan


def roofline_part(run, styles, key):
    by_type = {}
    for row in run.rows:
        if not row.error:
            by_type.setdefault((row.device, row.type), []).append(row)
    figures = [roofline_figure(run, rows, styles, f"{key}-r{n}") for n, rows in enumerate(by_type.values())]
    figures = [f for f in figures if f]
    if not figures:
        return Html()
    text = ("Work of the visible pairs over the bytes that any implementation has to move (each input read once, each "
            "output written once): what a kernel really moves is more, so its true place is further left.")
    return joined([tag("h3", "Roofline"), tag("p", text), tag("div", *figures, class_="figures")])


# --- summary, rows, facts


def spanned(values, text):
    values = [v for v in values if not math.isnan(v)]
    if not values:
        return "-"
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"


def fastest_rival(group, length):
    rows = [r for r in group.rows if r.skv == length and not r.own and r.implementation != results.CEILING and
            r.tflops > 0]
    return max(rows, key=lambda r: r.tflops, default=None)


def summary(groups):
    rows = []
    for group in groups:
        own = [r for r in group.rows if r.implementation.startswith("qkv") and r.tflops > 0]
        if not own:
            continue
        best = max(own, key=lambda r: r.tflops)
        unit, scale = unit_of(own)
        rivals = [(r, fastest_rival(group, r.skv)) for r in own]
        rivals = [(r, rival) for r, rival in rivals if rival]
        names = list(dict.fromkeys(rival.implementation for _, rival in rivals))
        rows.append([
            f"{group.title()}; {group.shape()}",
            f"{figure(best.tflops * scale)} {unit} at {best.skv}",
            spanned([r.vs_unfused for r in own], lambda v: f"{v:.2f}"),
            spanned([r.tflops / rival.tflops for r, rival in rivals], lambda v: f"{v:.2f}"),
            ", ".join(names) or "none ran",
            spanned([r.ceiling_percent for r in own], lambda v: f"{v:.0f} %")])
    shown = table(["qkv", "fastest", "× unfused", "× fastest rival", "which was", "of the ceiling"], rows,
                  "over all lengths; ratios are of one run")
    return tag("div", shown, class_="summary") if rows else Html()


def rows_table(run):
    out = []
    memory = any(row.memory > 0 for row in run.rows)
    for row in run.rows:
        name = row.problem.removeprefix("forward/")
        if row.error:
            out.append([name, row.implementation, *["-"] * (8 if memory else 7), tag("span", row.error, class_="warn")])
            continue
        s = row.spread
        if not math.isnan(s.least):
            spread, width = f"{s.least:.4g} to {s.most:.4g}", f"{row.middle * 100:.1f} %"
        elif not math.isnan(s.deviation):
            spread, width = f"± {s.deviation * 100:.1f} %", f"{row.middle * 100:.1f} %*"
        else:
            spread = width = "-"
        notes = tag("span", "noisy", class_="warn") if row.noisy else ""
        by = f"{row.implementation}: {row.label}" if row.label else row.implementation
        out.append([name, by, f"{row.ms:.4g}", spread, width, figure(row.tflops), figure(row.gbs),
                    figure(row.vs_unfused),
                    "-" if math.isnan(row.ceiling_percent) else f"{row.ceiling_percent:.1f}",
                    *([memory_text(row.memory)] if memory else []), notes])
    shown = table(["problem", "implementation", "ms", "least to most", "middle half", "TFLOP/s", "GB/s", "× unfused",
                   "% ceiling", *(["memory"] if memory else []), ""], out, "every row", 2)
    star = ("*: the file holds no repetitions, only their standard deviation; the middle half is that of a normal "
            "distribution." if any(math.isnan(r.spread.least) and not math.isnan(r.spread.deviation)
                                   for r in run.rows) else "")
    return joined([tag("h3", "All figures"),
                   tag("p", "Times are medians. Middle half: the quartiles' distance over the median; a row is noisy "
                       f"where it is more than {results.NOISY * 100:g} %. {star}"), tag("div", shown, class_="rows")])


def facts_table(run):
    rows = [[name, run.fact(*keys)] for keys, name in FACTS if run.fact(*keys)]
    rows += [[key.replace("_", " "), value] for key, value in run.context.items() if key.startswith("gemm_")]
    if not rows:
        return tag("p", "The file says nothing of the machine.", class_="note")
    return joined([tag("h3", "Machine"), tag("div", table(["fact", "value"], rows, "as the run wrote them", 9),
                                             class_="facts")])


# --- what was not measured


def not_measured(run, groups):
    out = []
    failed = [row for row in run.rows if row.error]
    out += [f"{row.problem} of {row.implementation}: {row.error}" for row in failed]
    for group in groups:
        for name in group.contenders():
            gone = [str(s) for s in group.lengths if not group.row(name, s)]
            if gone:
                out.append(f"{name}, {group.title()}: length {', '.join(gone)}")
    devices = {row.device for row in run.rows}
    names = {row.implementation for row in run.rows}
    for rival, starts in RIVALS.items():
        elsewhere = [d for d, only in ONE_SIDE.items() if rival in only]
        if elsewhere and not devices & set(elsewhere):
            continue
        if not any(name.startswith(starts) for name in names):
            out.append(f"{rival}: no row")
    for what, present, all_of in (("type", {r.type for r in run.rows}, ("f32", "f16", "bf16")),
                                  ("mask", {r.mask for r in run.rows}, ("full", "causal"))):
        gone = [value for value in all_of if value not in present]
        if gone:
            out.append(f"{what} {', '.join(gone)}")
    if not any(row.sq != row.skv for row in run.rows):
        out.append("decoding (fewer queries than keys)")
    if not any(row.ceiling > 0 for row in run.rows):
        out.append("the ceiling of products (tile_products, 8192³ product)")
    if not any(run.fact(f"memory_rate_{device}") for device in devices):
        out.append("the ceiling of memory (facts memory_rate_cpu, memory_rate_cuda)")
    if not any(row.memory > 0 for row in run.rows):
        out.append("memory in use (counter memory_bytes)")
    if all(math.isnan(row.middle) for row in run.rows if not row.error):
        out.append("the spread of repetitions: the file holds medians alone")
    if "cuda" not in devices:
        out.append("a GPU")
    elif not run.fact("gpu_sm_clock_under_load"):
        out.append("the SM clock under load")
    if not run.revision:
        out.append("the revision of qkv: the file does not say")
    return tag("div", tag("h3", "Not measured in this run"), tag("ul", *(tag("li", line) for line in out)),
               class_="missing") if out else Html()


def warnings(run):
    out = []
    noisy = sum(row.noisy for row in run.rows)
    if noisy:
        out.append(f"{noisy} of {len(run.rows)} rows are noisy (~).")
    load = leading(run.fact("load_before"))
    if load > 0.7 and any(row.device == "cpu" for row in run.rows):
        out.append(f"The machine was busy: a load of {run.fact('load_before')} before the run.")
    if run.revision.endswith("-modified"):
        out.append("Of uncommitted changes: not a result to keep.")
    return tag("p", " ".join(out), class_="note") if out else Html()


# --- the page


def run_title(run):
    types = ", ".join(dict.fromkeys(row.type for row in run.rows if row.type))
    names = {row.implementation for row in run.rows}
    rivals = [rival for rival in PACKAGES if any(name.startswith(RIVALS[rival]) for name in names)]
    return f"{run.machine or 'unnamed machine'}: {types}" + (f", beside {', '.join(rivals)}" if rivals else "")


def source_line(run):
    revision = f"revision {run.revision}" if run.revision else "revision not said"
    return f"{run.fact('date') or 'no date'}; {revision}; {run.name}, written by {run.source}"


def other_operations(run):
    rows = [row for row in run.rows if not (row.operation == "forward" and row.d_qk) and not row.error]
    if not rows:
        return Html()
    return tag("p", f"{len(rows)} rows of other operations ({', '.join(sorted({r.operation for r in rows}))}) stand in "
               "the table alone.")


def run_part(run, styles, key):
    groups = groups_of(run.rows)
    tops = scales(groups)
    figures = [throughput_figure(group, styles, f"{key}-t{n}", tops) for n, group in enumerate(groups)]
    figures = [f for f in figures if f]
    throughput = joined([tag("h3", "Throughput"),
                         tag("p", "Work is counted by the problem: visible pairs only. Thick strokes behind markers: "
                             "least to most of the repetitions, or one standard deviation each way where the file "
                             "holds no more. Plots of one type and width have one scale."),
                         tag("div", *figures, class_="figures")]) if figures else Html()
    return tag("section", tag("h2", run_title(run)), tag("p", source_line(run), class_="soft"), warnings(run),
               summary(groups), throughput, other_operations(run), memory_part(run, groups, styles, key),
               roofline_part(run, styles, key), not_measured(run, groups), facts_table(run), rows_table(run),
               class_="run", id=key)


def page(runs):
    styles = Styles(runs)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "style.css"), encoding="utf-8") as file:
        style = Html(file.read())
    machines = list(dict.fromkeys(run.machine for run in runs if run.machine))
    dates = sorted({run.fact("date")[:10] for run in runs if run.fact("date")})
    revisions = list(dict.fromkeys(run.revision for run in runs if run.revision))
    lead = "; ".join(filter(None, (", ".join(machines), " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else
                                   "", "revision " + ", ".join(revisions) if revisions else "")))
    contents = tag("nav", tag("ol", *(tag("li", tag("a", run_title(run), href=f"#run{n}")) for n, run in
                                      enumerate(runs))), aria_label="runs") if len(runs) > 1 else Html()
    head = tag("header", tag("h1", "Attention, measured"), tag("p", lead, class_="lead"),
               tag("p", "Every output was compared with fp64 on sampled rows before it was timed; implementations of "
                   "one problem take turns. Figures of different runs are not compared: each run stands on its own, "
                   "with its own ratios."), contents)
    return Html("<!DOCTYPE html>\n") + tag(
        "html", tag("head", tag("meta", charset="utf-8"),
                    tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                    tag("meta", name="color-scheme", content="light dark"),
                    tag("title", f"Attention, measured: {', '.join(machines) or 'qkv'}"), tag("style", style)),
        tag("body", head, tag("main", *(run_part(run, styles, f"run{n}") for n, run in enumerate(runs)))),
        lang="en") + "\n"


def main(given=None):
    parser = argparse.ArgumentParser(prog="./dev report", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS", help=".json or .tsv of attention_bench or peers.py")
    parser.add_argument("folder", metavar="DIR", help="where index.html is written")
    options = parser.parse_args(given)
    try:
        if os.path.isfile(options.folder):
            raise results.BadInput(f"{options.folder}: is a file; the folder for the page comes last")
        text = page([results.read(path) for path in options.results])
        os.makedirs(options.folder, exist_ok=True)
        out = os.path.join(options.folder, "index.html")
        with open(out, "w", encoding="utf-8") as file:
            file.write(text)
    except (results.BadInput, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
