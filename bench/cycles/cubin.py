"""Kernels in the cubins that a library carries: names, registers, machine code."""
import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass

import sass


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Missing(Exception):
    """A tool is not there."""


def tool(name):
    """The path of cuobjdump or nvdisasm: what ./dev fetched, else the toolkit's."""
    places = [os.path.join(ROOT, ".deps", "disassemblers", "nvidia", "cu13", "bin"), "/usr/local/cuda/bin"]
    found = shutil.which(name, path=os.pathsep.join(places)) or shutil.which(name)
    if not found:
        raise Missing(f"no {name}: ./dev cycles fetches it into .deps/disassemblers")
    return found


@dataclass(frozen=True)
class Kernel:
    file: str  # the cubin
    symbol: int  # its index in it
    mangled: str
    compute: int  # 90 of sm_90a
    registers: int
    code: bytes

    def uses_tensor_cores(self):
        """HMMA and HGMMA, by the low nine bits of an instruction's 16 bytes."""
        return any(low & 0x1ff in (0x03c, 0x1f0) for low, in struct.iter_unpack("<Q8x", self.code))

    def instructions(self):
        return sass.disassemble(tool("nvdisasm"), self.file, self.symbol)


def _sections(data):
    offset, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3a)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, offset + n * size) for n in range(count)]
    strings = heads[names][4]
    return {_text(data, strings + head[0]): data[head[4]:head[4] + (0 if head[1] == 8 else head[5])] for head in heads}


def _text(data, at):
    return data[at:data.index(b"\0", at)].decode()


def read_kernels(file):
    """The kernels of a cubin. .nv.info lists attributes, among them registers (0x2f): a symbol's index and a value."""
    with open(file, "rb") as opened:
        data = opened.read()
    sections = _sections(data)
    flags, = struct.unpack_from("<I", data, 0x30)
    compute = flags >> (8 if data[8] >= 8 else 0) & 0xff
    info, symbols, kernels, at = sections.get(".nv.info", b""), sections.get(".symtab", b""), [], 0
    while at + 4 <= len(info):
        form, kind, size = struct.unpack_from("<BBH", info, at)
        if (form, kind, size) == (4, 0x2f, 8):
            symbol, registers = struct.unpack_from("<II", info, at + 4)
            name = _text(sections[".strtab"], struct.unpack_from("<I", symbols, symbol * 24)[0])
            if not name.startswith("$"):
                kernels.append(Kernel(file, symbol, name, compute, registers, sections.get(".text." + name, b"")))
        at += 4 + (size if form == 4 else 0)
    return kernels


def extract(library, folder):
    """Writes the cubins of a library, program or object into `folder`; their paths. A cubin is its own."""
    if library.endswith(".cubin"):
        return [os.path.abspath(library)]
    command = [tool("cuobjdump"), "-xelf", "all", os.path.abspath(library)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    files = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".cubin"))
    if not files:
        raise Missing(f"{library} has no cubins: {done.stderr.strip() or done.stdout.strip()}")
    return files


def kernels_of(library, wanted=lambda mangled: True):
    """All kernels of a library whose mangled name is wanted. Their cubins live as long as the program."""
    folder = tempfile.TemporaryDirectory(prefix="cubins-")
    _folders.append(folder)
    return [kernel for file in extract(library, folder.name) for kernel in read_kernels(file) if wanted(kernel.mangled)]


_folders = []


def assembler_of(kernel):
    """What ptxas wrote of itself: "13.0.88"."""
    with open(kernel.file, "rb") as opened:
        data = opened.read()
    note = _sections(data).get(".note.nv.tkinfo", b"")
    for text in note.split(b"\0"):
        if b" V" in text:
            return text.split(b" V")[-1].split(b" ")[0].split(b"(")[0].strip().decode(errors="replace")
    return "unknown"
