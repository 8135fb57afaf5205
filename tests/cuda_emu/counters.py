#!/usr/bin/env python3
"""counters.py TABLE emulator COUNTERS PLUMB WORLD - compares what the emulator counts (in
test_counters.c and in runs of the whole program) with the limits in
benchmarks/results/cuda-counters.md.
counters.py TABLE nvcc VERSION SM FOLDER - compares registers, spills and shared memory of every
kernel with these limits. It reads the output of `ptxas -v` and the .ptx files in FOLDER.
With PLUMB_COUNTERS_WRITE=1, the measured values become the limits of the table. Needs the
standard library only."""
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402

SLACK = 1e-5  # relative tolerance: the table has six digits
# limits of a streaming multiprocessor with compute capability 9.0; SHARED in bytes
REGISTERS, WARPS, BLOCKS, SHARED = 65536, 64, 32, 228 << 10


def number(value):
    return f"{value:.6g}"


# ---- the page ------------------------------------------------------------------------------------

def rows_of(text, heading):
    """Returns the cells of each row of the table below the heading: [[cell, ...], ...]."""
    part = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1:]]


def with_rows(text, heading, rows):
    """Returns the text of the page with other rows in the table below the heading."""
    before, rest = text.split(f"## {heading}\n", 1)
    end = rest.find("\n## ")
    part, after = (rest, "") if end < 0 else (rest[:end + 1], rest[end + 1:])
    head = part[:part.index("|---")]
    rule = part[part.index("|---"):].split("\n", 1)[0]
    body = "".join("| " + " | ".join(r) + " |\n" for r in rows)
    return f"{before}## {heading}\n{head}{rule}\n{body}" + ("\n" + after if after else "")


class Page:
    def __init__(self, path):
        self.path, self.text, self.wrong, self.edits = path, path.read_text(), 0, []

    def fail(self, *words):
        self.wrong += 1
        print("FAILED:", *words)

    def done(self):
        if os.environ.get("PLUMB_COUNTERS_WRITE"):
            # reads the page again, because the other mode of this script may have changed it
            # meanwhile
            text = self.path.read_text()
            for edit in self.edits:
                text = edit(text)
            self.path.write_text(text)
            print("wrote", self.path)
            return 0
        if self.wrong:
            print("If a change is meant, write the table with PLUMB_COUNTERS_WRITE=1.")
        return 1 if self.wrong else 0


# ---- counters of the emulator --------------------------------------------------------------------

def waits(bench, steps):
    """Returns how often the host waits for the device in an SFT run of `steps` steps."""
    out = bench.folder / f"waits-{steps}"
    few = ["device=cuda", "dtype=bfloat16", "global_batch_size=4", "micro_batch_size=2", "log_every=100"]
    bench.good(*bench.sft_args(bench.folder / f"sft-{steps}", *few, steps=steps),
               env={"PLUMB_EMU_WAITS": str(out), "PLUMB_EMU_SEED": "0"})
    return int(out.read_text())


def emulator(page, counters, plumb, maker):
    said = subprocess.run([counters], check=True, stdout=subprocess.PIPE, text=True).stdout
    measured = {}
    for line in said.splitlines():
        name, value = line.rsplit(" ", 1)
        measured[name] = float(value)
    bench = common.Bench(plumb, maker)
    bench.make_world()
    measured["training: host waits per step of SFT, 2 micro-batches"] = (waits(bench, 6) - waits(bench, 4)) / 2
    bench.close()
    heading = "Counters of the emulator"
    rows = rows_of(page.text, heading)
    before = {r[0]: r[1] for r in rows}
    limit = {r[0]: float(r[2]) for r in rows}
    for name, value in measured.items():
        print(f"{name}: {number(value)}, limit {number(limit.get(name, float('nan')))}")
        if name not in limit:
            page.fail(name, "is not in the table")
        elif value > limit[name] * (1 + SLACK):
            page.fail(name, "is", number(value), "and may be at most", number(limit[name]))
    for name in limit.keys() - measured.keys():
        page.fail(name, "is in the table and was not measured")
    rows = [[n, before.get(n, number(v)), number(v)] for n, v in measured.items()]
    page.edits.append(lambda text: with_rows(text, heading, rows))


# ---- registers, spills and shared memory, from ptxas ---------------------------------------------

def kernels_of(folder, sm):
    """Returns {kernel: (registers, bytes of spills, bytes of shared memory, threads per block)}."""
    found = {}
    for said in sorted(folder.glob("*.said")):
        text = said.read_text()
        ptx = "".join(p.read_text() for p in sorted(folder.glob(f"{said.stem}.*ptx")))
        bound = dict(re.findall(r"\.entry (\w+)\([^{]*?\.maxntid (\d+)", ptx, re.S))
        for m in re.finditer(rf"Compiling entry function '(\w+)' for 'sm_{sm}'(.*?)(?=Compiling|\Z)", text, re.S):
            name, rest = m.groups()
            used = [re.search(p, rest) for p in (r"Used (\d+) registers", r"(\d+) bytes spill stores",
                                                 r"(\d+) bytes smem")]
            plain = subprocess.run(["c++filt", name], check=True, capture_output=True, text=True).stdout.strip()
            plain = re.sub(r"\(anonymous namespace\)::|^void ", "", plain).split("(")[0].replace("|", "")
            cell = f"{said.stem}: {plain.replace('plumb_', '')}"
            found[cell] = (*(int(u.group(1)) if u else 0 for u in used), int(bound.get(name, 256)))
    return found


def occupancy(registers, shared, threads):
    """Returns the occupancy in percent: how many of an SM's warps can be resident at the same
    time. Dynamic shared memory is not counted."""
    warps = -(-threads // 32)
    per_warp = -(-registers * 32 // 256) * 256  # registers are allocated in units of 256
    blocks = min(BLOCKS, WARPS // warps, REGISTERS // (per_warp * warps), SHARED // (shared + 1024))
    return 100 * blocks * warps // WARPS


def nvcc(page, version, sm, folder):
    heading = "Kernels"
    measured = kernels_of(Path(folder), sm)
    rows = rows_of(page.text, heading)
    limit = {r[0]: [int(x) for x in r[2:5]] for r in rows}
    before = {r[0]: r[1] for r in rows}
    made_by = re.search(r"nvcc ([\d.]+) for sm_(\d+)", page.text)
    if made_by.groups() != (version, sm) and not os.environ.get("PLUMB_COUNTERS_WRITE"):
        print(f"registers are not compared: the table is of nvcc {made_by[1]} for sm_{made_by[2]},",
              f"this is {version} for sm_{sm}")
        return
    for name, (*used, _) in measured.items():
        if name not in limit:
            page.fail(name, "is not in the table")
        elif any(u > most for u, most in zip(used, limit[name])):
            page.fail(name, "uses", used, "registers, bytes of spills and of shared memory, at most", limit[name])
    for name in limit.keys() - measured.keys():
        page.fail(name, "is in the table and was not compiled")
    rows = [[n, before.get(n, f"{r} / {s}"), str(r), str(s), str(m), str(t), f"{occupancy(r, m, t)} %"]
            for n, (r, s, m, t) in sorted(measured.items())]
    page.edits.append(lambda text: with_rows(text, heading, rows).replace(
        made_by[0], f"nvcc {version} for sm_{sm}"))


def main():
    table, what, *rest = sys.argv[1:]
    page = Page(Path(table))
    {"emulator": emulator, "nvcc": nvcc}[what](page, *rest)
    return page.done()


if __name__ == "__main__":
    sys.exit(main())
