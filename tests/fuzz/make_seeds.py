#!/usr/bin/env python3
"""Writes the seed corpora of the file-reader fuzzers into corpus/ beside this script.

Valid files show the fuzzer the grammar. Hostile ones repeat what broke public readers; the issue
that reported each is named with it.
"""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def npy(header, payload=b"", version=1, length=None):
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 16) + b"\n"
    length = len(text) if length is None else length
    field = struct.pack("<H" if version == 1 else "<I", length)
    return b"\x93NUMPY" + bytes([version, 0]) + field + text + payload


def literal(descr, shape, fortran=False):
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"


def safetensors(header, payload=b"", length=None):
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SEEDS = {
    "npy": {
        "f4_2x3": npy(literal("<f4", "(2, 3)"), struct.pack("<6f", *range(6))),
        "f8_fortran_2x3": npy(literal("<f8", "(2, 3)", True), struct.pack("<6d", *range(6)), 2),
        "f2_vector_v3": npy(literal("<f2", "(3,)"), b"\0\x3c" * 3, 3),
        "i8_scalar": npy(literal("<i8", "()"), struct.pack("<q", -1)),
        "bool_empty": npy(literal("|b1", "(2, 0, 3)")),
        "u1_fortran_3d": npy(literal("|u1", "(2, 3, 2)", True), bytes(range(12))),
        "double_quotes": npy('{"shape":(1,),"fortran_order":False,"descr":"<i4"}', b"\1\0\0\0"),
        "big_endian": npy(literal(">f4", "(1,)"), b"\0" * 4),
        "objects": npy(literal("|O", "(1,)"), b"\x80\x04N."),
        "structure": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }"),
        # rogersce/cnpy issue 106: a header length beyond the data; a payload too short.
        "hostile_header_65535": b"\x93NUMPY\1\0\xff\xff",
        "hostile_short_payload": npy(literal("<f8", "(1000000,)"), b"\0" * 8),
        # llohse/libnpy issue 44: a header of 4 GiB in 12 bytes; a product that wraps to 0.
        "hostile_header_4g": b"\x93NUMPY\2\0\xf0\xff\xff\xff",
        "hostile_product_wraps": npy(literal("<f4", "(4294967296, 4294967296)")),
    },
    "safetensors": {
        "one": safetensors({"q": tensor("F32", [1, 2], 0, 8)}, b"\0" * 8),
        "three": safetensors(
            {
                "__metadata__": {"format": "pt", "words": '["\\u00e9", "x"]'},
                "k": tensor("BF16", [2], 0, 4),
                "a.b": tensor("U8", [3], 4, 7),
                "none": tensor("I64", [0, 9], 7, 7),
                "m": tensor("BOOL", [], 7, 8),
            },
            bytes(range(8)),
        ),
        "no_tensors": safetensors("{}"),
        "padded": safetensors(
            '{"x":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}   ', b"\0" * 8
        ),
        "escaped_name": safetensors(
            '{"\\u0061\\n\\ud83d\\ude00":{"shape":[1],"data_offsets":[0,2],"dtype":"F16"}}', b"\0\0"
        ),
        "hole": safetensors({"a": tensor("U8", [1], 1, 2)}, b"\0\0"),
        "overlap": safetensors(
            {"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, b"\0\0\0"
        ),
        "twice": safetensors(
            '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
            '"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
        ),
        "deep": safetensors('{"a":' + "[" * 500),
        # ggml-org/llama.cpp pull request 18674: a dimension of 2^42 + 1; this product wraps to 0.
        "hostile_product_wraps": safetensors(
            {"q": tensor("U8", [2**42 + 1, 2**22, 2**42], 0, 0)}
        ),
        # ml-explore/mlx pull request 3364: offsets that cover less than the shape.
        "hostile_short_offsets": safetensors({"q": tensor("F32", [1000, 1000], 0, 4)}, b"\0" * 4),
        "hostile_offsets_wrap": safetensors({"q": tensor("U8", [8], 2**64 - 8, 0)}, b"\0" * 8),
        "hostile_header_16e": safetensors("{}", length=2**64 - 8),
    },
}

if __name__ == "__main__":
    for folder, seeds in SEEDS.items():
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (CORPUS / folder / name).write_bytes(data)
        print(f"{folder}: {len(seeds)} seeds")
