#!/usr/bin/env python3
"""bench/page: result files as rows, the page, what compare decides. All results here are made up."""
import contextlib
import html
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "bench", "page"))

import charts
import compare
import report
import results

CONTEXT = {"date": "2001-02-03T04:05:06+00:00", "cpu": "Made-up CPU", "threads": "2", "cores": "2",
           "build_type": "Release", "git_id": "0123456789ab", "load_before": "0.10"}
FULL = "forward/cpu/f32/d128/full/b1_h8_s{}"


def benchmark(name, times, tflops=None, **more):
    """Entries of Google Benchmark for repetitions that took so many ms."""
    times = times if isinstance(times, (list, tuple)) else [times] * 5
    return [{"name": name, "run_name": name, "run_type": "iteration", "repetition_index": n, "repetitions": len(times),
             "real_time": time, "cpu_time": time, "time_unit": "ms", "iterations": 9,
             "TFLOP/s": (tflops or 0.2) * times[0] / time if time and time == time else 0.0, "GB/s": 3.0, **more}
            for n, time in enumerate(times)]


def document(*groups, **context):
    return {"context": {**CONTEXT, **context}, "benchmarks": [entry for group in groups for entry in group]}


def sweep(qkv=1.0, others=1.0, lengths=(512, 1024, 2048), jitter=(1, 1.002, 0.998, 1.001, 0.999)):
    """qkv, unfused and tile_products; times are the factor times the length."""
    out = []
    for length in lengths:
        name = FULL.format(length)
        for tail, factor, more in (("", qkv, {"x_unfused": 1.5, "%_ceiling": 80.0}),
                                   ("/unfused", others * 1.5, {"x_unfused": 1.0, "%_ceiling": 53.0}),
                                   ("/tile_products", others * 0.8, {"%_ceiling": 100.0})):
            out.append(benchmark(name + tail, [length / 100 * factor * j for j in jitter], **more))
    return document(*out)


def read_json(value, name="made_up.json"):
    return results.from_json(value if isinstance(value, str) else json.dumps(value), name)


class Reading(unittest.TestCase):
    def test_names(self):
        problem = "forward/cuda/bf16/d192_dv128/causal/b4_hq32_hkv8_sq1_skv4096/softcap=30_lse"
        self.assertEqual(results.parse_name(problem + "/unfused"), {
            "problem": problem,
            "implementation": "unfused", "operation": "forward", "options": "softcap=30_lse", "device": "cuda",
            "type": "bf16", "d_qk": 192, "d_v": 128, "mask": "causal", "b": 4, "hq": 32, "hkv": 8, "sq": 1,
            "skv": 4096})
        for option in ("bshd", "bshd_softcap=30_lse", "top-left", "index32", "mask=qk", "q=1.2.3"):
            fields = results.parse_name(f"{FULL.format(512)}/{option}")
            self.assertEqual((fields["implementation"], fields["options"]), ("qkv", option))
        for other in ("unfused", "tile_products", "sm80_forward", "torch_cudnn", "openvino"):
            fields = results.parse_name(f"{FULL.format(512)}/{other}")
            self.assertEqual((fields["implementation"], fields["problem"]), (other, FULL.format(512)))

    def test_other_operations(self):
        for problem in ("project/cpu/f32/b1_s512_h1/in768_out768_bias", "layer/cpu/f32/d64/full/b1_h8_s512/eq512_ey512",
                        "merge/cpu/f32/d128/b1_h8_s512/parts4"):
            self.assertEqual(results.parse_name(problem)["problem"], problem)
            self.assertEqual(results.parse_name(problem)["implementation"], "qkv")
            self.assertEqual(results.parse_name(problem + "/unfused")["implementation"], "unfused")

    def test_repetitions(self):
        row = read_json(document(benchmark(FULL.format(512), [4, 1, 3, 2, 10]))).rows[0]
        self.assertEqual((row.ms, row.spread.least, row.spread.lower, row.spread.upper, row.spread.most),
                         (3, 1, 2, 4, 10))
        self.assertAlmostEqual(row.middle, 2 / 3)
        self.assertTrue(row.noisy)

    def test_one_slow_repetition_is_no_noise(self):
        row = read_json(document(benchmark(FULL.format(512), [1, 1.01, 1.01, 1, 5]))).rows[0]
        self.assertFalse(row.noisy)
        self.assertEqual(row.spread.most, 5)

    def test_aggregates_alone(self):
        name = FULL.format(512)
        entries = [{"name": f"{name}_{kind}", "run_name": name, "run_type": "aggregate", "aggregate_name": kind,
                    "repetitions": 5, "real_time": value, "time_unit": unit, "TFLOP/s": 0.5}
                   for kind, value, unit in (("mean", 2.1, "ms"), ("median", 2.0, "ms"), ("cv", 0.04, "ms"))]
        row = read_json(document(entries)).rows[0]
        self.assertEqual((row.ms, row.tflops, row.spread.deviation), (2.0, 0.5, 0.04))
        self.assertAlmostEqual(row.middle, 1.349 * 0.04)
        self.assertTrue(row.noisy)

    def test_units(self):
        for unit, ms in (("ns", 5e-6), ("us", 5e-3), ("s", 5e3)):
            entries = benchmark(FULL.format(512), 5.0)
            row = read_json(document([{**e, "time_unit": unit} for e in entries])).rows[0]
            self.assertAlmostEqual(row.ms, ms)

    def test_missing_counters_are_unknown(self):
        entries = benchmark(FULL.format(512), 2.0)
        for entry in entries:
            del entry["TFLOP/s"], entry["GB/s"]
        row = read_json(document(entries)).rows[0]
        self.assertEqual(row.ms, 2.0)
        for value in (row.tflops, row.gbs, row.vs_unfused, row.ceiling_percent, row.ceiling, row.memory):
            self.assertTrue(math.isnan(value))

    def test_no_time_is_an_error(self):
        for time in (0, -1, math.nan, math.inf, None, "fast", True):
            row = read_json(document(benchmark(FULL.format(512), 1.0, real_time=time))).rows[0]
            self.assertTrue(row.error, time)
            self.assertTrue(math.isnan(row.ms) and math.isnan(row.tflops), time)

    def test_one_repetition_without_a_time_spoils_the_row(self):
        row = read_json(document(benchmark(FULL.format(512), [1, 1, 0, 1, 1]))).rows[0]
        self.assertTrue(row.error)

    def test_failed_rows_keep_the_reason(self):
        row = read_json(document(benchmark(FULL.format(512), 1.0, error_occurred=True, error_message="wrong"))).rows[0]
        self.assertEqual(row.error, "wrong")

    def test_peers(self):
        row = {"implementation": "torch_cudnn", "device": "cuda", "type": "bf16", "d_qk": 128, "d_v": 128,
               "mask": "full", "b": 2, "hq": 16, "hkv": 16, "sq": 8192, "skv": 8192, "ms": 2.0, "tflops": 600.0, "gbs": 9.0,
               "ms_of_runs": [2.0, 2.1, 1.9]}
        run = read_json({"context": {"gpu": "Made-up GPU"}, "benchmarks": [row]})
        self.assertEqual((run.source, run.machine), ("peers.py", "Made-up GPU"))
        self.assertEqual(run.rows[0].problem, "forward/cuda/bf16/d128/full/b2_h16_s8192")
        self.assertEqual((run.rows[0].spread.least, run.rows[0].spread.most), (1.9, 2.1))
        del row["skv"]
        with self.assertRaisesRegex(results.BadInput, "skv"):
            read_json({"context": {}, "benchmarks": [row]})

    def test_tsv(self):
        columns = report_columns()
        text = ("# cpu: Made-up CPU\n" + "\t".join(columns) + "\n"
                "qkv\tcpu\tf32\t128\t128\tfull\t1\t8\t8\t512\t512\t5.5\t0.19\t1.5\t1.1\t88\t-\n"
                "unfused\tcpu\tf32\t128\t128\tfull\t1\t8\t8\t512\t512\t6.5\t0.16\t1.5\t-\t-\tlse\n"
                "qkv\tcpu\tf32\t-\t768\t-\t1\t1\t-\t512\t-\t5.5\t0.19\t1.5\t1.1\t88\tin768\n")
        run = results.from_tsv(text, "made_up.tsv")
        self.assertEqual([r.problem for r in run.rows], [FULL.format(512), FULL.format(512) + "/lse"])
        self.assertEqual((run.fact("cpu"), run.rows[0].ms), ("Made-up CPU", 5.5))
        self.assertTrue(math.isnan(run.rows[1].vs_unfused) and math.isnan(run.rows[0].middle))

    def test_refusals(self):
        for text, reason in (("{", "no JSON"), ("[]", "benchmarks"), ('{"benchmarks": 3}', "benchmarks"),
                             ('{"benchmarks": [3]}', "benchmarks"), ('{"benchmarks": [{}]}', "without a name")):
            with self.assertRaisesRegex(results.BadInput, reason):
                read_json(text)
        with self.assertRaisesRegex(results.BadInput, "twice"):
            read_json(document(benchmark(FULL.format(512), 1.0), benchmark(FULL.format(512), 2.0)))


def report_columns():
    return ("implementation device type d_qk d_v mask b hq hkv sq skv ms tflops gbs x_unfused ceiling_percent "
            "options").split()


class Page(HTMLParser):
    """Checks that tags nest, and gathers attributes, ids and text."""
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.text += data + " "


def page_of(*documents):
    return report.page([read_json(document, f"made_up_{n}.json") for n, document in enumerate(documents)])


def drawings(text):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.S)]


class Pages(unittest.TestCase):
    def test_is_well_formed(self):
        text = page_of(sweep())
        page = Page(text)
        self.assertEqual(page.open, [])
        self.assertEqual(len(page.ids), len(set(page.ids)))
        for svg in drawings(text):
            self.assertEqual(svg.get("role"), "img")
            named = svg.get("aria-labelledby").split()
            self.assertEqual([svg[0].tag, svg[1].tag], ["title", "desc"])
            self.assertEqual([svg[0].get("id"), svg[1].get("id")], named)
            self.assertTrue(svg[0].text and svg[1].text)

    def test_stands_alone(self):
        text = page_of(sweep(), sweep())
        page = Page(text)
        self.assertNotRegex(text, r"https?:|//[a-z]|@import|url\(")
        self.assertFalse({"script", "link", "img", "iframe", "object"} & set(page.tags))
        self.assertEqual([v for k, v in page.attributes if k in ("src", "href") and not v.startswith("#")], [])

    def test_nothing_of_a_file_is_markup(self):
        evil = "<script>alert('x')</script>\"&<b>"
        name = FULL.format(512)
        bad = document(benchmark(name, 2.0, label=evil), benchmark(f"{name}/{evil.replace('/', '')}", 2.0),
                       benchmark(f"{name}/sm80_x", 1.0, error_occurred=True, error_message=evil), cpu=evil, git_id=evil,
                       date=evil, system=evil, **{f"gemm_{evil}": evil})
        text = report.page([read_json(bad, evil)])
        page = Page(text)
        self.assertFalse({"script", "b"} & set(page.tags))
        self.assertIn("alert('x')", page.text)
        drawings(text)

    def test_options_with_the_same_shape_are_plots_of_their_own(self):
        text = page_of(document(*(benchmark(FULL.format(s) + tail, 1.0) for s in (512, 1024) for tail in ("", "/lse"))))
        self.assertEqual(sum(svg[0].text == "f32, full, d 128" for svg in drawings(text)), 2)

    def test_every_contender_is_told_without_colour(self):
        names = ["", "/unfused", "/sm80_forward", "/torch_cudnn", "/openvino"]
        text = page_of(document(*(benchmark(FULL.format(s) + n, 1.0 + k) for s in (512, 1024)
                                  for k, n in enumerate(names))))
        svg = drawings(text)[0]
        dashes = [p.get("stroke-dasharray") for p in svg.iter("path") if p.get("class", "").startswith("line")]
        self.assertEqual(len(dashes), len(names))
        self.assertEqual(len(set(dashes)), len(names))
        labels = {t.text for t in svg.iter("text") if t.get("class", "").startswith("name")}
        self.assertEqual(labels, {"qkv", "unfused", "sm80_forward", "torch_cudnn", "openvino"})

    def test_the_ceiling_is_a_line_and_no_contender(self):
        svg = drawings(page_of(sweep()))[0]
        self.assertEqual(len([p for p in svg.iter("path") if p.get("class") == "line ceiling"]), 1)
        self.assertFalse([p for p in svg.iter("path") if p.get("class") == "mark ceiling"])

    def test_one_length_is_bars(self):
        svg = drawings(page_of(sweep(lengths=(512,))))[0]
        self.assertEqual(len(list(svg.iter("rect"))), 3)

    def test_points_lie_inside_their_plot(self):
        for svg in drawings(page_of(sweep())):
            for path in svg.iter("path"):
                if path.get("class", "").startswith(("line", "mark")):
                    x, y = map(float, re.match(r"M([-\d.]+) ([-\d.]+)", path.get("d")).groups())
                    self.assertTrue(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT, path.get("d"))

    def test_noise_is_said(self):
        self.assertNotIn("rows are noisy", page_of(sweep()))
        self.assertIn("9 of 9 rows are noisy", page_of(sweep(jitter=(1, 1.2, 0.8, 1.1, 0.9))))

    def test_memory_is_called_computed(self):
        text = Page(page_of(sweep())).text
        self.assertIn("Computed from the shapes, not measured", text)
        row = read_json(sweep()).rows[0]
        self.assertEqual(report.tensor_bytes(row), 4 * 8 * 512 * 128 * 4)
        self.assertEqual(report.unfused_bytes(row), report.tensor_bytes(row) + 8 * 512 * 512 * 4)

    def test_memory_of_a_counter_is_drawn_as_measured(self):
        measured = document(*(benchmark(FULL.format(s), 1.0, memory_bytes=s * 1e5) for s in (512, 1024)))
        text = Page(page_of(measured)).text
        self.assertIn("qkv, measured", text)
        self.assertNotIn("memory in use (counter", text)
        one = Page(page_of(document(benchmark(FULL.format(512), 1.0, memory_bytes=3 << 20),
                                    benchmark(FULL.format(512) + "/unfused", 1.0)))).text
        self.assertIn("3 MiB", one)

    def test_a_run_is_named_after_its_packages(self):
        run = read_json(sweep())
        self.assertEqual(report.run_title(run), "Made-up CPU: f32")
        run.rows += [results.Row("p", name, type="f32") for name in ("openvino", "torch_flash")]
        self.assertEqual(report.run_title(run), "Made-up CPU: f32, beside PyTorch, OpenVINO")

    def test_what_was_not_measured_is_said(self):
        text = Page(page_of(sweep())).text
        for line in ("PyTorch: no row", "OpenVINO: no row", "type f16, bf16", "mask causal", "decoding", "a GPU",
                     "the ceiling of memory", "memory in use"):
            self.assertIn(line, text)
        self.assertNotIn("the ceiling of products", text)
        self.assertIn("the ceiling of products", Page(page_of(document(benchmark(FULL.format(512), 1.0)))).text)

    def test_a_length_that_one_contender_lacks_is_said(self):
        data = sweep()
        data["benchmarks"] = [e for e in data["benchmarks"] if e["run_name"] != FULL.format(1024) + "/unfused"]
        self.assertIn("unfused, f32, full, d 128: length 1024", Page(page_of(data)).text)

    def test_the_roofline_says_which_ceilings_were_measured(self):
        self.assertIn("the memory's ceiling was not measured in this run", Page(page_of(sweep())).text)
        data = sweep()
        data["context"]["memory_rate_cpu"] = "20 GB/s"
        self.assertIn("memory 20 GB/s", page_of(data))
        self.assertNotIn("memory's ceiling was not measured", Page(page_of(data)).text)
        roof = next(svg for svg in drawings(page_of(data)) if svg[0].text.startswith("Roofline"))
        names = [t.text for t in roof.iter("text") if t.get("class", "").startswith("name")]
        self.assertEqual(sorted(names), ["memory", "qkv", "tile_products", "unfused"])

    def test_rows_without_counters_or_time_stand_in_the_table(self):
        entries = benchmark(FULL.format(512), 2.0)
        for entry in entries:
            del entry["TFLOP/s"], entry["GB/s"]
        text = Page(page_of(document(entries, benchmark(FULL.format(1024), 0)))).text
        self.assertIn("a time of 0 ms", text)
        self.assertNotIn("nan", text.lower().split())

    def test_committed_results_are_drawn(self):
        folder = os.path.join(ROOT, "bench", "results")
        drawn = 0
        for name in sorted(os.listdir(folder)):
            if name.endswith((".json", ".tsv")) and not name.endswith("-variants.json"):
                text = report.page([results.read(os.path.join(folder, name))])
                self.assertEqual(Page(text).open, [], name)
                self.assertTrue(drawings(text), name)
                self.assertNotIn(">nan<", text, name)
                drawn += 1
        self.assertGreater(drawn, 3)


class Axes(unittest.TestCase):
    def test_ticks(self):
        self.assertEqual(charts.nice_ticks(703), [0, 200, 400, 600, 800])
        self.assertEqual(charts.nice_ticks(0), [0, 1])
        self.assertEqual(charts.log_ticks(3, 200), [1, 10, 100, 1000])
        self.assertEqual(charts.fine_log_ticks(30, 150), [20, 50, 100, 200])

    def test_labels_keep_apart(self):
        places = charts.spread_out([100, 101, 99, 250, 251], 13, 20, 255)
        ordered = sorted(places)
        self.assertTrue(all(b - a >= 12.99 for a, b in zip(ordered, ordered[1:])))
        self.assertTrue(20 <= ordered[0] and ordered[-1] <= 255)
        self.assertLess(places[2], places[0])


class Command(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, value):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(value if isinstance(value, str) else json.dumps(value))
        return self.path(name)

    def call(self, main, *given):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main(list(given))
            except SystemExit as error:
                status = error.code
        return status, out.getvalue() + err.getvalue()


class ReportCommand(Command):
    def test_writes_the_page(self):
        status, said = self.call(report.main, self.write("a.json", sweep()), self.path("new/folder"))
        self.assertEqual((status, said.strip()), (0, self.path("new/folder/index.html")))
        with open(self.path("new/folder/index.html"), encoding="utf-8") as file:
            self.assertIn("Made-up CPU", file.read())

    def test_refuses(self):
        good = self.write("a.json", sweep())
        for given, reason in (([good, good], "is a file"),
                              ([self.path("none.json"), self.path("out")], "cannot be read"),
                              ([self.write("b.json", "{"), self.path("out")], "no JSON"),
                              ([self.write("c.json", {"benchmarks": []}), self.path("out")], "no results")):
            status, said = self.call(report.main, *given)
            self.assertEqual(status, 2)
            self.assertIn(reason, said)
        self.assertFalse(os.path.exists(self.path("out")))


class Browser(Command):
    """Needs Chromium; a test of its own (--browser), so that ctest says where it is skipped."""

    PROBE = """<script>onload = () => {
      const page = document.getElementById("page").contentDocument, width = page.documentElement.clientWidth;
      const out = [...page.querySelectorAll("body *")].filter(e =>
        (e.matches(".scroll") || !e.closest(".scroll")) && e.getBoundingClientRect().right > width + 1);
      const letters = [...page.querySelectorAll("svg text")].map(e => e.getBoundingClientRect().height);
      document.body.dataset.width = width;
      document.body.dataset.out = out.map(e => e.tagName + "." + (e.getAttribute("class") || "")).join(" ") || "none";
      document.body.dataset.plots = [...page.querySelectorAll("svg")].filter(
        e => e.getBoundingClientRect().height > 100).length;
      document.body.dataset.letters = Math.min(...letters) >= 10 ? "readable" : "small";
    }</script>"""

    def dumped(self, width):
        """The attributes that the probe leaves, with the page in a window of so many pixels."""
        self.call(report.main, self.write("a.json", sweep()), self.folder)
        with open(self.path("index.html"), encoding="utf-8") as file:
            text = html.escape(file.read())
        frame = self.write("frame.html", f"<!DOCTYPE html><body>{self.PROBE}<iframe id='page' style='width:{width}px;"
                           f"height:800px;border:0' srcdoc=\"{text}\"></iframe></body>")
        done = subprocess.run([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                               f"--user-data-dir={self.path('profile')}", "--dump-dom", f"file://{frame}"],
                              capture_output=True, text=True, timeout=240)
        found = dict(re.findall(r'data-(width|out|plots|letters)="([^"]*)"', done.stdout[:done.stdout.find("<script")]))
        self.assertTrue(found, done.stderr[-500:])
        return found

    def test_nothing_sticks_out(self):
        for width in (360, 1200):
            self.assertEqual(self.dumped(width), {"width": str(width), "out": "none", "plots": "3",
                                                  "letters": "readable"})


class Compare(Command):
    def compared(self, a, b, *options):
        return self.call(compare.main, self.write("a.json", a), self.write("b.json", b), *options)

    def test_the_same_file_is_the_same(self):
        status, said = self.compared(sweep(), sweep())
        self.assertEqual(status, 0)
        self.assertIn("3 rows: 0 slower, 0 failed, 0 faster, 3 within the noise", said)

    def test_slower_and_faster(self):
        status, said = self.compared(sweep(), sweep(qkv=1.1))
        self.assertEqual(status, 1)
        self.assertIn("3 slower", said)
        self.assertIn("-9.1 %", said)
        status, said = self.compared(sweep(), sweep(qkv=0.9))
        self.assertEqual(status, 0)
        self.assertIn("3 faster", said)

    def test_the_floor(self):
        self.assertEqual(self.compared(sweep(), sweep(qkv=1.018))[0], 0)
        self.assertEqual(self.compared(sweep(), sweep(qkv=1.022))[0], 1)
        self.assertEqual(self.compared(sweep(), sweep(qkv=1.022), "--floor", "3")[0], 0)
        self.assertEqual(self.compared(sweep(), sweep(), "--floor", "-1")[0], 2)

    def test_a_wide_spread_is_noise_in_either_file(self):
        wide = (1, 1.06, 0.94, 1.03, 0.97)
        self.assertEqual(self.compared(sweep(jitter=wide), sweep(qkv=1.05))[0], 0)
        self.assertEqual(self.compared(sweep(), sweep(qkv=1.05, jitter=wide))[0], 0)
        self.assertEqual(self.compared(sweep(jitter=wide), sweep(qkv=1.5, jitter=wide))[0], 1)

    def test_more_repetitions_see_more(self):
        wide = (1, 1.03, 0.97, 1.015, 0.985)
        self.assertEqual(self.compared(sweep(jitter=wide), sweep(qkv=1.07, jitter=wide))[0], 0)
        self.assertEqual(self.compared(sweep(jitter=wide * 4), sweep(qkv=1.07, jitter=wide * 4))[0], 1)

    def test_one_slow_repetition_hides_nothing(self):
        once = (1, 1.001, 0.999, 1.002, 3)
        self.assertEqual(self.compared(sweep(jitter=once), sweep(qkv=1.03, jitter=once))[0], 1)

    def test_a_slower_machine_is_no_slower_qkv(self):
        status, said = self.compared(sweep(), sweep(qkv=1.1, others=1.1))
        self.assertEqual(status, 0)
        self.assertIn("moved by -9.1 %", said)
        self.assertEqual(self.compared(sweep(), sweep(qkv=1.3, others=1.1))[0], 1)

    def test_the_drift_counts_for_rows_without_rivals(self):
        def alone(time, others):
            data = sweep(others=others)
            data["benchmarks"] += benchmark(FULL.format(4096), time)
            return data
        self.assertEqual(self.compared(alone(2.0, 1.0), alone(2.2, 1.1))[0], 0)
        self.assertEqual(self.compared(alone(2.0, 1.0), alone(2.2, 1.0))[0], 1)

    def test_what_slowed_a_rival_of_the_problem_slowed_qkv_too(self):
        slower = sweep()
        for entry in slower["benchmarks"]:
            if entry["run_name"] in (FULL.format(512), FULL.format(512) + "/unfused"):
                entry["real_time"] *= 1.2
        status, said = self.compared(sweep(), slower)
        self.assertEqual(status, 0)
        self.assertIn("moved by +0.0 %", said)

    def test_a_slower_rival_is_listed_and_does_not_count(self):
        slower = sweep()
        for entry in slower["benchmarks"]:
            if entry["run_name"] == FULL.format(512) + "/unfused":
                entry["real_time"] *= 1.2
        status, said = self.compared(sweep(), slower)
        self.assertEqual(status, 0)
        self.assertIn("worse (not qkv's)", said)

    def test_an_error_or_no_time_where_there_was_a_figure_is_worse(self):
        for change in ({"error_occurred": True, "error_message": "wrong result"}, {"real_time": 0},
                       {"real_time": math.nan}):
            broken = sweep()
            for entry in broken["benchmarks"]:
                if entry["run_name"] == FULL.format(512):
                    entry.update(change)
            status, said = self.compared(sweep(), broken)
            self.assertEqual(status, 1, change)
            self.assertIn("1 failed", said)
            status, said = self.compared(broken, sweep())
            self.assertEqual(status, 0, change)
            self.assertIn("1 without a figure in A", said)

    def test_rows_of_one_file_are_listed(self):
        status, said = self.compared(sweep(lengths=(512, 1024)), sweep(lengths=(1024, 2048)))
        self.assertEqual(status, 0)
        self.assertRegex(said, r"only in A:\n  " + FULL.format(512))
        self.assertRegex(said, r"only in B:\n  " + FULL.format(2048))

    def test_aggregates_compare_by_their_deviation(self):
        def aggregates(time, cv):
            name = FULL.format(512)
            return document([{"name": f"{name}_{kind}", "run_name": name, "run_type": "aggregate",
                              "aggregate_name": kind, "repetitions": 5, "real_time": value, "time_unit": "ms"}
                             for kind, value in (("median", time), ("cv", cv))])
        self.assertEqual(self.compared(aggregates(2, 0.01), aggregates(2.1, 0.01))[0], 1)
        self.assertEqual(self.compared(aggregates(2, 0.01), aggregates(2.1, 0.05))[0], 0)

    def test_an_unknown_spread_is_said(self):
        status, said = self.compared(document(benchmark(FULL.format(512), [1.0])),
                                     document(benchmark(FULL.format(512), [1.5])))
        self.assertEqual(status, 1)
        self.assertIn("spread not known", said)

    def test_other_machines_are_refused(self):
        for fact, value in (("cpu", "Another CPU"), ("threads", "4"), ("gpu", "Some GPU"), ("build_type", "Debug")):
            other = sweep()
            other["context"][fact] = value
            status, said = self.compared(sweep(), other)
            self.assertEqual(status, 2, fact)
            self.assertIn(fact, said)
            self.assertEqual(self.compared(sweep(), other, "--anyway")[0], 0, fact)

    def test_lesser_differences_are_named(self):
        other = sweep()
        other["context"].update(compiler="Another", load_before="3.5", git_id="fedcba-modified")
        status, said = self.compared(sweep(), other)
        self.assertEqual(status, 0)
        for words in ("compiler: not said and Another", "a load of 3.5", "uncommitted changes"):
            self.assertIn(words, said)

    def test_nothing_in_common_is_refused(self):
        other = document(benchmark(FULL.format(512).replace("f32", "bf16"), 1.0))
        status, said = self.compared(sweep(), other)
        self.assertEqual(status, 2)
        self.assertIn("no row is in both files", said)

    def test_bad_files_are_refused(self):
        good = self.write("a.json", sweep())
        for bad in (self.path("none.json"), self.write("b.json", "[]"), self.write("c.json", "")):
            for given in ((good, bad), (bad, good)):
                self.assertEqual(self.call(compare.main, *given)[0], 2)
        self.assertEqual(self.call(compare.main, good)[0], 2)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

if __name__ == "__main__":
    if "--browser" not in sys.argv:
        del Browser
    elif not CHROMIUM:
        print("skipped: Chromium is not here (Debian package chromium), so the page's layout is not tested")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *(["Browser"] if "--browser" in sys.argv else sys.argv[1:])])
