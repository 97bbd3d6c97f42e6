"""What peers.py needs on the CPU: the unfused baseline, ONNX Runtime and OpenVINO as runners, the machine's facts.

A runner is a function without arguments that computes O and returns it as a tensor of PyTorch.
"""
import contextlib
import ctypes
import math
import os
import platform
import subprocess

import qkv_ctypes

TYPES = {"f32": qkv_ctypes.F32, "f16": qkv_ctypes.F16, "bf16": qkv_ctypes.BF16}


def threads_of(torch):
    """PyTorch's number, which the others keep to."""
    return torch.get_num_threads()


def unfused_runner(path, problem):
    """bench/baselines/unfused_c.cpp."""
    library = ctypes.CDLL(path)

    class Unfused(ctypes.Structure):
        _fields_ = [("type", ctypes.c_int32), ("causal", ctypes.c_int32), ("threads", ctypes.c_int32),
                    ("scale", ctypes.c_float)] + [
                        (name, ctypes.c_int64) for name in ("batch", "heads_q", "heads_kv", "s_q", "s_kv", "d")]

    library.qkv_unfused_workspace.restype = ctypes.c_size_t
    torch = problem.torch
    shape = Unfused(TYPES[problem.type_name], problem.causal, threads_of(torch), 1 / math.sqrt(problem.dim),
                    problem.batch, problem.heads, problem.heads_kv, problem.queries, problem.size, problem.dim)
    o = torch.full_like(problem.q, float("nan"))
    workspace = torch.empty(library.qkv_unfused_workspace(ctypes.byref(shape)) + 64, dtype=torch.uint8)
    aligned = (workspace.data_ptr() + 63) // 64 * 64
    pointers = [ctypes.c_void_p(p) for p in (problem.q.data_ptr(), problem.k.data_ptr(), problem.v.data_ptr(),
                                             o.data_ptr(), aligned)]

    def run():
        library.qkv_unfused_run(ctypes.byref(shape), *pointers)
        return o

    run.keeps = workspace
    run.label = "OpenBLAS"
    return run


def onnxruntime_runner(problem):
    """The operator Attention of ONNX (opset 23), on ONNX Runtime's CPU provider, outputs and inputs in place."""
    import onnx
    import onnxruntime
    if problem.type_name == "bf16":
        raise ValueError("ONNX Runtime's CPU provider has no attention in bf16")
    kind = {"f32": onnx.TensorProto.FLOAT, "f16": onnx.TensorProto.FLOAT16}[problem.type_name]
    shapes = {"q": list(problem.q.shape), "k": list(problem.k.shape), "v": list(problem.v.shape),
              "o": list(problem.q.shape)}
    values = {name: onnx.helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()}
    node = onnx.helper.make_node("Attention", ["q", "k", "v"], ["o"], is_causal=int(problem.causal))
    graph = onnx.helper.make_graph([node], "attention", [values[n] for n in "qkv"], [values["o"]])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads_of(problem.torch)
    options.log_severity_level = 3
    # Its threads spin within a run, not on behind it, beside whoever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    o = problem.torch.full_like(problem.q, float("nan"))
    binding = session.io_binding()
    element = {"f32": "float32", "f16": "float16"}[problem.type_name]
    import numpy
    for name, tensor in (("q", problem.q), ("k", problem.k), ("v", problem.v)):
        binding.bind_input(name, "cpu", 0, getattr(numpy, element), shapes[name], tensor.data_ptr())
    binding.bind_output("o", "cpu", 0, getattr(numpy, element), shapes["o"], o.data_ptr())

    def run():
        session.run_with_iobinding(binding)
        return o

    run.label = f"ONNX Runtime {onnxruntime.__version__}"
    return run


def openvino_runner(problem):
    """ScaledDotProductAttention (opset 13) on OpenVINO's CPU plugin, asked to compute in the tensors' type. It takes
    equal numbers of heads: keys of grouped heads are repeated inside of the model, as exported models do it."""
    import numpy
    import openvino
    import openvino.opset13 as ops
    element = getattr(openvino.Type, problem.type_name)

    def parameter(tensor):
        return ops.parameter(openvino.PartialShape(list(tensor.shape)), element)

    def repeated(tensor):
        group = problem.heads // problem.heads_kv
        if group == 1:
            return tensor
        shape = [problem.batch, problem.heads_kv, group, problem.size, problem.dim]
        wide = ops.broadcast(ops.unsqueeze(tensor, 2), ops.constant(numpy.array(shape, dtype=numpy.int64)))
        whole = [problem.batch, problem.heads, problem.size, problem.dim]
        return ops.reshape(wide, ops.constant(numpy.array(whole, dtype=numpy.int64)), False)

    inputs = [parameter(t) for t in (problem.q, problem.k, problem.v)]
    node = ops.scaled_dot_product_attention(inputs[0], repeated(inputs[1]), repeated(inputs[2]),
                                            causal=problem.causal)
    compiled = openvino.Core().compile_model(openvino.Model([node], inputs), "CPU", {
        "INFERENCE_PRECISION_HINT": problem.type_name, "INFERENCE_NUM_THREADS": threads_of(problem.torch),
        "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    torch = problem.torch
    o = torch.full_like(problem.q, float("nan"))

    def shared(tensor):
        plain = tensor.view(torch.int16).numpy() if problem.type_name == "bf16" else tensor.numpy()
        return openvino.Tensor(plain, list(tensor.shape), element)

    kept = [shared(t) for t in (problem.q, problem.k, problem.v, o)]
    for n in range(3):
        request.set_input_tensor(n, kept[n])
    request.set_output_tensor(0, kept[3])

    def run():
        request.infer()
        return o

    computes = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    run.label = f"OpenVINO {openvino.__version__.split('-')[0]}, computes in {computes}"
    run.keeps = kept
    return run


@contextlib.contextmanager
def realtime(priority):
    """All threads of this process at a real-time priority meanwhile; 0: as they are."""
    if not priority:
        yield
        return

    def everywhere(policy, value):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread), policy, os.sched_param(value))

    everywhere(os.SCHED_FIFO, priority)
    try:
        yield
    finally:
        everywhere(os.SCHED_OTHER, 0)


def git(*command):
    here = os.path.dirname(os.path.abspath(__file__))
    return subprocess.run(["git", "-C", here, *command], capture_output=True, text=True, check=True,
                          timeout=30).stdout.strip()


def revision():
    """Of the sources that this script lies in; "" where it is not in a repository, or not of it."""
    try:
        git("ls-files", "--error-unmatch", os.path.basename(__file__))
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("-modified" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def cpuinfo(key):
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.split("\t")[0] == key), "")
    except OSError:
        return ""


def facts(torch):
    """Of the machine and the packages, by attention_bench's names."""
    flags = cpuinfo("flags").split()
    extensions = [x for x in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16") if x in flags]
    out = {"cpu": f"{cpuinfo('model name')} (family {cpuinfo('cpu family')}, model {cpuinfo('model')})",
           "cpu_extensions": " ".join(extensions) or "none of avx2 and later", "cores": str(os.cpu_count()),
           "threads": str(threads_of(torch)), "load_before": f"{os.getloadavg()[0]:.2f}",
           "system": f"{platform.system()} {platform.machine()}"}
    for package in ("onnxruntime", "openvino"):
        with contextlib.suppress(Exception):
            out[package] = __import__(package).__version__
    return out
