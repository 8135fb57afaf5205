#!/usr/bin/env python3
"""test_gpu_script.py GPU_SH PROGRAM... - runs benchmarks/gpu.sh on the emulated GPU with tiny sizes,
from its tarball in an empty folder. Every part passes, JSON file and table have the expected entries,
a failing check makes the script fail, and the script refuses to write results of an emulated GPU to
benchmarks/results."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PARTS = ["device", "products of tiny, bfloat16", "tensor core instructions", "attention in bfloat16", "fused kernels",
         "kernels", "recorded decode steps", "models against transformers", "backend",
         "classes of products", "checked operations", "fused head",
         *(f"{part}, bfloat16" for part in (
             "row invariance", "psle, sampling against training", "ceilings", "decode",
             "training", "cost of row-invariant products", "one iteration of psle"))]
RESULTS = {"device": 1, "invariance": 8, "ceilings": 2, "decode": 4, "training": 1,
           "training time": 5, "memory": 8, "row-invariant gemm": 2, "psle time": 14}
# parts of the programs' names in the build, and the names that the script expects
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


def run(script, *args, **more):
    env = {**os.environ, "PLUMB_GPU_TINY": "1", "PLUMB_GPU_SECONDS": "1800", "XZ_OPT": "-1", **more}
    return subprocess.run([script, *args], env=env, capture_output=True, text=True, check=False,
                          timeout=1800)


def unpack(script, bin_, folder):
    """Packs the programs and unpacks the tarball in an empty folder. Returns the path of the
    unpacked gpu.sh."""
    packed = run(script, "pack", folder / "gpu", PLUMB_GPU_BIN=str(bin_))
    check(packed.returncode == 0, "pack", packed.stdout, packed.stderr)
    empty = folder / "empty"
    empty.mkdir()
    subprocess.run(["tar", "-xJf", folder / "gpu.tar.xz", "-C", empty], check=True)
    return empty / "gpu/gpu.sh"


def test(script, programs, folder):
    bin_, out = folder / "bin", folder / "out"
    bin_.mkdir()
    for p in programs:
        (bin_ / name_of(p)).symlink_to(p)
    packed = unpack(script, bin_, folder)
    done = run(packed, "checks", out)
    check(done.returncode == 0, "exit code", done.returncode, done.stdout, done.stderr)
    early = json.loads((out / "results.json").read_text())
    done = run(packed, "bench", out)
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
    check(results["parts"][:len(early["parts"])] == early["parts"], "bench lost the checks' results")
    probed = [r["what"] for r in results["results"] if r["part"] == "probe"]
    check(any("1 rows, candidate " in w for w in probed), "candidates:", probed[:3])
    check(any(w == "forward, bfloat16 to bfloat16, 64 x 64" for w in probed), "class:", probed[-3:])
    table = (out / "results.md").read_text()
    check("EMULATED" in table and table.count("\n|") > len(PARTS) + sum(RESULTS.values()), table)
    check((out / "log.txt").stat().st_size > 1000, "log")

    instead = {"test_gpu_backend": "false", "test_gpu_kernels": "false"}
    others = ("op", "head", "parity", "generate", "mma", "attention_bf16", "fused", "gemm_cache")
    instead |= {f"test_gpu_{n}": "true" for n in others}
    for name, other in instead.items():
        (bin_ / name).unlink()
        (bin_ / name).symlink_to(shutil.which(other))
    done = run(script, "checks", folder / "second", PLUMB_GPU_BIN=str(bin_))
    check(done.returncode == 1 and done.stdout.count("FAILED: exit code 1") == 2 and
          "kernels that fail: add_fwd rmsnorm_fwd" in done.stdout, "failing checks",
          done.returncode, done.stdout)
    refused = run(script, "checks", folder / "benchmarks" / "results" / "gpu", PLUMB_GPU_BIN=str(bin_))
    check(refused.returncode == 2 and "emulated" in refused.stderr, "refused:", refused)


def main():
    script, *programs = (Path(a).resolve() for a in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        test(script, programs, Path(folder))
    print(f"{failures} failures" if failures else "ok")
    sys.exit(1 if failures else 0)


main()
