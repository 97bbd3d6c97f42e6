"""dlpack.hpp against an array library of Python: arrays.py DRIVER numpy|torch

Arrays go to qkv by __dlpack__ and come back by from_dlpack; results are compared with the formula in
double precision, and every borrowed array must be given back."""
import ctypes
import gc
import math
import random
import sys

INVALID_TYPE, INVALID_SHAPE, INVALID_VALUE, RESERVED = 1004, 1005, 1008, 2001
CPU = (1, 0)

api = ctypes.pythonapi
api.PyCapsule_IsValid.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
api.PyCapsule_New.restype = ctypes.py_object
OLD, NEW = b"dltensor", b"dltensor_versioned"  # capsules keep the pointer, not the text
USED = {OLD: b"used_dltensor", NEW: b"used_dltensor_versioned"}


class Argument(ctypes.Structure):
    _fields_ = [("managed", ctypes.c_void_p), ("versioned", ctypes.c_int32)]


def take(capsule):
    """Takes a capsule's tensor over, as consumers do."""
    name = NEW if api.PyCapsule_IsValid(capsule, NEW) else OLD
    pointer = api.PyCapsule_GetPointer(capsule, name)
    api.PyCapsule_SetName(capsule, USED[name])
    return Argument(pointer, int(name == NEW))


def lend(array, versioned):
    return take(array.__dlpack__(max_version=(1, 1)) if versioned else array.__dlpack__())


class Lent:
    """What the driver lent, for from_dlpack."""

    def __init__(self, argument):
        self.argument = argument

    def __dlpack_device__(self):
        return CPU

    def __dlpack__(self, **_):
        return api.PyCapsule_New(self.argument.managed, NEW if self.argument.versioned else OLD, None)


driver = ctypes.PyDLL(sys.argv[1])  # keeps the interpreter's lock: deleters are called inside
driver.driver_error.restype = ctypes.c_char_p
checks = 0


def require(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"FAILED: {what}")


def refused(array, versioned, status, text, output=0, axes=b"bhsd"):
    got = driver.driver_take(ctypes.byref(lend(array, versioned)), axes, output)
    message = driver.driver_error().decode()
    require(got == status and text in message, f"{got} {message!r}, expected {status} {text!r}")


def expected(q, k, v, lengths=None):
    """Causal attention over nested lists [batch][heads][seq][dim], with LSE; bottom-right."""
    out, lse = [], []
    for b in range(len(q)):
        keys = len(k[b][0]) if lengths is None else lengths[b]
        out.append([])
        lse.append([])
        for h in range(len(q[b])):
            g = h // (len(q[b]) // len(k[b]))
            rows, sums = [], []
            for i, query in enumerate(q[b][h]):
                visible = max(0, min(keys, i + keys - len(q[b][h]) + 1))
                scores = [sum(x * y for x, y in zip(query, k[b][g][j])) / math.sqrt(len(query))
                          for j in range(visible)]
                weights = [math.exp(s) for s in scores]
                total = sum(weights)
                rows.append([sum(w * v[b][g][j][d] for j, w in enumerate(weights)) / total if total else 0.0
                             for d in range(len(v[b][g][0]))])
                sums.append(math.log(total) if total else -math.inf)
            out[b].append(rows)
            lse[b].append(sums)
    return out, lse


def flat(nested):
    return [x for part in nested for x in flat(part)] if isinstance(nested, list) else [nested]


def worst(got, want):
    got, want = flat(got.tolist()), flat(want)
    require(len(got) == len(want), f"{len(got)} elements, expected {len(want)}")
    errors = [0.0 if a == b else abs(a - b) for a, b in zip(got, want)]
    return math.inf if any(math.isnan(e) for e in errors) else max(errors)


def run(name, make, to, types, zeros, from_dlpack, versions):
    """make(shape): random doubles as the library's array; to(array, type), None: double; types: name ->
    (type, tolerance); zeros(shape, type)."""
    def empty(shape, dtype):
        array = zeros(shape, dtype)
        array[...] = math.nan
        return array

    for versioned in versions:
        for type_name, (dtype, tolerance) in types.items():
            where = f"{name} {type_name} {'versioned' if versioned else 'unversioned'}"
            q, k, v = (to(make(s), dtype) for s in ((2, 4, 5, 8), (2, 2, 9, 8), (2, 2, 9, 8)))
            want, want_lse = expected(*(to(x, None).tolist() for x in (q, k, v)))
            o, lse = empty((2, 4, 5, 8), dtype), empty((2, 4, 5), types["float32"][0])
            held = sys.getrefcount(q), sys.getrefcount(o)
            arguments = [lend(x, versioned) for x in (q, k, v, o, lse)]
            status = driver.driver_attend(*map(ctypes.byref, arguments[:3]), None,
                                          *map(ctypes.byref, arguments[3:]), b"bhsd")
            require(status == 0, f"{where}: {driver.driver_error()}")
            require(worst(o, want) <= tolerance, f"{where}: off by {worst(o, want)}")
            require(worst(lse, want_lse) <= 1e-5, f"{where}: LSE off by {worst(lse, want_lse)}")
            require(held == (sys.getrefcount(q), sys.getrefcount(o)), f"{where}: not given back")

            # [batch, seq, heads, dim], every second row of a larger array, from its second batch on.
            base = [to(make((3, 2 * s, h, 8)), dtype) for s, h in ((5, 4), (9, 2), (9, 2))]
            views = [x[1:, ::2] for x in base]
            want, _ = expected(*(to(x, None).swapaxes(1, 2).tolist() for x in views))
            whole = empty((2, 5, 6, 8), dtype)
            whole[...] = 7
            o = whole[:, :, 1:5]
            arguments = [lend(x, versioned) for x in (*views, o)]
            status = driver.driver_attend(*map(ctypes.byref, arguments[:3]), None,
                                          ctypes.byref(arguments[3]), None, b"bshd")
            require(status == 0, f"{where} views: {driver.driver_error()}")
            got = to(o, None).swapaxes(1, 2)
            require(worst(got, want) <= tolerance, f"{where} views: off by {worst(got, want)}")
            require(worst(to(whole[:, :, [0, 5]], None), [7.0] * 160) == 0, f"{where}: wrote beside its view")

            # A result in qkv's memory lives as long as the array that borrows it.
            out = Argument(None, int(versioned))
            arguments = [lend(x, versioned) for x in views]
            status = driver.driver_attend_new(*map(ctypes.byref, arguments), b"bshd", ctypes.byref(out))
            require(status == 0, f"{where} new: {driver.driver_error()}")
            require(driver.driver_buffers_alive() == 1, f"{where}: the result's memory is gone")
            result = from_dlpack(Lent(out))
            require(tuple(result.shape) == (2, 5, 4, 8), f"{where}: shape {result.shape}")
            got = to(result, None).swapaxes(1, 2)
            require(worst(got, want) <= tolerance, f"{where} new: off by {worst(got, want)}")
            del result, got
            gc.collect()
            require(driver.driver_buffers_alive() == 0, f"{where}: the result's memory leaks")

        # Key lengths, one of them 0: its rows see nothing.
        f32 = types["float32"][0]
        q, k, v = (to(make(s), f32) for s in ((3, 1, 2, 4), (3, 1, 6, 4), (3, 1, 6, 4)))
        o, lse = empty((3, 1, 2, 4), f32), empty((3, 1, 2), f32)
        lengths = zeros((3,), "int32")
        lengths[0], lengths[1], lengths[2] = 6, 0, 3
        want, want_lse = expected(q.tolist(), k.tolist(), v.tolist(), [6, 0, 3])
        arguments = [lend(x, versioned) for x in (q, k, v, lengths, o, lse)]
        status = driver.driver_attend(*map(ctypes.byref, arguments), b"bhsd")
        require(status == 0, f"{name} lengths: {driver.driver_error()}")
        require(worst(o, want) <= 1e-6 and worst(lse, want_lse) <= 1e-5, f"{name} lengths: wrong")

        refused(to(make((1, 1, 2, 4)), None), versioned, INVALID_TYPE, "dtype is float64; allowed")
        refused(to(make((2, 4)), f32), versioned, INVALID_SHAPE, "ndim is 2; axes \"bhsd\" need 4")


def make_values(shape):
    count = math.prod(shape)
    return [random.uniform(-1, 1) for _ in range(count)]


def numpy_main():
    import numpy as np
    versions = [False]
    try:
        np.zeros(1).__dlpack__(max_version=(1, 1))
        versions.append(True)
    except TypeError:
        print(f"numpy {np.__version__} hands out unversioned tensors only")
    run("numpy", lambda s: np.array(make_values(s)).reshape(s),
        lambda x, t: x.astype(t or "float64"),
        {"float32": ("float32", 1e-6), "float16": ("float16", 2e-3)},
        np.zeros, np.from_dlpack, versions)
    if True in versions:
        frozen = np.zeros((1, 1, 2, 4), "float32")
        frozen.flags.writeable = False
        refused(frozen, True, INVALID_VALUE, "it is read-only; an output must be writable", output=1)
        require(driver.driver_take(ctypes.byref(lend(frozen, True)), b"bhsd", 0) == 0, "read-only input")
    return np.__version__


def torch_main():
    import torch
    versions = [False]
    try:
        torch.zeros(1).__dlpack__(max_version=(1, 1))
        versions.append(True)
    except TypeError:
        print(f"torch {torch.__version__} hands out unversioned tensors only")
    types = {"float32": (torch.float32, 1e-6), "float16": (torch.float16, 2e-3),
             "bfloat16": (torch.bfloat16, 2e-2)}
    run("torch", lambda s: torch.tensor(make_values(s), dtype=torch.float64).reshape(s),
        lambda x, t: x.to(t or torch.float64), types,
        lambda s, t: torch.zeros(s, dtype=torch.int32 if t == "int32" else t), torch.from_dlpack, versions)
    try:
        fp8 = torch.zeros(1, 1, 2, 16).to(torch.float8_e4m3fn)
        capsule = fp8.__dlpack__()
    except (AttributeError, BufferError, RuntimeError) as reason:
        print(f"torch {torch.__version__} does not lend float8: {reason}")
    else:
        del capsule
        refused(fp8, False, RESERVED, "dtype is float8_e4m3fn; qkv does not compute")
    return torch.__version__


random.seed(1)
version = {"numpy": numpy_main, "torch": torch_main}[sys.argv[2]]()
gc.collect()
require(driver.driver_buffers_alive() == 0, "buffers alive at the end")
print(f"{sys.argv[2]} {version}: {checks} checks passed")
