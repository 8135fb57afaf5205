#!/usr/bin/env python3
"""test_adding.py SOURCE_ROOT BUILD_ROOT PLUMB_WORLD - src/align/ADDING.md, done: its blocks go into a copy of the sources,
which is built on the objects of this build, tested and run. All of them together must stay under 60 lines."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import common

BLOCK = re.compile(r"^`([^`]+)`(?: is (new)|, (above|below) `([^`]+)`|, at the (end)):\n\n```\w+\n(.*?)^```$", re.M | re.S)
TOP = ("LICENSE", "README.md", "meson.build", "meson_options.txt", "benchmarks", "configs", "kernels", "launch", "src", "tests")
LIMIT = 60


def skip(why):
    print(f"not run: {why}")
    sys.exit(77)


def apply_block(root, path, new, side, anchor, end, code):
    file = root / path
    if new:
        assert not file.exists(), f"{path} is not new"
        file.write_text(code)
        return
    lines = file.read_text().splitlines(keepends=True)
    found = [len(lines)] if end else [i + (side == "below") for i, line in enumerate(lines) if anchor in line]
    assert len(found) == 1, f"{path}: '{anchor}' stands {len(found)} times"
    lines.insert(found[0], code)
    file.write_text("".join(lines))


def adopt(build, fresh):
    """Objects and what ninja knows of them, with their times: the commands are relative and the same."""
    for kind in ("*.o", "*.a"):
        for file in build.rglob(kind):
            target = fresh / file.relative_to(build)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
    for name in (".ninja_log", ".ninja_deps"):
        shutil.copy2(build / name, fresh / name)


def options(build):
    """-D of everything that this build was configured with, but what builds no plumb."""
    wanted = ("buildtype", "debug", "optimization", "b_sanitize", "b_lundef", "b_ndebug", "mpi", "collective_check", "fuzz")
    values = {o["name"]: o["value"] for o in json.loads((build / "meson-info/intro-buildoptions.json").read_text())}
    if values.get("cuda") != "disabled" and (build / "plumb_cuda").exists():
        skip("a build with CUDA")
    text = {k: str(v).lower() if isinstance(v, bool) else v for k, v in values.items() if k in wanted}
    return [f"-D{k}={v}" for k, v in text.items()] + ["-Dcuda=disabled", "-Demulator=disabled"]


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, timeout=900, check=False, **more)
    if done.returncode != 0:
        print(f"FAILED: {' '.join(map(str, command))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        sys.exit(1)
    return done.stdout


def main(source, build, world):
    meson = shutil.which("meson")
    if not meson or not (build / ".ninja_deps").exists():
        skip("needs meson and a build by ninja")
    with tempfile.TemporaryDirectory(prefix="plumb-adding-") as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        for name in TOP:
            put = shutil.copytree if (source / name).is_dir() else shutil.copy2
            put(source / name, copy / name)
        page = (source / "src/align/ADDING.md").read_text()
        blocks = BLOCK.findall(page)
        lines = sum(len(b[-1].splitlines()) for b in blocks)
        assert len(blocks) == page.count("\n```\n") == 6 and lines < LIMIT, f"{len(blocks)} blocks, {lines} lines"
        compilers = json.loads((build / "meson-info/intro-compilers.json").read_text()) if \
            (build / "meson-info/intro-compilers.json").exists() else {}
        env = dict(os.environ, **({"CC": " ".join(compilers["host"]["c"]["exelist"])} if compilers else {}))
        run(meson, "setup", copy / "build", *options(build), cwd=copy, env=env)
        adopt(build, copy / "build")
        for block in blocks:
            apply_block(copy, *block)
        golden = copy / "tests/fixtures/align/objective.json"
        before = run("ninja", "-C", copy / "build", "plumb", "tests/test_align_objective", "tests/test_align_reads")
        print(f"{lines} lines added, {len(re.findall('Compiling C object', before)) or before.count('.c.o')} files compiled")
        test_env = dict(os.environ, PLUMB_SOURCE_ROOT=str(copy))
        bare = subprocess.run([copy / "build/tests/test_align_objective"], env=test_env, capture_output=True, text=True, check=False)
        assert bare.returncode != 0 and "no golden for rso" in bare.stderr, f"an objective without golden passes: {bare.stderr}"
        run(sys.executable, copy / "tests/reference/rso_fixtures.py", golden)
        run(copy / "build/tests/test_align_objective", env=test_env)
        run(copy / "build/tests/test_align_reads", env=test_env)
        iterate(copy / "build/plumb", world)


def iterate(plumb, world):
    """One iteration under the new name; as another method it would give other weights."""
    bench = common.Bench(plumb, world)
    try:
        bench.make_world()
        start, weights = bench.base(), {}
        for method in ("rso", "dpo"):
            out = bench.folder / method
            bench.good(*bench.align_args(out, start, "reward.functions=[{name: length, target: 8}]", iterations=2, method=method))
            row = common.metrics(out)[-1]
            weights[method] = row["weights"]
            bench.check(row["loss"] > 0 and row["rewards/accuracies"] >= 0, method, "metrics", row)
        bench.check(weights["rso"] != weights["dpo"], "rso trains like dpo")
        bench.check("rso" in bench.run(*bench.align_args("x", start, method="none")).err, "rso is not among the known methods")
    finally:
        bench.close()
    bench.end()


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
