#!/usr/bin/env python3
"""What changed from one result file to another, beyond the noise.

./dev compare A.json B.json: B against A, row by row. Exits with 0 where nothing of qkv's is slower, 1 where something
is or no longer runs, 2 where the files cannot be compared.

Noise is the largest of four things, each a share of the row's time:
- the spread: 1.5 times the middle halves (upper less lower quartile) of A's and of B's repetitions, over their medians,
  together; of n repetitions instead of five, times sqrt(5 / n). The middle half, since one slow repetition of five (a
  page fault, another program) then does not count; 1.5, since five repetitions show their own spread badly;
- the drift: by how much the rows that are not qkv's (unfused, tile_products, PyTorch ...) differ in the median. They
  are the same code in both files, so what moves them is the machine. Needs three such rows;
- the rivals: the furthest that one of those moved the same way on the same problem, for they took turns with it;
- 2 % (--floor), what one build differs by from one process to the next: placement of memory, clocks.
"""
import argparse
import math
import os
import re
import sys

import results

FLOOR = 2.0  # per cent
SPREADS = 1.5  # of five repetitions; at normal noise of 1 % (5 %) 0.1 % (1 %) of equal rows then count as slower
REFUSED = ("cpu", "gpu", "threads", "gpu_multiprocessors", "build_type")  # other figures altogether
NAMED = ("gpu_driver", "driver_version", "compiler", "gpu_power_limit", "power.limit", "cuda_runtime_version", "torch",
         "cudnn", "memory")
CLOCK = "gpu_sm_clock_under_load"


def leading_number(text):
    match = re.match(r"\s*(\d+(\.\d+)?)", text)
    return float(match[1]) if match else math.nan


def differences(a, b):
    """(reasons not to compare the two runs, things to be wary of)."""
    refused, wary = [], []
    for name in REFUSED:
        if name == "cpu" and a.fact("gpu") and b.fact("gpu"):
            continue
        if a.fact(name) != b.fact(name):
            refused.append(f"{name}: {a.fact(name) or 'not said'} and {b.fact(name) or 'not said'}")
    if a.source != b.source:
        refused.append(f"measured by: {a.source} and {b.source}")
    for name in NAMED:
        if a.fact(name) != b.fact(name):
            wary.append(f"{name}: {a.fact(name) or 'not said'} and {b.fact(name) or 'not said'}")
    clocks = leading_number(a.fact(CLOCK)), leading_number(b.fact(CLOCK))
    if all(clocks) and abs(clocks[0] / clocks[1] - 1) > 0.03:
        wary.append(f"clock under load: {a.fact(CLOCK)} and {b.fact(CLOCK)}")
    for run in (a, b):
        load, cores = leading_number(run.fact("load_before")), leading_number(run.fact("cores"))
        if load > 0.7 and not run.fact("gpu"):
            wary.append(f"{run.name}: a load of {run.fact('load_before')} on {cores:g} cores before it began")
        if run.revision.endswith("-modified"):
            wary.append(f"{run.name}: of uncommitted changes ({run.revision})")
    return refused, wary


class Change:
    """A row of both files. `beside`: logarithms of the time ratios of the same problem's rows that are not qkv's."""

    def __init__(self, a, b, drift, floor, beside=()):
        self.a, self.b = a, b
        if a.error or b.error:
            self.ratio = self.noise = math.nan  # nothing to compare
            self.verdict = "no figure" if a.error else "failed"
            return
        self.ratio = b.ms / a.ms
        spread = sum(SPREADS * row.middle * math.sqrt(5 / (row.spread.count or 5)) for row in (a, b))
        self.known = not math.isnan(spread)
        same_way = [abs(moved) for moved in beside if moved * math.log(self.ratio) > 0] if a.own else []
        self.noise = max(floor, drift, spread if self.known else 0, *map(math.expm1, same_way))
        # Of times a share more is the same as a share less of the rate: by the logarithm, alike in both directions.
        if abs(math.log(self.ratio)) <= math.log1p(self.noise):
            self.verdict = "same"
        else:
            self.verdict = "worse" if self.ratio > 1 else "better"

    @property
    def counts(self):
        return self.a.own

    @property
    def bad(self):
        return self.counts and self.verdict in ("worse", "failed")


def moves_of_others(a_rows, b_rows):
    """Logarithms of time ratios of the rows that are not qkv's, by problem."""
    out = {}
    for key, row in a_rows.items():
        if not row.own and key in b_rows and not (row.error or b_rows[key].error):
            out.setdefault(row.problem, []).append(math.log(b_rows[key].ms / row.ms))
    return out


def keyed(run):
    return {(row.problem, row.implementation): row for row in run.rows}


class Comparison:
    def __init__(self, a, b, floor=FLOOR):
        a_rows, b_rows = keyed(a), keyed(b)
        others = moves_of_others(a_rows, b_rows)
        moved = [move for moves in others.values() for move in moves]
        self.drift = math.expm1(results.median(moved)) if len(moved) >= 3 else math.nan
        drift = 0 if math.isnan(self.drift) else max(self.drift, 1 / (1 + self.drift) - 1)
        self.changes = [Change(row, b_rows[key], drift, floor / 100, others.get(row.problem, ()))
                        for key, row in a_rows.items() if key in b_rows]
        self.only_a = [key for key in a_rows if key not in b_rows]
        self.only_b = [key for key in b_rows if key not in a_rows]

    @property
    def bad(self):
        return [change for change in self.changes if change.bad]


def percent(share):
    return "-" if math.isnan(share) else f"{share * 100:+.1f} %"


def print_changes(changes, everything):
    order = {"failed": 0, "worse": 1, "better": 2, "no figure": 3, "same": 4}
    shown = [c for c in sorted(changes, key=lambda c: (not c.counts, order[c.verdict]))
             if everything or c.verdict != "same"]
    if not shown:
        return
    cells = [("row", "A ms", "B ms", "rate", "noise", "")]
    for c in shown:
        name = c.a.problem if c.a.implementation == "qkv" else f"{c.a.problem}/{c.a.implementation}"
        said = c.verdict if c.counts else f"{c.verdict} (not qkv's)"
        if c.verdict == "failed":
            said += f": {c.b.error}"
        elif c.verdict == "no figure":
            said += f" in A: {c.a.error}"
        elif not c.known:
            said += ", spread not known"
        elif c.a.noisy or c.b.noisy:
            said += ", noisy"
        cells.append((name, *(f"{row.ms:.4g}" if row.ms > 0 else "-" for row in (c.a, c.b)), percent(1 / c.ratio - 1),
                      "-" if math.isnan(c.noise) else f"{c.noise * 100:.1f} %", said))
    widths = [max(len(row[n]) for row in cells) for n in range(5)]
    for row in cells:
        print("  " + row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in range(1, 5)), " " + row[5], sep="  ")


def print_missing(keys, name):
    if not keys:
        return
    print(f"\nonly in {name}:")
    for problem, implementation in keys:
        print(f"  {problem}" + ("" if implementation == "qkv" else f"/{implementation}"))


def report(a, b, comparison, wary, everything):
    for letter, run in (("A", a), ("B", b)):
        print(f"{letter}: {run.name}, {run.fact('date') or 'no date'}, {run.revision or 'revision not said'}")
    for line in wary:
        print(f"beware: {line}")
    print(f"the others' rows moved by {percent(1 / (1 + comparison.drift) - 1)} of their rate: the machine's drift\n"
          if not math.isnan(comparison.drift) else "drift of the machine not known: fewer than three rows of others\n")
    print_changes(comparison.changes, everything)
    print_missing(comparison.only_a, "A")
    print_missing(comparison.only_b, "B")
    own = [c for c in comparison.changes if c.counts]
    count = {verdict: sum(c.verdict == verdict for c in own) for verdict in ("worse", "failed", "better", "same",
                                                                             "no figure")}
    print(f"\nqkv, {len(own)} rows: {count['worse']} slower, {count['failed']} failed, {count['better']} faster, "
          f"{count['same']} within the noise" + (f", {count['no figure']} without a figure in A"
                                                 if count["no figure"] else ""))


def arguments(given):
    parser = argparse.ArgumentParser(prog="./dev compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A.json", help="the result before")
    parser.add_argument("b", metavar="B.json", help="the result after")
    parser.add_argument("--floor", type=float, default=FLOOR, metavar="PERCENT",
                        help="no change below this is one; default: %(default)g")
    parser.add_argument("--all", action="store_true", help="also the rows that did not change")
    parser.add_argument("--anyway", action="store_true", help="compare what different machines measured")
    options = parser.parse_args(given)
    if not 0 <= options.floor < 100:
        parser.error(f"--floor is {options.floor:g}; from 0 to below 100")
    return options


def main(given=None):
    options = arguments(given)
    try:
        a, b = results.read(options.a), results.read(options.b)
    except results.BadInput as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    if a.name == b.name:
        a.name, b.name = options.a, options.b
    refused, wary = differences(a, b)
    if refused and not options.anyway:
        print("compare: these are not figures of one machine and build (--anyway compares them):", file=sys.stderr)
        for line in refused:
            print(f"  {line}", file=sys.stderr)
        return 2
    comparison = Comparison(a, b, options.floor)
    if not any(not (c.a.error or c.b.error) or c.bad for c in comparison.changes):
        print(f"compare: no row is in both files ({os.path.basename(a.name)}, {os.path.basename(b.name)}): other "
              "types, shapes or devices", file=sys.stderr)
        return 2
    report(a, b, comparison, refused + wary, options.all)
    return 1 if comparison.bad else 0


if __name__ == "__main__":
    sys.exit(main())
