"""Result files of attention_bench and peers.py (JSON, TSV) as rows, with the spread of their repetitions."""
import json
import math
import os
import re
from dataclasses import dataclass, field

# A row is noisy where the middle half of its repetitions is wider than this share of the median: half of them then say
# nothing about differences of a few per cent.
NOISY = 0.05
QUARTILES_OF_NORMAL = 1.349  # the distance of a normal distribution's quartiles, in standard deviations

NAN = math.nan
MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
CEILING = "tile_products"
UNFUSED = "unfused"
OWN = re.compile(r"qkv(_\w+)?|sm\d+_\w+|simt_\w+|cpu_\w+")

# What a benchmark's name holds behind its shape: an option (bench/spec.h, bench/ops) or an implementation.
OPTION = re.compile(r"(bshd|additive|hard|top-left|alibi|lengths|lse|index(32|64)|top-scores|eq\d+|in\d+_out\d+"
                    r"|parts\d+|[a-z0-9-]+=[^_]*)(_|$)")
SHAPE = re.compile(r"b(?P<b>\d+)_(h(?P<h>\d+)|hq(?P<hq>\d+)_hkv(?P<hkv>\d+))"
                   r"_(s(?P<s>\d+)|sq(?P<sq>\d+)_skv(?P<skv>\d+))")
WIDTHS = re.compile(r"d(?P<d>\d+)(_dv(?P<dv>\d+))?")
FRAMEWORK = re.compile(r"(min_time|min_warmup_time|iterations|repeats|threads):.*|manual_time|real_time|process_time")


class BadInput(Exception):
    """A file that cannot be read, or is no result; says which, and why."""


@dataclass(frozen=True)
class Spread:
    """Of the times of a row's repetitions, in ms. NaN: not known."""
    least: float = NAN
    lower: float = NAN  # quartile
    upper: float = NAN
    most: float = NAN
    deviation: float = NAN  # standard deviation over the mean, where the repetitions themselves are not in the file
    count: int = 0

    def middle(self, median):
        """The width of the middle half over the median. Of a standard deviation, as if times were normal."""
        if not math.isnan(self.lower):
            return (self.upper - self.lower) / median
        return QUARTILES_OF_NORMAL * self.deviation


@dataclass(frozen=True)
class Row:
    """One implementation on one problem. Figures are medians; NaN: there is none."""
    problem: str  # the benchmark's name without the implementation
    implementation: str
    operation: str = "forward"
    device: str = ""
    type: str = ""
    d_qk: int = 0  # 0 here and below: an operation whose name does not say
    d_v: int = 0
    mask: str = ""
    b: int = 0
    hq: int = 0
    hkv: int = 0
    sq: int = 0
    skv: int = 0
    options: str = ""
    label: str = ""
    ms: float = NAN
    tflops: float = NAN
    gbs: float = NAN
    vs_unfused: float = NAN
    ceiling_percent: float = NAN
    memory: float = NAN  # bytes, counter memory_bytes
    spread: Spread = Spread()
    error: str = ""

    @property
    def own(self):
        return bool(OWN.fullmatch(self.implementation))

    @property
    def middle(self):
        return self.spread.middle(self.ms)

    @property
    def noisy(self):
        return self.middle > NOISY  # False of NaN

    @property
    def ceiling(self):
        """The rate that is 100 % of the ceiling, in TFLOP/s."""
        return self.tflops * 100 / self.ceiling_percent if self.ceiling_percent > 0 else NAN

    def rate_range(self):
        """TFLOP/s of the slowest and the fastest repetition, or of one standard deviation; NaN where not known."""
        s = self.spread
        if not math.isnan(s.least):
            return self.tflops * self.ms / s.most, self.tflops * self.ms / s.least
        return self.tflops * (1 - s.deviation), self.tflops * (1 + s.deviation)


@dataclass
class Run:
    """A result file."""
    name: str
    source: str  # "attention_bench", "peers.py"
    context: dict
    rows: list = field(default_factory=list)

    def fact(self, *names):
        """The first of these that the context holds, as text; "" if none."""
        for name in names:
            if self.context.get(name) not in (None, ""):
                return str(self.context[name])
        return ""

    @property
    def revision(self):
        return self.fact("git_id")

    @property
    def machine(self):
        return (self.fact("gpu") if any(row.device == "cuda" for row in self.rows) else "") or self.fact("cpu")


def number(value):
    """A finite number, or NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NAN
    return float(value) if math.isfinite(value) else NAN


def quantile(values, share):
    """Between the two nearest of sorted values, linearly."""
    place = (len(values) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def median(values):
    values = sorted(v for v in values if not math.isnan(v))
    return quantile(values, 0.5) if values else NAN


def spread_of(times):
    """Of two repetitions on; one has none."""
    if len(times) < 2:
        return Spread(count=len(times))
    times = sorted(times)
    return Spread(times[0], quantile(times, 0.25), quantile(times, 0.75), times[-1], count=len(times))


def parse_name(name):
    """A benchmark's name as the fields of a Row."""
    parts = [part for part in name.split("/") if not FRAMEWORK.fullmatch(part)]
    shape = next((n for n, part in enumerate(parts) if re.match(r"b\d+_", part)), len(parts) - 1)
    tail = parts[shape + 1:]
    implementation = "qkv"
    if tail and not OPTION.match(tail[-1]):
        implementation = tail.pop()
        parts.pop()
    out = {"problem": "/".join(parts), "implementation": implementation, "operation": parts[0],
           "options": "/".join(tail)}
    if len(parts) > 2:
        out.update(device=parts[1], type=parts[2])
    if shape != 5:
        return out
    widths, shape = WIDTHS.fullmatch(parts[3]), SHAPE.fullmatch(parts[5])
    if widths and shape:
        get = {key: int(value) for key, value in {**widths.groupdict(), **shape.groupdict()}.items() if value}
        out.update(d_qk=get["d"], d_v=get.get("dv", get["d"]), mask=parts[4], b=get["b"],
                   hq=get.get("hq", get.get("h", 0)), hkv=get.get("hkv", get.get("h", 0)),
                   sq=get.get("sq", get.get("s", 0)), skv=get.get("skv", get.get("s", 0)))
    return out


def checked(fields, where):
    """A Row; one whose time is no time has an error instead of figures."""
    row = Row(**fields)
    if row.error or row.ms > 0:
        return row
    said = "no time" if math.isnan(row.ms) else f"a time of {row.ms:g} ms"
    return Row(**{**fields, "ms": NAN, "tflops": NAN, "gbs": NAN, "spread": Spread(),
                  "error": f"{said} in {where}"})


def google_row(name, entries, where):
    """Of all entries of one benchmark: repetitions, else aggregates."""
    fields = parse_name(name)
    fields["label"] = next((str(e["label"]) for e in entries if e.get("label")), "")
    failed = [e for e in entries if e.get("error_occurred")]
    if failed:
        return Row(**fields, error=str(failed[0].get("error_message") or "failed, without a reason"))
    scale = [MILLISECONDS.get(e.get("time_unit", "ns"), NAN) for e in entries]
    runs = [(e, s) for e, s in zip(entries, scale) if e.get("run_type", "iteration") == "iteration"]
    seen = [e.get("repetition_index", 0) for e, _ in runs]
    if len(seen) != len(set(seen)):
        raise BadInput(f"{where}: holds {name} twice")
    if runs:
        times = [number(e.get("real_time")) * s for e, s in runs]
        fields["ms"] = median(times) if all(t > 0 for t in times) else min(times, key=lambda t: t if t > 0 else -1)
        fields["spread"] = spread_of(times)
        take = lambda key: median(number(e.get(key)) for e, _ in runs)
    else:
        aggregates = {e.get("aggregate_name"): (e, s) for e, s in zip(entries, scale)}
        middle, unit = aggregates.get("median", ({}, NAN))
        fields["ms"] = number(middle.get("real_time")) * unit
        fields["spread"] = Spread(deviation=number(aggregates.get("cv", ({}, 0))[0].get("real_time")),
                                  count=int(number(middle.get("repetitions", 0)) or 0) if middle else 0)
        take = lambda key: number(middle.get(key))
    fields.update(tflops=take("TFLOP/s"), gbs=take("GB/s"), vs_unfused=take("x_unfused"),
                  ceiling_percent=take("%_ceiling"), memory=take("memory_bytes"))
    return checked(fields, where)


def problem_of(row):
    """A row's problem as attention_bench would name it."""
    widths = f"d{row['d_qk']}" + ("" if row["d_v"] == row["d_qk"] else f"_dv{row['d_v']}")
    heads = f"h{row['hq']}" if row["hq"] == row["hkv"] else f"hq{row['hq']}_hkv{row['hkv']}"
    lengths = f"s{row['sq']}" if row["sq"] == row["skv"] else f"sq{row['sq']}_skv{row['skv']}"
    tail = "/" + row["options"] if row.get("options") else ""
    return f"forward/{row['device']}/{row['type']}/{widths}/{row['mask']}/b{row['b']}_{heads}_{lengths}{tail}"


def flat_row(entry, where):
    """Of what peers.py and the TSV hold: one entry a row."""
    try:
        fields = {key: int(entry[key]) for key in ("d_qk", "d_v", "b", "hq", "hkv", "sq", "skv")}
        fields.update((key, str(entry[key])) for key in ("implementation", "device", "type", "mask"))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{where}: a row without what peers.py writes ({error})") from error
    options = str(entry.get("options") or "-")
    fields["options"] = "" if options == "-" else options
    fields["problem"] = problem_of(fields)
    runs = entry.get("ms_of_runs")
    times = [number(t) for t in runs] if isinstance(runs, list) else []
    if times and all(t > 0 for t in times):
        fields["spread"] = spread_of(times)
    for mine, theirs in {"ms": "ms", "tflops": "tflops", "gbs": "gbs", "vs_unfused": "x_unfused",
                         "ceiling_percent": "ceiling_percent", "memory": "memory_bytes"}.items():
        fields[mine] = number(entry.get(theirs))
    fields["error"] = str(entry.get("error") or "")
    return checked(fields, where)


def from_json(text, name):
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{name}: is no JSON ({error})") from error
    entries = data.get("benchmarks") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise BadInput(f"{name}: holds no \"benchmarks\": is it a result of attention_bench or peers.py?")
    context = data.get("context")
    run = Run(name, "attention_bench", dict(context) if isinstance(context, dict) else {})
    if any("implementation" in entry for entry in entries):
        run.source = "peers.py"
        run.rows = [flat_row(entry, name) for entry in entries]
        built = run.context.get("qkv")
        if isinstance(built, dict) and "git_id" not in run.context:
            run.context["qkv"] = "; ".join(f"{key} {value}" for key, value in built.items() if isinstance(value, str))
    else:
        grouped = {}
        for entry in entries:
            if not isinstance(entry.get("run_name", entry.get("name")), str):
                raise BadInput(f"{name}: a benchmark without a name")
            grouped.setdefault(entry.get("run_name", entry.get("name")), []).append(entry)
        run.rows = [google_row(key, group, name) for key, group in grouped.items()]
    return run


def from_tsv(text, name):
    """Medians alone: the table has no repetitions."""
    run = Run(name, "attention_bench", {})
    lines = text.splitlines()
    while lines and lines[0].startswith("# "):
        key, _, value = lines.pop(0)[2:].partition(": ")
        run.context[key] = value
    columns = lines.pop(0).split("\t") if lines else []
    if columns[:2] != ["implementation", "device"]:
        raise BadInput(f"{name}: is no table of attention_bench or peers.py")
    if "torch" in run.context:
        run.source = "peers.py"
    for line in lines:
        entry = dict(zip(columns, line.split("\t")))
        for key in ("ms", "tflops", "gbs", "x_unfused", "ceiling_percent"):
            try:
                entry[key] = float(entry.get(key, "-"))
            except ValueError:
                entry[key] = NAN
        if "-" in (entry.get("d_qk"), entry.get("sq"), entry.get("skv"), entry.get("mask")):
            continue  # a projection or a merge, whose shape is not in these columns
        run.rows.append(flat_row(entry, name))
    return run


def read(path):
    name = os.path.basename(path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    run = from_tsv(text, name) if path.endswith(".tsv") else from_json(text, name)
    if not run.rows:
        raise BadInput(f"{name}: holds no results")
    keys = [(row.problem, row.implementation) for row in run.rows]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        raise BadInput(f"{name}: holds {twice[0]} of {twice[1]} twice")
    return run
