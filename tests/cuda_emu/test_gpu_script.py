#!/usr/bin/env python3
"""test_gpu_script.py GPU_SH PROGRAM... - benchmarks/gpu.sh, as it is, on the emulated GPU with tiny
sizes: every part passes, JSON and table hold what they should, a failing check fails the script,
and figures of an emulated GPU are refused where results go."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DTYPES = ("bfloat16", "float32")
PARTS = ["device", "kernels", "tensor core instructions", "attention in bfloat16", "backend",
         "checked operations", "fused head", "models against transformers", "recorded decode steps",
         *(f"{part}, {t}" for t in DTYPES for part in (
             "row invariance", "psle, sampling against training", "ceilings", "decode",
             "training", "cost of row-invariant products", "one iteration of psle"))]
RESULTS = {"device": 1, "invariance": 14, "ceilings": 4, "decode": 8, "training": 2,
           "training time": 10, "memory": 8, "row-invariant gemm": 4, "psle time": 28}
# the emulator's programs under the names that the script knows
NAMES = {"plumb_emu": "plumb", "test_cuda_": "test_gpu_", "_emu": ""}
failures = 0


def check(good, *words):
    global failures
    if not good:
        failures += 1
        print("FAILED:", *words, flush=True)


def name_of(program):
    name = program.name
    for old, new in NAMES.items():
        name = name.replace(old, new)
    return name


def run(script, folder, *args):
    env = {**os.environ, "PLUMB_GPU_TINY": "1", "PLUMB_GPU_BIN": str(folder)}
    return subprocess.run([script, *args], env=env, capture_output=True, text=True, check=False,
                          timeout=900)


def test(script, programs, folder):
    bin_, out = folder / "bin", folder / "out"
    bin_.mkdir()
    for p in programs:
        (bin_ / name_of(p)).symlink_to(p)
    done = run(script, bin_, "all", out)
    check(done.returncode == 0, "exit code", done.returncode, done.stdout, done.stderr)
    results = json.loads((out / "results.json").read_text())
    status = {p["part"].replace(", tiny", ""): p["status"] for p in results["parts"]}
    for name in PARTS:
        check(status.get(name) == "passed", name, status.get(name))
    check(results["emulated"] is True and "emulator" in results["device"], "device", results)
    for part, n in RESULTS.items():
        rows = [r for r in results["results"] if r["part"] == part]
        check(len(rows) == n, part, rows)
        check(all(isinstance(r["value"], (int, float)) for r in rows), part, rows)
    check(all(r["value"] == 0 for r in results["results"] if r["part"] == "invariance"), results)
    table = (out / "results.md").read_text()
    check("EMULATED" in table and table.count("\n|") > len(PARTS) + sum(RESULTS.values()), table)
    check((out / "log.txt").stat().st_size > 1000, "log")

    instead = {"test_gpu_backend": "false", "plumb": "false"}
    others = ("op", "head", "parity", "generate", "mma", "attention_bf16")
    instead |= {f"test_gpu_{n}": "true" for n in others}
    for name, other in instead.items():
        (bin_ / name).unlink()
        (bin_ / name).symlink_to(shutil.which(other))
    done = run(script, bin_, "checks", folder / "second")
    check(done.returncode == 1 and done.stdout.count("FAILED: exit code 1") == 3, "failing checks",
          done.returncode, done.stdout)
    refused = run(script, bin_, "checks", folder / "benchmarks" / "results" / "gpu")
    check(refused.returncode == 2 and "emulated" in refused.stderr, "refused:", refused)


def main():
    script, *programs = (Path(a).resolve() for a in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        test(script, programs, Path(folder))
    print(f"{failures} failures" if failures else "ok")
    sys.exit(1 if failures else 0)


main()
