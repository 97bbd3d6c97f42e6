#!/usr/bin/env python3
"""bench/peers.py without the packages it compares with: stand-ins record what they are told. The unfused baseline is
real. And the README's performance section.

    peers_test.py LIBQKV_UNFUSED
"""
import contextlib
import ctypes
import io
import math
import os
import random
import sys
import types
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[:0] = [os.path.join(ROOT, "bench"), os.path.join(ROOT, "bench", "page")]

import peers
import peers_cpu
import readme
import results

UNFUSED = ""


class Tensor:
    """As much of PyTorch's as runners ask for: fp32 in memory."""

    def __init__(self, shape, values=None):
        self.shape, self.count = tuple(shape), math.prod(shape)
        self.values = (ctypes.c_float * self.count)(*(values or [0.0] * self.count))

    def data_ptr(self):
        return ctypes.addressof(self.values)

    def numpy(self):
        return self

    def view(self, _):
        return self


class Bytes:
    def __init__(self, count, dtype):
        assert dtype == "uint8"
        self.memory = (ctypes.c_uint8 * count)()

    def data_ptr(self):
        return ctypes.addressof(self.memory)


TORCH = types.SimpleNamespace(
    get_num_threads=lambda: 2, uint8="uint8", int16="int16", empty=Bytes,
    full_like=lambda t, value: Tensor(t.shape, [value] * t.count))


def problem(type_name="f32", causal=False, batch=1, heads=2, heads_kv=2, queries=3, size=5, dim=4):
    draw = random.Random(1)
    make = lambda h, s: Tensor((batch, h, s, dim), [draw.gauss(0, 1) for _ in range(batch * h * s * dim)])
    return types.SimpleNamespace(
        torch=TORCH, device="cpu", type_name=type_name, causal=causal, batch=batch, heads=heads, heads_kv=heads_kv,
        queries=queries, size=size, dim=dim, q=make(heads, queries), k=make(heads_kv, size), v=make(heads_kv, size),
        flops=lambda: 1e9, bytes=lambda: 1e6, name=lambda: "a problem")


def attention(p):
    """O by the definition; causal is bottom-right."""
    out = []
    for b in range(p.batch):
        for h in range(p.heads):
            at = (b * p.heads_kv + h * p.heads_kv // p.heads) * p.size * p.dim
            for i in range(p.queries):
                row = ((b * p.heads + h) * p.queries + i) * p.dim
                end = i + p.size - p.queries + 1 if p.causal else p.size
                scores = [sum(p.q.values[row + d] * p.k.values[at + j * p.dim + d] for d in range(p.dim)) /
                          math.sqrt(p.dim) for j in range(end)]
                weights = [math.exp(s - max(scores)) for s in scores]
                out += [sum(w * p.v.values[at + j * p.dim + d] for j, w in enumerate(weights)) / sum(weights)
                        for d in range(p.dim)]
    return out


class Unfused(unittest.TestCase):
    def test_computes_attention(self):
        for shape in ({}, {"causal": True}, {"batch": 2, "heads": 6, "heads_kv": 2}, {"queries": 1, "size": 70},
                      {"queries": 5, "causal": True, "dim": 16}):
            p = problem(**shape)
            o = peers_cpu.unfused_runner(UNFUSED, p)()
            for got, want in zip(o.values, attention(p), strict=True):
                self.assertAlmostEqual(got, want, places=5, msg=str(shape))


class Recorder:
    """A module of which every function returns a call with its arguments."""

    def __init__(self, **known):
        self.calls = []
        self.__dict__.update(known)

    def __getattr__(self, name):
        def call(*positional, **named):
            made = types.SimpleNamespace(name=name, args=positional, **{"of": named})
            self.calls.append(made)
            return made
        return call

    def one(self, name):
        found = [c for c in self.calls if c.name == name]
        assert len(found) == 1, f"{len(found)} calls of {name}"
        return found[0]


@contextlib.contextmanager
def modules(**stand_ins):
    saved = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in saved.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module


class OnnxRuntime(unittest.TestCase):
    def runner(self, p):
        self.helper = Recorder()
        onnx = types.SimpleNamespace(helper=self.helper, TensorProto=types.SimpleNamespace(FLOAT=1, FLOAT16=10))
        self.binding = Recorder()
        self.ran = []
        session = types.SimpleNamespace(io_binding=lambda: self.binding, run_with_iobinding=self.ran.append)
        self.options = Recorder()
        self.helper.make_model = lambda graph, **named: types.SimpleNamespace(
            SerializeToString=lambda: (graph, named))
        self.sessions = []

        def make_session(model, options, providers):
            self.sessions.append((model, options, providers))
            return session

        ort = types.SimpleNamespace(SessionOptions=lambda: self.options, InferenceSession=make_session,
                                    __version__="1.2.3")
        with modules(onnx=onnx, onnxruntime=ort, numpy=types.SimpleNamespace(float32="f4", float16="f2")):
            return peers_cpu.onnxruntime_runner(p)

    def test_says_the_problem(self):
        p = problem(causal=True, heads=6, heads_kv=2, queries=5)
        run = self.runner(p)
        node = self.helper.one("make_node")
        self.assertEqual(node.args, ("Attention", ["q", "k", "v"], ["o"]))
        self.assertEqual(node.of, {"is_causal": 1})
        values = {c.args[0]: c.args[1:] for c in self.helper.calls if c.name == "make_tensor_value_info"}
        self.assertEqual(values["q"], (1, [1, 6, 5, 4]))
        self.assertEqual(values["k"], values["v"])
        self.assertEqual(values["k"], (1, [1, 2, 5, 4]))
        self.assertEqual(values["o"], values["q"])
        self.assertEqual(self.helper.one("make_opsetid").args, ("", 23))
        self.assertEqual((self.options.intra_op_num_threads, self.sessions[0][2]), (2, ["CPUExecutionProvider"]))
        self.assertEqual(self.options.one("add_session_config_entry").args, ("session.force_spinning_stop", "1"))
        bound = {c.args[0]: c.args for c in self.binding.calls}
        self.assertEqual(bound["k"], ("k", "cpu", 0, "f4", [1, 2, 5, 4], p.k.data_ptr()))
        o = run()
        self.assertEqual(bound["o"], ("o", "cpu", 0, "f4", [1, 6, 5, 4], o.data_ptr()))
        self.assertEqual(self.ran, [self.binding])
        self.assertTrue(all(math.isnan(value) for value in o.values))  # what is not written shows

    def test_says_what_it_has_not(self):
        with self.assertRaisesRegex(ValueError, "no attention in bf16"):
            self.runner(problem("bf16"))


class OpenVino(unittest.TestCase):
    def runner(self, p, computes="f32"):
        self.ops, self.compiled, self.request = Recorder(), [], Recorder()

        def compile_model(model, device, config):
            self.compiled.append((model, device, config))
            return types.SimpleNamespace(
                create_infer_request=lambda: self.request,
                get_property=lambda _: types.SimpleNamespace(get_type_name=lambda: computes))

        package = types.ModuleType("openvino")
        package.opset13 = self.ops
        package.Type = types.SimpleNamespace(f32="F32", f16="F16", bf16="BF16")
        package.PartialShape = list
        package.Model = lambda results_, inputs: (results_, inputs)
        package.Core = lambda: types.SimpleNamespace(compile_model=compile_model)
        package.Tensor = lambda memory, shape, element: (memory, shape, element)
        package.__version__ = "2026.4.1-22982"
        numpy = types.SimpleNamespace(array=lambda values, dtype: values, int64="i8")
        with modules(openvino=package, numpy=numpy, **{"openvino.opset13": self.ops}):
            return peers_cpu.openvino_runner(p)

    def test_says_the_problem(self):
        for type_name, element in (("f32", "F32"), ("f16", "F16"), ("bf16", "BF16")):
            p = problem(type_name, causal=True, queries=5)
            run = self.runner(p)
            q, k, v = (c for c in self.ops.calls if c.name == "parameter")
            self.assertEqual([q.args, k.args, v.args], [([1, 2, 5, 4], element)] * 3)
            node = self.ops.one("scaled_dot_product_attention")
            self.assertEqual((node.args, node.of), ((q, k, v), {"causal": True}))
            (model, device, config), = self.compiled
            self.assertEqual((model, device), (([node], [q, k, v]), "CPU"))
            self.assertEqual((config["INFERENCE_PRECISION_HINT"], config["INFERENCE_NUM_THREADS"]), (type_name, 2))
            placed = {c.args[0]: c.args[1] for c in self.request.calls if c.name == "set_input_tensor"}
            self.assertEqual(placed[1], (p.k, [1, 2, 5, 4], element))
            o = run()
            self.assertIs(self.request.one("set_output_tensor").args[1][0], o)
            self.request.one("infer")
            self.assertEqual(run.label, "OpenVINO 2026.4.1, computes in f32")

    def test_repeats_grouped_heads(self):
        self.runner(problem(heads=6, heads_kv=2, queries=1))
        self.assertEqual([c.args[0] for c in self.ops.calls if c.name == "constant"],
                         [[1, 2, 3, 5, 4], [1, 6, 5, 4]] * 2)
        self.assertEqual(self.ops.one("scaled_dot_product_attention").args[1].name, "reshape")


class Rounds(unittest.TestCase):
    def test_all_take_turns_in_random_order(self):
        order = []
        runners = {name: name for name in "abcd"}
        watch = types.SimpleNamespace(seconds=lambda run: order.append(run) or 1.0)
        seconds = peers.timed(runners, watch, 20)
        rounds = ["".join(order[n:n + 4]) for n in range(0, 80, 4)]
        self.assertTrue(all(sorted(r) == list("abcd") for r in rounds))
        self.assertGreater(len(set(rounds)), 8)
        self.assertEqual({name: len(values) for name, values in seconds.items()}, dict.fromkeys("abcd", 20))

    def seconds(self, durations, min_time):
        """What the stopwatch says of runs that take so long, by a clock of their own; and how many ran."""
        now, left = [0.0], list(durations)

        def run():
            now[0] += left.pop(0)

        saved, peers.time = peers.time, types.SimpleNamespace(perf_counter=lambda: now[0])
        try:
            return peers.Stopwatch(TORCH, "cpu", min_time).seconds(run), len(durations) - len(left)
        finally:
            peers.time = saved

    def test_a_repetition_fills_its_time_behind_a_run_that_does_not_count(self):
        took, runs = self.seconds([0.5] + [0.25] * 9, 1.0)
        self.assertEqual((took, runs), (0.25, 5))

    def test_a_run_that_fills_the_time_is_a_repetition(self):
        self.assertEqual(self.seconds([1.5, 1.5], 1.0), (1.5, 1))

    def test_noise_is_that_of_the_page(self):
        draw = random.Random(3)
        for count in (2, 5, 15):
            times = [draw.uniform(1, 1.2) for _ in range(count)]
            median = results.median(times)
            self.assertAlmostEqual(peers.middle_half(times), results.spread_of(times).middle(median))
        self.assertEqual(peers.NOISY, results.NOISY)

    def test_what_is_wrong_is_not_timed(self):
        p = problem()
        p.check = lambda o, rounds_scores: "off" if o == "wrong" else ""
        makers = {"good": lambda: lambda: "right", "bad": lambda: lambda: "wrong"}
        saved, peers.makers_of = peers.makers_of, lambda *_: {**makers, "gone": lambda: self.no_such_package()}
        said, failures = io.StringIO(), []
        try:
            options = types.SimpleNamespace(repetitions=3, realtime=0)
            with contextlib.redirect_stdout(said):
                rows = peers.measure(p, None, peers.Stopwatch(TORCH, "cpu", 0), options, failures)
        finally:
            peers.makers_of = saved
        self.assertEqual([row["implementation"] for row in rows], ["good"])
        self.assertEqual((len(rows[0]["ms_of_runs"]), failures), (3, ["bad"]))
        self.assertIn("bad              wrong result, not timed: off", said.getvalue())
        self.assertIn("gone             not available: No module named 'no_such_package'", said.getvalue())

    @staticmethod
    def no_such_package():
        raise ModuleNotFoundError("No module named 'no_such_package'")

    def test_shapes(self):
        options = types.SimpleNamespace(device="cpu", type="f32,bf16", masks=["full", "causal"], size="64,128", batch=0,
                                        heads=8, heads_kv=8, queries=0, decode="256")
        self.assertEqual(list(peers.shapes(options))[:5], [
            ("f32", False, 1, 8, 8, 64, 64), ("f32", False, 1, 8, 8, 128, 128), ("f32", True, 1, 8, 8, 64, 64),
            ("f32", True, 1, 8, 8, 128, 128), ("f32", False, 1, 32, 8, 1, 256)])
        options.device, options.decode = "cuda", ""
        self.assertEqual(next(peers.shapes(options))[2], peers.GPU_TOKENS // 64)


class Readme(unittest.TestCase):
    def test_a_file_without_marks_is_refused(self):
        with self.assertRaises(results.BadInput):
            readme.replaced("no marks", "text")
        whole = f"before\n{readme.BEGIN}\nold\n{readme.END}\nbehind"
        self.assertEqual(readme.replaced(whole, "new"), "before\nnew\nbehind")

    def test_without_a_gpu_result_it_says_so(self):
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            text, _ = readme.section(folder)
        self.assertIn("Not yet measured on a GPU.", text)
        self.assertNotIn("TFLOP/s", text)

    def test_old_kernels_are_called_old(self):
        run = results.Run("made_up.json", "peers.py", {"gpu": "A GPU", "date": "2001-02-03T04:05", "kernels": "abc"})
        run.rows = [results.Row("forward/cuda/bf16/d128/full/b1_h16_s512", "qkv_ctypes", device="cuda", type="bf16",
                                d_qk=128, d_v=128, mask="full", sq=512, skv=512, ms=1.0, tflops=400.0)]
        self.assertIn("Measured on today's kernels.", readme.gpu_part(run, "abc"))
        for now in ("other", ""):
            self.assertIn("Measured on the kernels of 2001-02-03; today's are not yet measured on a GPU.",
                          readme.gpu_part(run, now))
        text = readme.gpu_part(run, "")
        # The estimate has a sentence of its own, under its own name.
        self.assertIn("Not measured: by [the clock]", text)
        self.assertNotIn("clock", text[:text.index("Not measured")])

    def test_noise_is_marked(self):
        noisy = results.Spread(1, 1, 2, 2, count=5)
        row = results.Row("p", "qkv", ms=1.0, tflops=0.2, spread=noisy)
        self.assertEqual(readme.shown(row, 1e3), "200 ~")
        self.assertEqual(readme.shown(None, 1e3), "-")


if __name__ == "__main__":
    UNFUSED = sys.argv.pop(1)
    unittest.main()
