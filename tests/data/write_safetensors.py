"""Writes .safetensors files for the scripts beside this one."""

import json
import struct

import numpy as np
from safetensors.numpy import load_file

NAMES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}


def save(path, tensors, metadata):
    """Writes the same bytes every time; the library's own writer shuffles the metadata."""
    header, offset = {"__metadata__": dict(sorted(metadata.items()))}, 0
    for name, tensor in sorted(tensors.items()):
        assert tensor.flags.c_contiguous
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in sorted(tensors.items()):
            file.write(tensor.tobytes())
    read_back = load_file(path)
    assert read_back.keys() == tensors.keys()
    assert all(np.array_equal(read_back[name], tensors[name]) for name in tensors)
