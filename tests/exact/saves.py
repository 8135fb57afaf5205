#!/usr/bin/env python3
"""saves.py PLUMB PLUMB_WORLD KILL_AT_LIBRARY - kills a run, or makes a call fail, at every call that
changes a file, and damages every file of a checkpoint. Each time the run must resume from the newest
valid checkpoint and write the files of a run without faults."""
import concurrent.futures
import errno
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import exact
from exact import common

KINDS = { # the fault at the call: PLUMB_FAULT_HOW
    "kill": "kill",
    "EIO": f"once {errno.EIO}",
    "EDQUOT": f"once {errno.EDQUOT}",
    "full disk": f"from {errno.ENOSPC}",
    "short write": "short",
}
ERROR = {"EIO": errno.EIO, "EDQUOT": errno.EDQUOT, "full disk": errno.ENOSPC}


def may_fail(call, path):
    """Returns true for calls whose failure loses nothing: the removal of old checkpoints, a line of the log,
    and a close after fsync."""
    return call in ("unlink", "rmdir", "close") or path.endswith("train.log") or \
        (call == "rename" and path.endswith(".tmp"))


class Case:
    """A job, the rank that gets the fault, and the calls and files of a run without faults."""

    def __init__(self, bench, preload, name, args, ranks=1, rank=0):
        self.bench, self.preload, self.name, self.args = bench, preload, name, args
        self.ranks, self.rank = ranks, rank
        self.folder = bench.folder / name.replace(" ", "-").replace(",", "")
        self.folder.mkdir()
        self.whole = self.folder / "whole"
        log = self.folder / "calls"
        bench.good(*args(self.whole), "resume=auto", ranks=ranks, env=self.env(self.whole, log))
        self.calls = [line.split(" ", 2)[1:] for line in log.read_text().splitlines()]
        self.left = self.look(self.whole)

    def env(self, out, log=None, at=0, how=""):
        env = {"LD_PRELOAD": str(self.preload), "PLUMB_FAULT_DIR": str(out),
               "PLUMB_FAULT_RANK": str(self.rank), "PLUMB_FAULT_AT": str(at),
               "PLUMB_FAULT_HOW": how}
        return {**env, "PLUMB_FAULT_LOG": str(log)} if log else env

    def look(self, out):
        return {**exact.left_by(out), "checkpoint": common.tree(out / "latest/"),
                "latest": os.readlink(out / "latest")}

    def durable(self, at):
        """Returns the newest checkpoint that was complete before call `at`; only rank 0 writes checkpoints."""
        step = 0
        for call, path in self.calls[:at - 1]:
            found = exact.CHECKPOINT.search(path)
            if call == "rename" and found:
                step = max(step, int(found.group(1)))
        return step

    def go_on(self, out, least, what):
        """Resumes the run; it must use the newest checkpoint, and its files must be the same."""
        check = self.bench.check
        newest = max(exact.checkpoints(out), default=0)
        if not check(newest >= least, what, "checkpoint", least, "is gone, there is", newest):
            return
        r = self.bench.run(*self.args(out), "resume=auto", ranks=self.ranks)
        if not check(r.code == 0, what, "cannot go on:", r):
            return
        check("passed over" not in r.err, what, "a checkpoint is not sound:", r)
        check(exact.resumed_step(out) >= newest, what, "went on from step",
              exact.resumed_step(out), "with checkpoint", newest, "there")
        self.compare(out, what)

    def compare(self, out, what, tidied=True):
        got = self.look(out)
        unlike = [k for k in got if got[k] != self.left[k]]
        self.bench.check(not unlike, what, "differ:", unlike)
        left = exact.leftovers(out) if tidied else []
        self.bench.check(not left, what, "leaves", left)


def one(case, kind, at):
    """Makes one fault; returns its effect: killed, error or ignored."""
    call, path = case.calls[at - 1]
    out = case.folder / f"{kind}-{at}".replace(" ", "-")
    what = f"{case.name}: {kind} at call {at} ({call} {Path(path).name}):"
    check = case.bench.check
    r = case.bench.run(*case.args(out), "resume=auto", ranks=case.ranks,
                       env=case.env(out, at=at, how=KINDS[kind]))
    came = "ignored"
    if kind == "kill":
        check(r.code not in (0, None), what, "was not killed:", r)
        came = "killed"
    elif r.code != 0:
        check(r.code is not None and 0 < r.code < 100 and kind != "short write", what,
              "ends badly:", r)
        check(kind == "short write" or os.strerror(ERROR[kind]) in r.err or "room" in r.err, what,
              "is not explained:", r)
        came = "error"
    else:
        warned = "run.json" in r.err and os.strerror(ERROR.get(kind, 0)) in r.err
        check(kind == "short write" or may_fail(call, path) or warned, what, "goes unnoticed:", r)
        case.compare(out, what, tidied=False)
    if came != "ignored" or exact.leftovers(out):
        case.go_on(out, case.durable(at) if case.rank == 0 else 0, what)
    shutil.rmtree(out, ignore_errors=True)
    return came


def fits(case, kind, at):
    """Returns true if this fault can occur at the call: a short write needs a write."""
    call = case.calls[at - 1][0]
    return kind != "short write" or call in ("write", "pwrite")


def decides(call, path):
    """Returns true for calls that create, remove or point to checkpoints."""
    return call in ("rename", "symlink", "rmdir") and \
        Path(path).name.startswith(("checkpoint-", "latest"))


def most_of(case, kind, options):
    """Returns the number of faults of this kind to make; 0: all, -1: none."""
    if options.quick:
        return (5 if kind == "kill" else 2) if case.ranks == 1 else (2 if kind == "kill" else -1)
    return options.most if case.ranks == 1 else options.most_ranks


def faults(case, options, report, rng):
    kinds = {k: most_of(case, k, options) for k in KINDS}
    for kind, most in kinds.items():
        if most < 0:
            continue
        points = [at for at in range(1, len(case.calls) + 1) if fits(case, kind, at)]
        tried = points
        if 0 < most < len(points): # a sample; kills also at each call of decides()
            tried = {at for at in points if kind == "kill" and decides(*case.calls[at - 1])}
            tried = sorted(tried | set(rng.sample(points, most)))
        before = case.bench.failures
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            came = list(pool.map(lambda at, k=kind: one(case, k, at), tried))
        counts = [came.count(c) for c in ("killed", "error", "ignored")]
        report(f"| {case.name} | {kind} | {len(points)} | {len(tried)} | "
               f"{' | '.join(map(str, counts))} | {case.bench.failures - before} |")


# ---- damage on disk -----------------------------------------------------------------------------

def rewound(case, out, step):
    """Returns a copy of the complete run in the state after a kill behind checkpoint-STEP."""
    shutil.copytree(case.whole, out, symlinks=True)
    for c in out.glob("checkpoint-*"):
        if int(exact.CHECKPOINT.match(c.name).group(1)) > step:
            shutil.rmtree(c)
    (out / "latest").unlink()
    (out / "latest").symlink_to(f"checkpoint-{step}")
    return out


def damages(size, rng, flips):
    """Returns name and change of each kind of damage for a file of this size."""
    def flip(at, bit):
        def change(raw):
            raw[at] ^= 1 << bit
            return raw
        return change
    places = sorted({0, min(8, size - 1), size // 2, size - 1,
                     *(rng.randrange(size) for _ in range(flips))})
    found = [(f"bit flipped at byte {at}", flip(at, rng.randrange(8))) for at in places]
    found += [(f"cut to {n} bytes", lambda raw, n=n: raw[:n]) for n in {0, size // 2, size - 1}]
    return [*found, ("a byte more", lambda raw: raw + b"\0"), ("missing", None)]


def damage(case, options, report, rng):
    """Damages every file of the newest checkpoint: it must be found and named, and the checkpoint before it used."""
    steps = exact.checkpoints(case.whole)
    newest, before = steps[-2], steps[-3]
    names = sorted(p.name for p in (case.whole / f"checkpoint-{newest}").iterdir())
    def one_damage(job):
        number, name, how, change = job
        out = rewound(case, case.folder / f"damage-{number}", newest)
        path = out / f"checkpoint-{newest}" / name
        what = f"{case.name}: {name} {how}:"
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(bytearray(path.read_bytes())))
        r = case.bench.run(*case.args(out), "resume=auto", ranks=case.ranks)
        seen = f"checkpoint-{newest}" in r.err and "passed over" in r.err
        if case.bench.check(r.code == 0, what, "cannot go on:", r):
            # the list of hashes is JSON: a change of a blank changes nothing
            case.bench.check(seen or name == "hashes.json", what, "is not noticed:", r)
            case.bench.check(exact.resumed_step(out) == (before if seen else newest), what,
                             "goes on from step", exact.resumed_step(out))
            case.compare(out, what)
        shutil.rmtree(out)
        return seen

    jobs = []
    for name in names:
        size = (case.whole / f"checkpoint-{newest}" / name).stat().st_size
        cases = damages(size, rng, 1 if options.quick else 6)
        jobs += [(name, *c) for c in (rng.sample(cases, 1) if options.quick else cases)]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        seen = list(pool.map(one_damage, [(i, *job) for i, job in enumerate(jobs)]))
    tried, noticed = len(seen), sum(seen)
    harmless = tried - noticed
    report(f"| {case.name} | {len(names)} files of a checkpoint | {tried} | {noticed} passed over, "
           f"{harmless} without effect |")


def torn(case, options, report, rng):
    """Cuts metrics.jsonl and the files of the rollouts at places behind the checkpoint."""
    step = exact.checkpoints(case.whole)[-2]
    lines = (case.whole / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    kept = sum(len(x) for x in lines if int(re.search(rb'"step": (\d+)', x).group(1)) <= step)
    size = (case.whole / "metrics.jsonl").stat().st_size
    places = range(kept, size + 1)
    jobs = [("metrics.jsonl", n)
            for n in sorted(rng.sample(places, min(len(places), 2 if options.quick else 60)))]
    last = max((p.name[:14] for p in (case.whole / "rollouts").glob("iteration-*")), default=None)
    for path in sorted((case.whole / "rollouts").glob(f"{last}*")) if last else []:
        size = path.stat().st_size
        cuts = {0, 1, size // 3, size - 1, *(rng.randrange(size) for _ in range(4))}
        jobs += [(f"rollouts/{path.name}", n) for n in sorted(cuts)[:1 if options.quick else 9]]
        jobs.append((f"rollouts/{path.name}", -1))

    def one_cut(job):
        number, (name, n) = job
        out = rewound(case, case.folder / f"torn-{number}", step)
        path = out / name
        if n < 0:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:n])
        case.go_on(out, step, f"{case.name}: {name} cut to {n} bytes:")
        shutil.rmtree(out)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one_cut, enumerate(jobs)))
    names = "metrics.jsonl" + (", master and rank files of the rollouts" if last else "")
    report(f"| {case.name} | {names} | {len(jobs)} | all written again |")


# ---- the cases ----------------------------------------------------------------------------------

def body(bench, options, report):
    bench.make_world()
    base = bench.base()
    rng = random.Random(options.seed)
    rule = "reward.functions=[{name: length, target: 5}]"

    def sft(*more):
        return lambda out: bench.sft_args(out, "global_batch_size=8", "log_every=1",
                                          "checkpoint.every=2", *more, steps=4)

    def align(*more):
        return lambda out: bench.align_args(out, base, rule, "max_new_tokens=4", *more, prompts=8,
                                            group=2, iterations=2)
    cases = [Case(bench, options.preload, "sft", sft("checkpoint.keep_last=1")),
             Case(bench, options.preload, "align", align("checkpoint.keep_last=1"))]
    if bench.mpirun:
        cases.append(Case(bench, options.preload, "sft, 2 ranks, rank 0",
                          sft("checkpoint.keep_last=1"), ranks=2))
        cases.append(Case(bench, options.preload, "align, 2 ranks, rank 1",
                          align("checkpoint.keep_last=1"), ranks=2, rank=1))
    report.head("Killed, or an error, at every call that changes a file")
    report("Calls below output_dir: open for writing, write, pwrite, ftruncate, fsync, close, "
           "rename, symlink, unlink, mkdir, rmdir, of the whole run. Each run then goes on with "
           "resume=auto; every file of the last checkpoint, metrics and rollouts must be equal.")
    report()
    report("| job | what | calls | tried | killed | ended with an error | went on | wrong |")
    report("|---|---|---|---|---|---|---|---|")
    began = time.monotonic()
    for case in cases:
        faults(case, options, report, rng)
        shutil.rmtree(case.folder)
    report()
    report("| job | damaged or cut | times | outcome |")
    report("|---|---|---|---|")
    for name, args in (("sft", lambda out: sft("checkpoint.keep_last=0", "max_steps=6")(out)),
                       ("align", align("checkpoint.keep_last=0", "iterations=3"))):
        case = Case(bench, options.preload, f"{name}, 3 checkpoints", args)
        if name == "sft" or not options.quick:
            damage(case, options, report, rng)
        torn(case, options, report, rng)
    report()
    report(f"{bench.failures} wrong, {time.monotonic() - began:.0f} s.")


def main():
    p = exact.parser(__doc__.splitlines()[0])
    p.add_argument("preload", type=lambda x: Path(x).resolve(), help="kill_at, built")
    p.add_argument("--most", type=int, default=0, help="faults of a kind on one rank; 0: all")
    p.add_argument("--most-ranks", type=int, default=0, help="the same on two ranks")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at the same time")
    options = p.parse_args()
    if sys.platform != "linux":
        common.skip("LD_PRELOAD as kill_at uses it is Linux's")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exact.run(body, options, needs_mpi=False)


if __name__ == "__main__":
    main()
