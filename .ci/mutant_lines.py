#!/usr/bin/env python3
"""Line numbers in the kernels' mutants.md, found again by the statements that they stand for.

    mutant_lines.py --check     fails where a number is stale, or a statement is gone
    mutant_lines.py --write     renews the numbers

A reference is `FILE:LINES` `STATEMENT`, or `FILE:LINES` `STATEMENT` in `BLOCK`: all lines of FILE where
STATEMENT begins, or of them those in the braces that follow BLOCK. FILE lies beside mutants.md, or is the only one of
its name under kernels/. White space does not count in STATEMENT and BLOCK, and may be a new line.
"""

import argparse
import bisect
import pathlib
import re
import sys

NUMBERED = re.compile(r"`(?P<file>[\w./]+\.(?:cuh|cu|cpp|h)):(?P<lines>[\d, ]*)`")
STATEMENT = re.compile(r"\s+`(?P<statement>[^`]+)`(?:\s+in\s+`(?P<block>[^`]+)`)?")


class Source:
    """A file without its white space; `lines` has where each line begins."""

    def __init__(self, path):
        self.text, self.lines = "", []
        for line in path.read_text(encoding="utf-8").splitlines():
            self.lines.append(len(self.text))
            self.text += squeeze(line)

    def places(self, text, begin=0, end=None):
        end = len(self.text) if end is None else end
        found = []
        at = self.text.find(text, begin, end)
        while at >= 0:
            found.append(at)
            at = self.text.find(text, at + 1, end)
        return found

    def line(self, at):
        return bisect.bisect_right(self.lines, at)

    def braces(self, at):
        """Ends of the first pair of braces from `at` on."""
        begin = self.text.index("{", at)
        depth = 0
        for end in range(begin, len(self.text)):
            depth += {"{": 1, "}": -1}.get(self.text[end], 0)
            if depth == 0:
                return begin, end
        raise ValueError("no brace closes")


def squeeze(text):
    return re.sub(r"\s+", "", text)


def find_file(document, name, root):
    beside = document.parent / name
    if beside.is_file():
        return beside
    found = sorted(p for p in (root / "kernels").rglob(pathlib.PurePath(name).name) if p.match(name))
    if len(found) != 1:
        raise ValueError(f"{len(found)} files are called so")
    return found[0]


def lines_of(source, statement, block):
    """Lines where the statement begins."""
    if block is None:
        places = source.places(squeeze(statement))
    else:
        blocks = source.places(squeeze(block))
        if len(blocks) != 1:
            raise ValueError(f"`{block}` stands there {len(blocks)} times")
        places = source.places(squeeze(statement), *source.braces(blocks[0] + len(squeeze(block))))
    if not places:
        raise ValueError(f"`{statement}` is gone")
    return sorted({source.line(at) for at in places})


def renew(document, root, faults):
    """The document with today's numbers."""
    text = document.read_text(encoding="utf-8")

    def replace(match):
        where = f"{document.relative_to(root)}:{text.count(chr(10), 0, match.start()) + 1}: {match['file']}"
        told = STATEMENT.match(text, match.end())
        if told is None:
            faults.append(f"{where}: no statement follows the line number")
            return match[0]
        # A table's cell writes | as \|.
        statement, block = (s and s.replace("\\|", "|") for s in told.group("statement", "block"))
        try:
            lines = lines_of(Source(find_file(document, match["file"], root)), statement, block)
        except ValueError as error:
            faults.append(f"{where}: {error}")
            return match[0]
        return f"`{match['file']}:{', '.join(map(str, lines))}`"

    return text, NUMBERED.sub(replace, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--write", action="store_true")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    options = parser.parse_args()

    root = options.root.resolve()
    documents = sorted((root / "kernels").rglob("mutants.md"))
    faults = [] if documents else ["no mutants.md under kernels/"]
    for document in documents:
        old, new = renew(document, root, faults)
        if old == new:
            continue
        if options.write:
            document.write_text(new, encoding="utf-8")
        else:
            for number, (a, b) in enumerate(zip(old.splitlines(), new.splitlines()), 1):
                if a != b:
                    faults.append(f"{document.relative_to(root)}:{number}: stale line numbers: {b}")
    if faults:
        print("\n".join(faults))
        if options.check:
            print(f".ci/{pathlib.Path(__file__).name} --write renews the numbers; read what they argue about again")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
