#!/usr/bin/env python3
"""test_adding.py SOURCE_ROOT BUILD_ROOT PLUMB_WORLD - follows src/align/ADDING.md: copies the sources, inserts the page's
code blocks, builds the copy with the object files of this build, and tests and runs it. LIMITS limits the length of the
blocks."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import common

BLOCK = re.compile(r"^`([^`]+)`(?: is (new)|, (above|below|instead of) `([^`]+)`|, at the (end)):\n\n```\w+\n(.*?)^```$", re.M | re.S)
TOP = ("CHANGELOG.md", "LICENSE", "README.md", "meson.build", "meson_options.txt", "benchmarks", "configs", "kernels", "launch", "src", "tests")
# for each section of the page: most lines of code from this section up to the next one listed here
LIMITS = {"1": 60, "5": 2, "6": 75}


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
    lines[found[0]:found[0] + (side == "instead of")] = [code]
    file.write_text("".join(lines))


def section_sizes(page):
    """Returns, for each section of LIMITS, the number of lines of its code blocks up to the next section of LIMITS."""
    starts = {k: page.index(f"\n## {k}. ") for k in LIMITS}
    ends = [*list(starts.values())[1:], len(page)]
    return {k: sum(len(b[-1].splitlines()) for b in BLOCK.findall(page[starts[k]:end])) for k, end in zip(LIMITS, ends)}


def adopt(build, fresh):
    """Copies the object files and ninja's logs with their times, so that ninja does not build these
    objects again."""
    for kind in ("*.o", "*.a"):
        for file in build.rglob(kind):
            target = fresh / file.relative_to(build)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
    for name in (".ninja_log", ".ninja_deps"):
        shutil.copy2(build / name, fresh / name)


def options(build):
    """Returns -D arguments for the options of this build that change plumb."""
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
        assert len(blocks) == page.count("\n```\n") == 12, f"{len(blocks)} blocks"
        sizes = section_sizes(page)
        assert all(0 < sizes[k] <= LIMITS[k] for k in LIMITS), f"lines of the blocks: {sizes}"
        compilers = json.loads((build / "meson-info/intro-compilers.json").read_text()) if \
            (build / "meson-info/intro-compilers.json").exists() else {}
        env = dict(os.environ, **({"CC": " ".join(compilers["host"]["c"]["exelist"])} if compilers else {}))
        run(meson, "setup", copy / "build", *options(build), cwd=copy, env=env)
        adopt(build, copy / "build")
        for block in blocks:
            apply_block(copy, *block)
        golden = copy / "tests/fixtures/align/objective.json"
        before = run("ninja", "-C", copy / "build", "plumb", "tests/test_align_objective", "tests/test_align_reads")
        print(f"{sizes} lines added, {len(re.findall('Compiling C object', before)) or before.count('.c.o')} files compiled")
        test_env = dict(os.environ, PLUMB_SOURCE_ROOT=str(copy))
        bare = subprocess.run([copy / "build/tests/test_align_objective"], env=test_env, capture_output=True, text=True, check=False)
        assert bare.returncode != 0 and "no golden for rso" in bare.stderr, f"an objective without golden passes: {bare.stderr}"
        run(sys.executable, copy / "tests/reference/rso_fixtures.py", golden)
        run(copy / "build/tests/test_align_objective", env=test_env)
        run(copy / "build/tests/test_align_reads", env=test_env)
        iterate(copy / "build/plumb", world)


def iterate(plumb, world):
    """Runs iterations of the new methods, also on two ranks, and replays them. Every method must give other
    weights."""
    bench = common.Bench(plumb, world)
    try:
        bench.make_world()
        base, length = bench.base(), "reward.functions=[{name: length, target: 8}]"
        rewarded = {"rso": [length], "dpo": [length], "selm": [length], "hinge": [length, "method.hinge=0.01"], "confidence": []}
        weights = {}
        for name, more in rewarded.items():
            out, method = bench.folder / name, "rso" if name == "hinge" else name
            bench.good(*bench.align_args(out, base, "train.replay=1:0", *more, iterations=2, method=method))
            row = common.metrics(out)[-1]
            weights[name] = row["weights"]
            bench.check(row["rewards/accuracies"] >= 0 and (method != "rso" or row["loss"] >= 0), name, "metrics", row)
        bench.check(len(set(weights.values())) == len(weights), "methods with the same weights:", weights)
        two = bench.folder / "two"
        bench.good(*bench.align_args(two, base, "train.replay=1:0", iterations=2, method="confidence"), ranks=2 if bench.mpirun else 1)
        bench.same_run(bench.folder / "confidence", two, "confidence on 2 ranks")
        for name in ("hinge", "confidence"):
            file = next((bench.folder / name).glob("replay-*.h5"))
            lines = bench.good("replay", file).lines()
            bench.check(sum(line.get("same_bits", False) for line in lines) >= 3, name, "replay", lines)
        parameter(bench, base, length)
    finally:
        bench.close()
    bench.end()


def parameter(bench, base, length):
    """Checks that the new parameter is an option with a help text, a range and a list of the methods that read it.
    Also checks that plumb knows the new methods."""
    def refused(expected, *more, method="rso"):
        result = bench.run(*bench.align_args("x", base, length, *more, method=method))
        bench.check(result.code != 0 and expected in result.err, "expected:", expected, result)

    refused("method.hinge is '0', expected a number in (0, 1e6]", "method.hinge=0")
    refused("is not read by method dpo", "method.hinge=2", method="dpo")
    refused("rso", method="none")
    bench.check("scaled log-ratio from which a pair has no loss" in bench.run("help", "align", threads=None).out, "no help for hinge")


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
