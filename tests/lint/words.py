#!/usr/bin/env python3
"""words.py ROOT - fails on marks of unfinished work, on missing file heads, and on lines of more
than 100 columns."""
import pathlib
import re
import sys

MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK|not implemented|unimplemented)\b")


def main(root):
    bad = 0
    for top in ("src", "kernels", "tests", "benchmarks", "configs"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".c", ".h", ".cu", ".cuh"):
                continue
            where, text = path.relative_to(root), path.read_text()
            if not text.startswith("/* "):
                print(f"{where}:1: expected a file head: what it is, its layer")
                bad += 1
            table = False  # lines of tables that clang-format does not format may be longer
            for number, line in enumerate(text.splitlines(), 1):
                table = (table or "clang-format off" in line) and "clang-format on" not in line
                if MARKS.search(line):
                    print(f"{where}:{number}: {line.strip()}")
                    bad += 1
                if len(line) > 100 and not table:
                    print(f"{where}:{number}: {len(line)} columns")
                    bad += 1
    print(f"{bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
