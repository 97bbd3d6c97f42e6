#!/usr/bin/env python3
"""Times qkv beside PyTorch's attention backends and others on the same tensors, in one run.

Each backend of scaled_dot_product_attention is pinned in turn, so that a row says what computed it.
On a GPU FlashAttention 2, 3, 4 and FlashInfer take part where they can be imported, on the CPU ONNX
Runtime, OpenVINO and the unfused baseline. Every output is checked against the same fp64 reference
on sampled rows before it is timed; repetitions of all implementations take turns, in random order;
on a GPU the L2 cache is flushed before each run, and a run is the replay of a CUDA graph where it
can be captured, so that short ones are not the host's time; on the CPU a repetition is a run, or,
where that is shorter than --min-time, as many as fill it behind one that does not count.

Columns of --tsv are those of `attention_bench --tsv`. Exits with 0 where PyTorch is missing (there
is nothing to compare with, and it says so), 1 if an output was wrong, 2 for a wrong command line.
"""
import argparse
import datetime
import glob
import importlib
import json
import math
import os
import platform
import random
import subprocess
import sys
import time
import warnings

import peers_cpu
import qkv_ctypes

REPETITIONS = {"cuda": 15, "cpu": 5}
MIN_TIME = 0.1  # seconds of a repetition on the CPU
NOISY = 0.05  # as bench/page/results.py has it
DECODE_HEADS = (32, 8)  # of queries and keys, as --decode has them
WARM_RUNS = 3
GPU_TOKENS = 16384
SAID = set()  # reasons, each given once
BACKENDS = {
    "cuda": {"torch_fa2": "FLASH_ATTENTION",  # FlashAttention-2, on Hopper too
             "torch_cudnn": "CUDNN_ATTENTION", "torch_efficient": "EFFICIENT_ATTENTION",
             "torch_math": "MATH"},
    "cpu": {"torch_flash": "FLASH_ATTENTION", "torch_math": "MATH"},
}


def arguments():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kit = sorted(glob.glob(os.path.join(here, "lib", "libqkv.so*"))) or ["libqkv.so"]
    parser.add_argument("--lib", default=kit[0], help="libqkv.so; default: beside this script")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--type", help="of f32, f16, bf16; default: bf16,f16, on the CPU all")
    parser.add_argument("--size", help="default: 512,1024,2048,4096, on a GPU 8192,16384 too")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--heads", type=int, help="default: 16, on the CPU 8")
    parser.add_argument("--heads-kv", type=int, default=0, help="default: as many")
    parser.add_argument("--mask", default="full,causal", help="of full, causal")
    parser.add_argument("--queries", type=int, default=0,
                        help="default: as many as keys; fewer need --mask full")
    parser.add_argument("--batch", type=int, default=0,
                        help="default: 16384 / size, on the CPU 1")
    parser.add_argument("--decode", default="", metavar="KEYS",
                        help="then one query over so many keys each, 32 query and 8 key heads")
    parser.add_argument("--only", default="", help="of the implementations' names; default: all")
    parser.add_argument("--repetitions", type=int, help="default: 15, on the CPU 5")
    parser.add_argument("--min-time", type=float, default=MIN_TIME,
                        help="seconds of a repetition on the CPU")
    parser.add_argument("--unfused", help="libqkv_unfused.so; default: beside --lib")
    parser.add_argument("--realtime", type=int, default=0, metavar="PRIORITY",
                        help="on a shared CPU: timed rounds alone, at this real-time priority")
    parser.add_argument("--note", default="", help="of the machine, kept with the results")
    parser.add_argument("--json", help="write the results as JSON")
    parser.add_argument("--tsv", help="write the results as tab-separated values, row by row")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    options.type = options.type or ("bf16,f16" if on_gpu else "f32,f16,bf16")
    options.size = options.size or "512,1024,2048,4096" + (",8192,16384" if on_gpu else "")
    options.heads = options.heads or (16 if on_gpu else 8)
    options.repetitions = options.repetitions or REPETITIONS[options.device]
    options.only = set(filter(None, options.only.split(",")))
    options.unfused = options.unfused or os.path.join(os.path.dirname(options.lib) or ".",
                                                      "libqkv_unfused.so")
    options.heads_kv = options.heads_kv or options.heads
    options.masks = options.mask.split(",")
    if not set(options.masks) <= {"full", "causal"}:
        parser.error(f"--mask is {options.mask}; allowed: full, causal")
    if options.heads % options.heads_kv:
        parser.error("--heads-kv must divide --heads")
    if options.queries and "causal" in options.masks:
        parser.error("--queries needs --mask full")
    return options


def shapes(options):
    """What is measured: type, whether causal, batch, query heads, key heads, queries, keys."""
    tokens = GPU_TOKENS if options.device == "cuda" else 1
    for type_name in options.type.split(","):
        for mask in options.masks:
            for size in map(int, options.size.split(",")):
                yield (type_name, mask == "causal", options.batch or max(1, tokens // size),
                       options.heads, options.heads_kv, options.queries or size, size)
        for size in map(int, filter(None, options.decode.split(","))):
            yield (type_name, False, options.batch or 1, *DECODE_HEADS, 1, size)


def seq_major(tensors):
    """[batch, heads, seq, dim] as the FlashAttention packages have it: [batch, seq, heads, dim]."""
    return [t.transpose(1, 2).contiguous() for t in tensors]


def first_of(result):
    """O of what returns O, or O and LSE."""
    return result[0] if isinstance(result, tuple) else result


def flash_runner(function, problem):
    q, k, v = seq_major((problem.q, problem.k, problem.v))
    return lambda: first_of(function(q, k, v, causal=problem.causal)).transpose(1, 2)


def flashinfer_runner(flashinfer, problem):
    if problem.batch != 1:
        raise ValueError("takes one sequence a call")
    q, k, v = (t[0] for t in seq_major((problem.q, problem.k, problem.v)))
    return lambda: flashinfer.single_prefill_with_kv_cache(
        q, k, v, causal=problem.causal).transpose(0, 1)[None]


# Packages beside PyTorch: the module, and what makes a runner of it. torch_fa2 is PyTorch's own
# build of fa2.
PACKAGES = {
    "fa2": ("flash_attn", lambda module, p: flash_runner(module.flash_attn_func, p)),
    "fa3": ("flash_attn_interface", lambda module, p: flash_runner(module.flash_attn_func, p)),
    "fa4": ("flash_attn.cute.interface", lambda module, p: flash_runner(module.flash_attn_func, p)),
    "flashinfer": ("flashinfer", flashinfer_runner),
}


def import_torch():
    """PyTorch comes before libqkv: it needs the newer C++ runtime of the two."""
    try:
        import torch
        import torch.nn.attention
    except Exception as error:  # whatever a broken installation throws
        print(f"peers.py: PyTorch cannot be imported here ({error}): its backends are not measured")
        sys.exit(0)
    return torch


class Problem:
    """Q, K, V of one shape, the same for every implementation, and the reference's sampled rows."""

    def __init__(self, torch, options, shape):
        device = options.device
        self.torch, self.device, self.dim = torch, device, options.dim
        (self.type_name, self.causal, self.batch, self.heads, self.heads_kv, self.queries,
         self.size) = shape
        type_name, size = self.type_name, self.size
        self.dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[type_name]
        generator = torch.Generator(device=device).manual_seed(1)
        q_shape = (self.batch, self.heads, self.queries, self.dim)
        kv_shape = (self.batch, self.heads_kv, size, self.dim)
        self.q, self.k, self.v = (
            torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
            .to(self.dtype) for shape in (q_shape, kv_shape, kv_shape))
        self.largest_score = self.largest_v = 0.0  # of the sampled rows
        self.rows = self._sample()

    def name(self):
        heads = f"h{self.heads}" if self.heads == self.heads_kv else \
            f"hq{self.heads}_hkv{self.heads_kv}"
        length = f"s{self.size}" if self.queries == self.size else \
            f"sq{self.queries}_skv{self.size}"
        return f"{self.type_name}/d{self.dim}/{'causal' if self.causal else 'full'}/" \
               f"b{self.batch}_{heads}_{length}"

    def flops(self):
        pairs = self.size * (self.size + 1) / 2 if self.causal else self.queries * self.size
        return 4.0 * self.batch * self.heads * pairs * self.dim

    def bytes(self):
        return 2.0 * (self.q.numel() + self.k.numel()) * self.q.element_size()

    def _row(self, b, h, i, rounds):
        """O of one query in fp64, or by the textbook in fp32 with the roundings named."""
        torch = self.torch
        real = torch.float32 if rounds else torch.float64
        end = i + 1 if self.causal else self.size
        kv = h * self.heads_kv // self.heads
        scores = (self.k[b, kv, :end].to(real) @ self.q[b, h, i].to(real)) / math.sqrt(self.dim)
        if not rounds:
            self.largest_score = max(self.largest_score, float(scores.abs().max()))
            self.largest_v = max(self.largest_v, float(self.v[b, kv, :end].abs().max()))
        if "scores" in rounds:
            scores = scores.to(self.dtype).to(real)
        weights = torch.softmax(scores, 0)
        if "weights" in rounds:
            weights = weights.to(self.dtype).to(real)
        o = weights @ self.v[b, kv, :end].to(real)
        return o.to(self.dtype).double() if rounds else o

    def _sample(self):
        """(place, exact O, by qkv's contract, with the scores rounded too), row by row."""
        queries = [0, 1, 63, 64, 127, 128, self.queries - 2, self.queries - 1]
        queries += [(2 * n + 1) * self.queries // 32 for n in range(16)]
        places = [(n % self.batch, (self.heads - 1 + 5 * n) % self.heads, i)
                  for n, i in enumerate(queries) if 0 <= i < self.queries]
        places.append((self.batch - 1, self.heads - 1, self.queries - 1))
        return [(place, self._row(*place, ()), self._row(*place, ("weights",)),
                 self._row(*place, ("scores", "weights"))) for place in places]

    def check(self, o, rounds_scores):
        """What is wrong with an output; "" if nothing is.

        The largest error may be twice that of the textbook with the same roundings, plus one unit
        in the last place and what rounding a score in fp32 costs (check.cpp). qkv is held to its
        contract; of others nothing is known, so they may round their scores.
        """
        if not bool(self.torch.isfinite(o).all()):
            return "an element of O is not finite or was not written"
        ulp = {"f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}[self.type_name]
        error = max(float(((rounded if rounds_scores else contract) - exact).abs().max())
                    for _, exact, contract, rounded in self.rows)
        largest = max(float(exact.abs().max()) for _, exact, _, _ in self.rows)
        allowed = 2 * error + ulp * largest
        allowed += 2 * 2.0**-24 * (1 + self.largest_score) * self.largest_v
        for (b, h, i), exact, _, _ in self.rows:
            off = float((o[b, h, i].double() - exact).abs().max())
            if not off <= allowed:
                return f"O[{b}][{h}][{i}] is off by {off:.3g}, allowed is {allowed:.3g}"
        return ""


def qkv_runner(library, problem):
    """A function that computes O by qkv; Error if the library declines."""
    torch = problem.torch
    o = torch.full_like(problem.q, float("nan"))
    types = {"f32": qkv_ctypes.F32, "f16": qkv_ctypes.F16, "bf16": qkv_ctypes.BF16}

    def view(tensor):
        array = qkv_ctypes.ctypes.c_int64 * 4
        return qkv_ctypes.Tensor(data=tensor.data_ptr(), type=types[problem.type_name],
                                 shape=array(*tensor.shape), stride=array(*tensor.stride()))

    on_gpu = problem.device == "cuda"
    desc = library.desc(qkv_ctypes.DEVICE_CUDA if on_gpu else qkv_ctypes.DEVICE_CPU, 0,
                        view(problem.q), view(problem.k), view(problem.v), view(o), problem.causal)
    library.kernel(desc)
    plan = library.plan(desc)
    size = plan.workspace_size()
    workspace = torch.empty(size + 256, dtype=torch.uint8, device=problem.device)
    address = (workspace.data_ptr() + 255) // 256 * 256

    def run():
        plan.run(address, size, torch.cuda.current_stream().cuda_stream if on_gpu else None)
        return o

    run.keeps = workspace
    return run


def torch_runner(problem, backend_name):
    torch = problem.torch
    backend = getattr(torch.nn.attention.SDPBackend, backend_name)
    grouped = {"enable_gqa": True} if problem.heads != problem.heads_kv else {}

    def run():
        with torch.nn.attention.sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(
                problem.q, problem.k, problem.v, is_causal=problem.causal, **grouped)

    return run


class Stopwatch:
    """Seconds of one run: device time behind an L2 flush, or wall time on the CPU."""

    def __init__(self, torch, device, min_time):
        self.torch, self.on_gpu, self.min_time = torch, device == "cuda", min_time
        if self.on_gpu:
            properties = torch.cuda.get_device_properties(0)
            l2 = getattr(properties, "L2_cache_size", 64 << 20)
            # Long enough to write that the host has queued the run before the device gets to it:
            # 300 MiB take an H100 100 us, calls through PyTorch and ctypes 10 to 50 us.
            self.flush = torch.empty(6 * l2, dtype=torch.uint8, device="cuda")

    def seconds(self, run):
        if not self.on_gpu:
            start = time.perf_counter()
            run()
            first = time.perf_counter() - start
            if first >= self.min_time:
                return first
            # Threads of the implementation before this one may still have spun.
            runs, start = 0, time.perf_counter()
            while runs == 0 or time.perf_counter() - start < self.min_time:
                run()
                runs += 1
            return (time.perf_counter() - start) / runs
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.fill_(0x5A)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e-3


def makers_of(problem, library, options):
    """What makes a runner of each implementation, by name. Makers raise where they cannot."""
    makers = {"qkv_ctypes": lambda: qkv_runner(library, problem)} if library else {}
    for name, backend in BACKENDS[problem.device].items():
        makers[name] = lambda backend=backend: torch_runner(problem, backend)
    if problem.device == "cuda":
        for name, (module, runner) in PACKAGES.items():
            makers[name] = lambda module=module, runner=runner: runner(
                importlib.import_module(module), problem)
    else:
        makers["unfused"] = lambda: peers_cpu.unfused_runner(options.unfused, problem)
        makers["onnxruntime"] = lambda: peers_cpu.onnxruntime_runner(problem)
        makers["openvino"] = lambda: peers_cpu.openvino_runner(problem)
    return {name: make for name, make in makers.items()
            if not options.only or name in options.only}


def prepared(problem, library, failures, options):
    """Runners whose output is right, by name; says why the others are left out."""
    out = {}
    for name, make in makers_of(problem, library, options).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = make()
                for _ in range(WARM_RUNS if problem.device == "cuda" else 1):
                    o = run()
                wrong = problem.check(o, rounds_scores=name != "qkv_ctypes")
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            said = f"  {name:<16} not available: {reason[0]}"
            if said not in SAID:
                print(said)
            SAID.add(said)
            continue
        if wrong:
            print(f"  {name:<16} wrong result, not timed: {wrong}")
            failures.append(name)
            continue
        out[name] = captured(problem, run)
    return out


def captured(problem, run):
    """The run as the replay of a CUDA graph; as it is where it cannot be captured."""
    if problem.device != "cuda":
        return run
    torch = problem.torch
    graph = torch.cuda.CUDAGraph()
    try:
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            kept = run()
        graph.replay()
        torch.cuda.synchronize()
    except Exception as error:
        torch.cuda.synchronize()
        reason = str(error).strip().splitlines() or [type(error).__name__]
        print(f"  (not captured, launched by the host: {reason[0]})")
        return run

    def replay():
        graph.replay()
        return kept

    replay.is_graph = True
    replay.keeps = run
    return replay


def middle_half(values):
    """The quartiles' distance over the median, as bench/page/results.py has it."""
    values = sorted(values)

    def quantile(share):
        place = (len(values) - 1) * share
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)

    return (quantile(0.75) - quantile(0.25)) / quantile(0.5)


def timed(runners, stopwatch, repetitions, priority=0):
    """Seconds of every repetition, by name. All take turns, each time in another order."""
    seconds = {name: [] for name in runners}
    order = random.Random(1)
    for _ in range(repetitions):
        with peers_cpu.realtime(priority):
            for name in order.sample(list(runners), len(runners)):
                seconds[name].append(stopwatch.seconds(runners[name]))
    return seconds


def measure(problem, library, stopwatch, options, failures):
    runners = prepared(problem, library, failures, options)
    priority = options.realtime if problem.device == "cpu" else 0
    seconds = timed(runners, stopwatch, options.repetitions, priority)
    medians = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    rows = []
    for name, values in seconds.items():
        median = medians[name]
        rows.append({
            "implementation": name, "device": problem.device, "type": problem.type_name,
            "d_qk": problem.dim, "d_v": problem.dim,
            "mask": "causal" if problem.causal else "full",
            "b": problem.batch, "hq": problem.heads, "hkv": problem.heads_kv,
            "sq": problem.queries, "skv": problem.size, "ms": median * 1e3,
            "tflops": problem.flops() / median * 1e-12, "gbs": problem.bytes() / median * 1e-9,
            "graph": getattr(runners[name], "is_graph", False),
            "label": getattr(runners[name], "label", ""),
            "ms_of_runs": [value * 1e3 for value in values]})
        if "unfused" in medians:
            rows[-1]["x_unfused"] = medians["unfused"] / median
        spread = middle_half(values)
        print(f"  {name:<16} {median * 1e3:>10.4g} ms {rows[-1]['tflops']:>10.4g} TFLOP/s"
              f"  middle half {spread * 100:.1f} %{', noisy' if spread > NOISY else ''}")
    return rows


def context(torch, options, library):
    device = options.device
    out = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
           "torch": torch.__version__, "python": platform.python_version(),
           "qkv": json.loads(library.build_info()) if library else None}
    revision = peers_cpu.revision()
    if revision:
        out["git_id"] = revision
        out["kernels"] = peers_cpu.git("rev-parse", "--short=12", "HEAD:kernels")
    if options.note:
        out["note"] = options.note
    if device != "cuda":
        return {**out, **peers_cpu.facts(torch)}
    out["torch_cuda"], out["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    out["gpu"] = torch.cuda.get_device_name(0)
    fields = ["driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit"]
    try:
        text = subprocess.run(
            ["nvidia-smi", "-i", "0", "--query-gpu=" + ",".join(fields), "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30).stdout
        out.update(zip(fields, (value.strip() for value in text.splitlines()[0].split(","))))
    except (OSError, subprocess.SubprocessError, IndexError):
        print("peers.py: nvidia-smi does not answer: driver and clocks are not recorded")
    return out


class TsvFile:
    """Facts, a header line, then a line for each result, on disk once it is added."""

    COLUMNS = ["implementation", "device", "type", "d_qk", "d_v", "mask", "b", "hq", "hkv", "sq",
               "skv", "ms", "tflops", "gbs", "x_unfused", "ceiling_percent", "options"]

    def __init__(self, path, facts):
        self._out = open(path, "w", encoding="utf-8")
        for key, value in facts.items():
            text = json.dumps(value) if isinstance(value, dict) else value
            self._out.write(f"# {key}: {text}\n")
        self._out.write("\t".join(self.COLUMNS) + "\n")
        self._out.flush()

    def add(self, rows):
        for row in rows:
            values = [row.get(column, "-") for column in self.COLUMNS]
            self._out.write("\t".join(f"{v:.5g}" if isinstance(v, float) else str(v)
                                      for v in values) + "\n")
        self._out.flush()


def save(path, facts, rows):
    if not path:
        return
    with open(path, "w", encoding="utf-8") as out:
        json.dump({"context": facts, "benchmarks": rows}, out, indent=1)
        out.write("\n")


def main():
    options = arguments()
    torch = import_torch()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("peers.py: PyTorch sees no CUDA device here: its backends are not measured")
        return 0
    try:
        library = qkv_ctypes.Library(options.lib)
    except OSError as error:
        print(f"peers.py: {options.lib} cannot be loaded ({error}): qkv is left out")
        library = None
    stopwatch = Stopwatch(torch, options.device, options.min_time)
    facts = context(torch, options, library)
    tsv = TsvFile(options.tsv, facts) if options.tsv else None
    rows, failures = [], []
    for shape in shapes(options):
        try:
            problem = Problem(torch, options, shape)
        except RuntimeError as error:  # out of memory
            print(f"{shape} left out: {str(error).splitlines()[0]}")
            continue
        print(problem.name(), flush=True)
        measured = measure(problem, library, stopwatch, options, failures)
        sys.stdout.flush()
        rows += measured
        if tsv:
            tsv.add(measured)
        save(options.json, facts, rows)  # a run that is cut short leaves what it had
    if options.device == "cuda":
        save(options.json, context(torch, options, library), rows)  # with the clocks under load
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
