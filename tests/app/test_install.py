#!/usr/bin/env python3
"""test_install.py PLUMB PLUMB_WORLD MESON BUILD - checks `meson install`: which files are installed,
that the installation works after it was moved, the man page and the shell completion. Needs the
standard library only."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import Bench, ROOT

COMPLETE = r"""
compopt() { :; }  # bash offers it only inside of a completion
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_plumb; printf '%s\n' "${COMPREPLY[@]}"
"""


def names(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def check_files(bench, prefix):
    found = names(prefix)
    wanted = {"bin/plumb", "bin/plumb-world", "share/man/man1/plumb.1", "share/doc/plumb/LICENSE",
              "share/doc/plumb/README.md", "share/doc/plumb/CHANGELOG.md",
              "share/bash-completion/completions/plumb"}
    wanted.add("share/modulefiles/plumb/" + (ROOT / "meson.build").read_text().split("version: '")[1].split("'")[0])
    wanted |= {f"share/plumb/launch/{x}" for x in ("local.sh", "quickstart.sh", "real.sh", "slurm.sbatch")}
    for folder, end in (("8b", ".yaml"), ("quickstart", ".yaml"), ("principles", ".txt")):
        wanted |= {f"share/plumb/configs/{folder}/{p.name}" for p in (ROOT / "configs" / folder).glob("*" + end)}
    wanted |= {f"share/plumb/configs/smollm2/{p.name}" for p in (ROOT / "configs" / "smollm2").iterdir() if p.is_file()}
    bench.check(found == wanted, "installed files: missing", wanted - found, "unexpected", found - wanted)
    for name in wanted:
        run = name.startswith("bin/") or "/launch/" in name or (name.endswith((".py", ".sh")) and "/smollm2/" in name)
        bench.check(os.access(prefix / name, os.X_OK) == run, name, "is executable:", not run)


def check_man(bench, page, plumb):
    text = page.read_text()
    made = subprocess.run([plumb, "help", "man-page"], capture_output=True, text=True, check=True)
    bench.check(made.stdout == text, "the installed man page is not that of the program")
    effective = subprocess.run([plumb, "help", "align"], capture_output=True, text=True, check=True).stdout
    options = re.findall(r"^  ([a-z_0-9]+)  +(?:bool|int|real|text|choice|list|maps|map) ", effective, re.M)
    bench.check(len(options) > 80, "options of align:", options)
    for name in options:
        bench.check(re.search(r"^\\fB([a-z]+\.)?%s\\fR \(" % name, text, re.M), "man page:", name)
    if shutil.which("groff"):
        shown = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou", page], capture_output=True, text=True, check=False)
        bench.check(shown.returncode == 0 and not shown.stderr, "groff:", shown.stderr[:500])
        bench.check("train.max_logprob_gap" in shown.stdout, "groff's text")


def check_completion(bench, script, cwd):
    if not shutil.which("bash"):
        print("the completion script was not tested: there is no bash")
        return
    (cwd / "data.jsonl").write_text("")
    (cwd / "folder").mkdir(exist_ok=True)
    cases = [  # (command line as bash splits it, words that the completion must offer)
        (["plumb", "al"], ["align"]),
        (["plumb", "help", "do"], ["doctor"]),
        (["plumb", "plan", ""], ["align", "sft", "reward", "prefer", "run"]),
        (["plumb", "align", "train.learn"], ["train.learning_rate="]),
        (["plumb", "align", "learn"], ["learning_rate="]),
        (["plumb", "sft", "group_s"], [""]),
        (["plumb", "plan", "align", "group_s"], ["group_size="]),
        (["plumb", "plan", "sft", "plan.w"], ["plan.world_size="]),
        (["plumb", "align", "device", "=", "c"], ["cpu", "cuda"]),
        (["plumb", "align", "device", "="], ["auto", "cpu", "cuda", "ref"]),
        (["plumb", "align", "device=c"], ["device=cpu", "device=cuda"]),
        (["plumb", "align", "train.recompute", "=", "t"], ["true"]),
        (["plumb", "align", "data.prompts", "=", "da"], ["data.jsonl"]),
        (["plumb", "align", "model", "=", "f"], ["folder"]),
        (["plumb", "align", "resume", "=", ""], ["never", "auto", "folder"]),
        (["plumb", "align", "seed", "=", ""], [""]),
        (["plumb", "compare", "fol"], ["folder"]),
    ]
    for words, answers in cases:
        got = subprocess.run(["bash", "--norc", "-c", COMPLETE, "bash", script, *words], cwd=cwd,
                             capture_output=True, text=True, check=False)
        bench.check(got.stdout.rstrip("\n").split("\n") == answers and not got.stderr, "completion of", words,
                    got.stdout.split(), got.stderr)
    got = subprocess.run(["bash", "--norc", "-c", COMPLETE, "bash", script, "plumb", "tokenize", ""],
                         cwd=cwd, capture_output=True, text=True, check=False).stdout.split("\n")
    bench.check("folder" in got and "tokenizer=" in got, "completion of a word that has no letter yet:", got)


def check_moved(bench, prefix, empty):
    """Checks commands in a working directory without configs/, so that only the installed
    configs/ can be found."""
    plumb, local = prefix / "bin/plumb", prefix / "share/plumb/launch/local.sh"

    def run(*command):
        return subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False, timeout=300)
    doctor = run(plumb, "doctor")
    bench.check(doctor.returncode == 0 and str(prefix / "share/plumb") in doctor.stdout, "doctor:", doctor)
    args = bench.align_args("OUT", bench.base(), "reward.functions=[{name: length, target: 12}]", "threads=1",
                            iterations=1)
    args = [a for a in args if not a.startswith("method.principles=")] + [
        "method.principles=configs/principles/concise.txt"]
    missing = bench.run(*args, "output_dir=" + str(empty / "missing"))
    bench.check(missing.code == 5 and "there is no file configs/principles/concise.txt" in missing.err, missing)
    made = run(local, "2" if bench.mpirun else "1", *args, "output_dir=" + str(empty / "moved"))
    if not bench.check(made.returncode == 0, "local.sh of the moved tree:", made.stderr):
        return
    file = str(prefix / "share/plumb/configs/principles/concise.txt")
    bench.check(f"principles: {file}\n" in (empty / "moved/config.effective.yaml").read_text().replace('"', ""),
                "config.effective.yaml does not name", file)
    bench.good(*args[:-1], "method.principles=" + file, "output_dir=" + str(empty / "built"))
    bench.same_run(empty / "built", empty / "moved", "the moved program and the built one")
    # A file in the working directory has priority over the installed one, also for the
    # configuration.
    plan = run(plumb, "plan", "align", "configs/8b/psle.yaml")
    bench.check("configs/8b/psle.yaml" not in plan.stderr, "configuration of the installation:", plan.stderr)
    (empty / "configs/8b").mkdir(parents=True)
    (empty / "configs/8b/psle.yaml").write_text("sead: 1\n")
    plan = run(plumb, "plan", "align", "configs/8b/psle.yaml")
    bench.check(plan.returncode == 12 and "configs/8b/psle.yaml:1" in plan.stderr and "sead" in plan.stderr,
                "configuration of the current folder:", plan.stderr)
    gone = run(plumb, "plan", "align", "configs/8b/none.yaml")
    bench.check(gone.returncode == 12 and "there is no file configs/8b/none.yaml" in gone.stderr, gone.stderr)


def main():
    bench = Bench(sys.argv[1], sys.argv[2])
    try:
        bench.make_world()
        stage = bench.folder / "stage"
        subprocess.run([sys.argv[3], "install", "-C", sys.argv[4], "--no-rebuild", "--destdir", stage],
                       stdout=subprocess.DEVNULL, check=True, timeout=300)
        prefix = next(stage.rglob("bin/plumb")).parents[1]
        bench.check(prefix != stage, "DESTDIR without a prefix")
        check_files(bench, prefix)
        moved = bench.folder / "another place"
        prefix.rename(moved)
        shutil.rmtree(stage)
        empty = bench.folder / "empty"
        empty.mkdir()
        check_man(bench, moved / "share/man/man1/plumb.1", moved / "bin/plumb")
        check_completion(bench, moved / "share/bash-completion/completions/plumb", empty)
        check_moved(bench, moved, empty)
    finally:
        bench.close()
    bench.end()


main()
