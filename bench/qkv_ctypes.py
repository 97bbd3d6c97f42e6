"""qkv's C ABI through ctypes: the structures of qkv/qkv.h and the few calls that peers.py makes."""
import ctypes

F32, F16, BF16 = 1, 2, 3
DEVICE_CPU, DEVICE_CUDA = 1, 2


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("type", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("shape", ctypes.c_int64 * 4),
        ("stride", ctypes.c_int64 * 4),
    ]


class AttentionDesc(ctypes.Structure):
    """As 0.1.0 had it. Descriptors grow at their end: every later 0.x takes this size, and gives the fields behind it
    their defaults."""
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("device", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("score", ctypes.c_int32),
        ("selection", ctypes.c_int32),
        ("q", Tensor),
        ("k", Tensor),
        ("v", Tensor),
        ("o", Tensor),
        ("lse", Tensor),
        ("index", Tensor),
        ("weights", Tensor),
        ("weights_mode", ctypes.c_int32),
        ("scale_set", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("causal", ctypes.c_int32),
        ("alignment", ctypes.c_int32),
        ("reserved0", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("window_left", ctypes.c_int64),
        ("window_right", ctypes.c_int64),
        ("mask", Tensor),
        ("bias", Tensor),
        ("alibi_slopes", Tensor),
        ("additive_weight", Tensor),
        ("kv_lengths", Tensor),
        ("q_lengths", Tensor),
        ("q_offsets", Tensor),
        ("kv_offsets", Tensor),
        ("page_table", Tensor),
        ("q_segments", Tensor),
        ("kv_segments", Tensor),
        ("block_mask", Tensor),
        ("sinks", Tensor),
        ("fixed_split_size", ctypes.c_int64),
        ("flags", ctypes.c_uint64),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_size_t),
    ]


class QueryResult(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("supported", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("workspace_size", ctypes.c_size_t),
        ("kernel", ctypes.c_char * 64),
        ("reasons", ctypes.c_char * 1024),
    ]


class Error(RuntimeError):
    """A call that the library refused, with its reason."""


class Library:
    def __init__(self, path):
        self._c = ctypes.CDLL(path)
        self._c.qkv_last_error.restype = ctypes.c_char_p
        self._c.qkv_build_info.restype = ctypes.c_char_p
        self._c.qkv_plan_destroy.restype = None
        self._c.qkv_plan_run.argtypes = [
            ctypes.c_void_p, ctypes.POINTER(AttentionDesc), ctypes.c_void_p]
        self._c.qkv_plan_destroy.argtypes = [ctypes.c_void_p]
        self._c.qkv_plan_workspace_size.argtypes = [
            ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]

    def _check(self, status):
        if status != 0:
            raise Error(self._c.qkv_last_error().decode())

    def build_info(self):
        return self._c.qkv_build_info().decode()

    def desc(self, device, device_index, q, k, v, o, causal):
        """A descriptor of Tensor structures; all else as the library's defaults have it."""
        desc = AttentionDesc()
        self._check(self._c.qkv_attention_desc_init(
            ctypes.byref(desc), ctypes.c_size_t(ctypes.sizeof(desc))))
        desc.device, desc.device_index = device, device_index
        desc.q, desc.k, desc.v, desc.o = q, k, v, o
        desc.causal = int(causal)
        return desc

    def kernel(self, desc):
        """The name of the kernel that would run, or an Error with every kernel's reason."""
        result = QueryResult()
        result.struct_size = ctypes.sizeof(result)
        self._check(self._c.qkv_query(ctypes.byref(desc), ctypes.byref(result)))
        if not result.supported:
            raise Error(result.reasons.decode())
        return result.kernel.decode()

    def plan(self, desc):
        return Plan(self, desc)


class Plan:
    """Chosen once, run often."""

    def __init__(self, library, desc):
        self._library = library
        self._desc = desc
        self._plan = ctypes.c_void_p()
        library._check(library._c.qkv_plan_create(ctypes.byref(desc), ctypes.byref(self._plan)))

    def __del__(self):
        if self._plan:
            self._library._c.qkv_plan_destroy(self._plan)

    def workspace_size(self):
        size = ctypes.c_size_t()
        self._library._check(self._library._c.qkv_plan_workspace_size(
            self._plan, ctypes.byref(size)))
        return size.value

    def run(self, workspace, size, stream):
        self._desc.workspace, self._desc.workspace_size = workspace, size
        self._library._check(self._library._c.qkv_plan_run(
            self._plan, ctypes.byref(self._desc), stream))
