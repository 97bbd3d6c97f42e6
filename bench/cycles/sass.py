"""What an instruction of a cubin is, and what its control bits tell the multiprocessor.

nvdisasm prints, with -hex, each instruction's 16 bytes as two words. Bits 105 to 121 of the 128 are written by ptxas
for the hardware, which has no interlocks of its own (Jia et al., "Dissecting the NVIDIA Volta GPU architecture via
microbenchmarking", arXiv 1804.06826, chapter 2; the same on Turing to Blackwell):

    bits  105..108  stall: cycles until the warp may issue its next instruction
          109       0: the scheduler prefers another warp (yield)
          110..112  scoreboard that is free when the result is there; 7: none
          113..115  scoreboard that is free when the operands are read; 7: none
          116..121  scoreboards 0 to 5 that must be free before this instruction issues
"""
import re
import subprocess
from dataclasses import dataclass

NO_SCOREBOARD = 7


@dataclass(frozen=True)
class Instruction:
    address: int
    text: str  # without the predicate: "HGMMA.64x128x16.F32.BF16 R24, ..."
    predicate: str  # "", "P0", "!P3", "!PT"
    stall: int
    yields: bool
    result: int  # scoreboards
    operands: int
    waits: tuple
    target: int | None = None  # of a branch

    @property
    def opcode(self):
        return self.text.split(" ", 1)[0]

    @property
    def family(self):
        return self.opcode.split(".", 1)[0]


def decode_control(high):
    """The fields of the instruction's second word: stall, yields, result, operands, waits."""
    control = high >> 41
    waits = tuple(n for n in range(6) if control >> 11 + n & 1)
    return control & 15, not control >> 4 & 1, control >> 5 & 7, control >> 8 & 7, waits


_SECTION = re.compile(r"^\.text\.(\S+):")
_LABEL = re.compile(r"^\s*(\.L\S*):")
_FIRST = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?(\S.*?)\s*;?\s*/\* (0x[0-9a-f]{16}) \*/")
_SECOND = re.compile(r"^\s+/\* (0x[0-9a-f]{16}) \*/")
_TARGET = re.compile(r"`\((\.L\S*)\)")


def parse(listing):
    """nvdisasm's text -> {mangled name of a function: [Instruction]}."""
    functions, labels, rows, first = {}, {}, [], None
    for line in listing.splitlines():
        if match := _FIRST.match(line):
            first = match
        elif first and (match := _SECOND.match(line)):
            address, predicate, text, _ = first.groups()
            label = _TARGET.search(text)
            rows.append((int(address, 16), text, predicate or "", decode_control(int(match[1], 16)),
                         label and label[1]))
            first = None
        elif match := _SECTION.match(line):
            labels, rows = {}, []
            functions[match[1]] = (labels, rows)
        elif match := _LABEL.match(line):
            labels[match[1]] = rows[-1][0] + 16 if rows else 0
    return {name: [Instruction(address, text, predicate, *control, target=labels.get(label))
                   for address, text, predicate, control, label in rows]
            for name, (labels, rows) in functions.items()}


def disassemble(nvdisasm, cubin, function_index):
    """The instructions of the function that is symbol number `function_index` of the file `cubin`."""
    command = [nvdisasm, "-hex", "-c", "-ndf", "-fun", str(function_index), cubin]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (code,) = parse(done.stdout).values()
    return code
