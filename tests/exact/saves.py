#!/usr/bin/env python3
"""saves.py PLUMB PLUMB_WORLD KILL_AT_LIBRARY - makes faults while a run writes its files.

At every call that changes a file, kills the run or makes the call fail. Also damages every file of a checkpoint. After each fault,
the run must resume from the newest valid checkpoint and write the files of a run without faults.
If the saved data are sharded over the ranks (train.shard=gradients), also kills and stops ranks
other than the writing one."""
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

# kind of fault: value of PLUMB_FAULT_HOW (kill_at.c). {rank}: the rank that makes the call,
# {other}: another rank
KINDS = {
    "kill": "kill {rank}",
    "EIO": f"once {errno.EIO}",
    "EDQUOT": f"once {errno.EDQUOT}",
    "full disk": f"from {errno.ENOSPC}",
    "short write": "short",
}
SHARED_KINDS = {**KINDS, "kill of another rank": "kill {other}", "stop": "stop {rank}",
                "stop of another rank": "stop {other}"}
ERROR = {"EIO": errno.EIO, "EDQUOT": errno.EDQUOT, "full disk": errno.ENOSPC}
NEEDS_ROOM = ("open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "symlink", "mkdir")
TIMEOUT = 60 # seconds; the default of comm.timeout
MOST_STOPS = 10 # limits the number of stops, because each of these runs waits for comm.timeout
# comm.bucket=0 makes several buckets, although the model is small
SHARED = ["train.shard=gradients", "comm.bucket=0"]


def may_fail(call, path):
    """Returns true for calls whose failure loses no data: the removal of old checkpoints, a line of the
    log, and a close after fsync."""
    return call in ("unlink", "rmdir", "close") or path.endswith("train.log") or \
        (call == "rename" and path.endswith(".tmp"))


class Checks:
    """Counts the failed checks of one fault. Their messages begin with `what`."""

    def __init__(self, bench, what):
        self.bench, self.what, self.wrong = bench, what, 0

    def __call__(self, good, *words):
        self.wrong += not good
        return self.bench.check(good, self.what, *words)


class Case:
    """A job, the rank that gets the faults, and the calls and files of its run without faults.
    shares: options that shard the saved data over the ranks. quick: {kind: number of faults in
    CI}."""

    def __init__(self, bench, preload, name, args, quick, ranks=1, rank=0, shares=(), more_env=()):
        self.bench, self.preload, self.name, self.args = bench, preload, name, args
        self.quick, self.ranks, self.rank, self.shares = quick, ranks, rank, list(shares)
        self.more_env = dict(more_env)
        self.folder = bench.folder / name.replace(" ", "-").replace(",", "")
        self.folder.mkdir()
        self.whole = self.folder / "whole"
        log = self.folder / "calls"
        ran = bench.good(*args(self.whole), *self.shares, "resume=auto", ranks=ranks,
                         env=self.env(self.whole, log))
        self.seconds = ran.seconds
        self.calls = [line.split(" ", 2)[1:] for line in log.read_text().splitlines()]
        self.left = self.look(self.whole)

    def env(self, out, log=None, at=0, kind=None):
        pids = out.with_name(f"{out.name}.pids")
        pids.mkdir(exist_ok=True)
        how = SHARED_KINDS.get(kind, "").format(rank=self.rank, other=(self.rank + 1) % self.ranks)
        env = {**self.more_env, "LD_PRELOAD": str(self.preload), "PLUMB_FAULT_DIR": str(out),
               "PLUMB_FAULT_RANK": str(self.rank), "PLUMB_FAULT_AT": str(at),
               "PLUMB_FAULT_HOW": how, "PLUMB_FAULT_PIDS": str(pids)}
        return {**env, "PLUMB_FAULT_LOG": str(log)} if log else env

    def exit_codes(self, out):
        """Returns the set of exit codes of the ranks that ended by themselves."""
        files = out.with_name(f"{out.name}.pids").glob("*.exit")
        return {int(f.read_text()) for f in files}

    def look(self, out):
        return {**exact.left_by(out), "checkpoint": common.tree(out / "latest/"),
                "latest": os.readlink(out / "latest")}

    def durable(self, at):
        """Returns the step of the newest checkpoint that was complete before call number `at`. Only rank 0
        writes checkpoints."""
        step = 0
        for call, path in self.calls[:at - 1]:
            found = exact.CHECKPOINT.search(path)
            if call == "rename" and found:
                step = max(step, int(found.group(1)))
        return step

    def resume(self, out, turn):
        """Resumes a run. With sharded data, resumes in turn on the same number of ranks, on one rank
        (without shards), and on another number of ranks."""
        ranks = (self.ranks, 1, 4 if self.ranks == 2 else 2)[turn % 3] if self.shares else self.ranks
        return self.bench.run(*self.args(out), *(self.shares if ranks > 1 else []), "resume=auto",
                              ranks=ranks, env=self.more_env)

    def go_on(self, check, out, least, turn=0):
        """Resumes the run. Checks that it continues from the newest checkpoint, which is at
        least that of step `least`, and that its files are those of the run without faults."""
        newest = max(exact.checkpoints(out), default=0)
        if not check(newest >= least, "checkpoint", least, "is gone, there is", newest):
            return
        r = self.resume(out, turn)
        if not check(r.code == 0, "cannot go on:", r):
            return
        check("passed over" not in r.err, "a checkpoint is not sound:", r)
        check(exact.resumed_step(out) >= newest, "went on from step", exact.resumed_step(out),
              "with checkpoint", newest, "there")
        self.compare(check, out)

    def compare(self, check, out, tidied=True):
        got = self.look(out)
        unlike = [k for k in got if got[k] != self.left[k]]
        check(not unlike, "differ:", unlike)
        left = exact.leftovers(out) if tidied else []
        check(not left, "leaves", left)


def check_error(case, check, kind, at, r, out):
    """Checks a run that ended with an error: all ranks have the same exit code, and the message says what failed
    in which file."""
    check(r.code is not None and 0 < r.code < 100 and kind != "short write", "ends badly:", r)
    # only the ranks that ended by themselves: the launcher may kill the other ones
    check(case.exit_codes(out) == {r.code}, "the ranks end with other codes:", case.exit_codes(out), r)
    if kind == "short write":
        return
    failed = case.calls[at - 1:]
    # the error is that of the first call that needs disk space and whose failure ends the run
    if kind == "full disk":
        failed = [c for c in failed if c[0] in NEEDS_ROOM and not may_fail(*c)] or failed
    name = Path(failed[0][1].replace(str(case.whole), str(out))).name.removesuffix(".tmp")
    check((os.strerror(ERROR[kind]) in r.err and name in r.err) or "no room for" in r.err,
          "is not explained, or the error does not name", name, r)


def check_signal(case, check, kind, r):
    """Checks a run of which one rank was killed or stopped. The other ranks must name a stopped
    rank."""
    check(r.code not in (0, None), "goes on:", r)
    if kind.startswith("kill"):
        check(r.code in (-signal.SIGKILL, 128 + signal.SIGKILL), "was not killed:", r)
    else:
        rank = case.rank if kind == "stop" else (case.rank + 1) % case.ranks
        check(f"rank {rank} on" in r.err and "no heartbeat for" in r.err and 'phase "save' in r.err,
              "does not name the rank and the phase:", r)


def one(case, kind, at, timeout):
    """Makes one fault at call number `at`. Returns (kind, effect: killed, error or ignored, number of
    failed checks)."""
    call, path = case.calls[at - 1]
    out = case.folder / f"{kind}-{at}".replace(" ", "-")
    what = f"{case.name}: {kind} at call {at} ({call} {Path(path).name}):"
    check = Checks(case.bench, what)
    stops = [f"comm.timeout={timeout:g}"] if kind.startswith("stop") else []
    r = case.bench.run(*case.args(out), *case.shares, *stops, "resume=auto", ranks=case.ranks,
                       env=case.env(out, at=at, kind=kind))
    check(r.seconds < case.seconds + TIMEOUT, "took longer than comm.timeout to end:", r)
    came = "ignored"
    if kind.startswith(("kill", "stop")):
        check_signal(case, check, kind, r)
        came = "killed"
    elif r.code != 0:
        check_error(case, check, kind, at, r, out)
        came = "error"
    else:
        warned = "run.json" in r.err and os.strerror(ERROR.get(kind, 0)) in r.err
        check(kind == "short write" or may_fail(call, path) or warned, "goes unnoticed:", r)
        case.compare(check, out, tidied=False)
    if came != "ignored" or exact.leftovers(out):
        case.go_on(check, out, case.durable(at) if case.rank == 0 else 0, turn=at)
    shutil.rmtree(out, ignore_errors=True)
    return kind, came, check.wrong


def fits(case, kind, at):
    """Returns true if this kind of fault can be made at the call: a short write needs a write. With
    sharded data, faults are made only while the files of a checkpoint are written."""
    call, path = case.calls[at - 1]
    if case.shares and (not re.search(r"/checkpoint-\d+\.tmp/", path) or call in ("unlink", "rmdir")):
        return False
    return kind != "short write" or call in ("write", "pwrite")


def decides(call, path):
    """Returns true for calls that create or remove a checkpoint, or change what `latest` points
    to."""
    return call in ("rename", "symlink", "rmdir") and \
        Path(path).name.startswith(("checkpoint-", "latest"))


def most_of(case, kind, options):
    """Returns the number of faults of this kind to make (0: at all calls, -1: none)."""
    if options.quick:
        return case.quick.get(kind, -1)
    most = options.most if case.ranks == 1 else options.most_ranks
    return min(most or MOST_STOPS, MOST_STOPS) if kind.startswith("stop") else most


def drawn(case, kind, points, most, rng):
    """Returns `most` of the calls in `points`, at equal distances from a random first one. For
    kills without sharded data, also returns each call of decides()."""
    if not 0 < most < len(points):
        return points
    apart = len(points) / most
    first = rng.random() * apart
    found = {points[int(first + i * apart)] for i in range(most)}
    if kind == "kill" and not case.shares:
        found |= {at for at in points if decides(*case.calls[at - 1])}
    return sorted(found)


def faults(case, options, report, rng):
    """Makes the faults of all kinds, several of them at the same time."""
    tried, points = [], {}
    for kind in SHARED_KINDS if case.shares else KINDS:
        most = most_of(case, kind, options)
        if most >= 0:
            points[kind] = [at for at in range(1, len(case.calls) + 1) if fits(case, kind, at)]
            tried += [(kind, at) for at in drawn(case, kind, points[kind], most, rng)]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        came = list(pool.map(lambda job: one(case, *job, options.timeout), tried))
    for kind, at in points.items():
        mine = [c[1:] for c in came if c[0] == kind]
        counts = [sum(c[0] == word for c in mine) for word in ("killed", "error", "ignored")]
        report(f"| {case.name} | {kind} | {len(at)} | {len(mine)} | "
               f"{' | '.join(map(str, counts))} | {sum(c[1] for c in mine)} |")


# ---- damage on disk -----------------------------------------------------------------------------

def rewound(case, out, step):
    """Copies the complete run and removes what was written after checkpoint-STEP, so that it
    looks like a killed run. Returns the copy."""
    shutil.copytree(case.whole, out, symlinks=True)
    for c in out.glob("checkpoint-*"):
        if int(exact.CHECKPOINT.match(c.name).group(1)) > step:
            shutil.rmtree(c)
    (out / "latest").unlink()
    (out / "latest").symlink_to(f"checkpoint-{step}")
    return out


def damages(size, rng, flips):
    """Returns [(name, function that changes the bytes)] for each kind of damage of a file of
    this size."""
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
    """Damages every file of the newest checkpoint in turn. The resumed run must name the damaged file
    and continue from the checkpoint before."""
    steps = exact.checkpoints(case.whole)
    newest, before = steps[-2], steps[-3]
    names = sorted(p.name for p in (case.whole / f"checkpoint-{newest}").iterdir())
    if options.quick and case.shares: # only the files for which rank 0 gathers data from all ranks
        names = [n for n in names if n in ("model.safetensors", "trainer_state.h5")]

    def one_damage(job):
        number, name, how, change = job
        out = rewound(case, case.folder / f"damage-{number}", newest)
        path = out / f"checkpoint-{newest}" / name
        check = Checks(case.bench, f"{case.name}: {name} {how}:")
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(bytearray(path.read_bytes())))
        r = case.resume(out, number)
        seen = f"checkpoint-{newest}" in r.err and "passed over" in r.err
        if check(r.code == 0, "cannot go on:", r):
            # hashes.json is JSON, so a changed blank has no effect
            check((seen and name in r.err) or name == "hashes.json", "is not noticed and named:", r)
            check(exact.resumed_step(out) == (before if seen else newest), "goes on from step",
                  exact.resumed_step(out))
            case.compare(check, out)
        shutil.rmtree(out)
        return seen

    jobs = []
    for name in names:
        size = (case.whole / f"checkpoint-{newest}" / name).stat().st_size
        cases = damages(size, rng, 1 if options.quick else 6)
        # three flipped bits in all, so that the runs resume on 2, 1 and 4 ranks
        if options.quick and case.shares:
            cases = rng.sample([c for c in cases if "flipped" in c[0]], 1 if jobs else 2)
        elif options.quick:
            cases = rng.sample(cases, 1)
        jobs += [(name, *c) for c in cases]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        seen = list(pool.map(one_damage, [(i, *job) for i, job in enumerate(jobs)]))
    tried, noticed = len(seen), sum(seen)
    harmless = tried - noticed
    report(f"| {case.name} | {len(names)} files of a checkpoint | {tried} | {noticed} passed over, "
           f"{harmless} without effect |")


def torn(case, options, report, rng):
    """Cuts metrics.jsonl and the rollout files at places after those that the checkpoint refers
    to, and checks that the run resumes."""
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
        case.go_on(Checks(case.bench, f"{case.name}: {name} cut to {n} bytes:"), out, step)
        shutil.rmtree(out)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one_cut, enumerate(jobs)))
    names = "metrics.jsonl" + (", master and rank files of the rollouts" if last else "")
    report(f"| {case.name} | {names} | {len(jobs)} | all written again |")


# ---- the cases ----------------------------------------------------------------------------------

RULE = "reward.functions=[{name: length, target: 5}]"
# number of faults of each kind in CI
ONE_RANK = {kind: 5 if kind == "kill" else 2 for kind in KINDS}


def sft(bench, *more):
    return lambda out: bench.sft_args(out, "global_batch_size=8", "log_every=1", "checkpoint.every=2",
                                      *more, steps=4)


def align(bench, *more, method="psle"):
    return lambda out: bench.align_args(out, bench.base(), RULE, "max_new_tokens=4", *more, prompts=8,
                                        group=2, iterations=2, method=method)


def whole_cases(bench):
    """Yields jobs in which rank 0 alone, or every rank, holds all data that are saved."""
    last = "checkpoint.keep_last=1"
    yield {"name": "sft", "args": sft(bench, last), "quick": ONE_RANK}
    yield {"name": "align", "args": align(bench, last), "quick": ONE_RANK}
    if bench.mpirun:
        two = {"quick": {"kill": 2}, "ranks": 2}
        yield {"name": "sft, 2 ranks, rank 0", "args": sft(bench, last), **two}
        yield {"name": "align, 2 ranks, rank 1", "args": align(bench, last), "rank": 1, **two}


def shared_cases(bench, quick):
    """Yields jobs in which the moments, and frozen models, are sharded over the ranks."""
    last = "checkpoint.keep_last=1"
    yield {"name": "sft, shares of 2 ranks", "args": sft(bench, last), "shares": SHARED, "ranks": 2,
           "quick": {"kill": 1, "full disk": 1, "kill of another rank": 1, "stop": 1}}
    yield {"name": "sft, shares of 4 ranks", "args": sft(bench, last), "shares": SHARED, "ranks": 4,
           "quick": {"EIO": 1, "kill of another rank": 1}}
    for name, more in (("dpo", []), ("dpo with an adapter", ["lora.r=4"])) if not quick else ():
        yield {"name": f"{name}, frozen models in shares of 2 ranks", "quick": {}, "ranks": 2,
               "args": align(bench, last, *more, method="dpo"),
               "shares": [*SHARED, "frozen=sharded"]}


def emulated_cases(bench, quick):
    """Yields jobs in bfloat16 on emulated GPUs, in which the float32 master weights are sharded,
    too. Rank 0 gathers them to write the rounded weights, their fingerprint and the state file."""
    gpu = ["device=cuda", "dtype=bfloat16", "report.html=false", "global_batch_size=4",
           "micro_batch_size=2", "checkpoint.every=1", "checkpoint.keep_last=1",
           "checkpoint.dtype=bfloat16"]
    # accepts that the preloaded library is loaded before the address sanitizer
    env = {"PLUMB_EMU_DEVICES": "4", "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}
    for ranks in (2,) if quick else (2, 4):
        yield {"name": f"sft, bfloat16, shares of {ranks} ranks", "shares": SHARED, "ranks": ranks,
               "args": lambda out: bench.sft_args(out, *gpu, steps=2),
               "quick": {"full disk": 1, "kill of another rank": 1}, "more_env": env}


def fault_cases(bench, options):
    """Yields the arguments of Case for each job."""
    if options.emulated:
        yield from emulated_cases(bench, options.quick)
        return
    yield from whole_cases(bench)
    if bench.mpirun:
        yield from shared_cases(bench, options.quick)


def body(bench, options, report):
    bench.make_world()
    rng = random.Random(options.seed)
    report.head("Killed, or an error, at every call that changes a file")
    report(f"seed {options.seed}. Calls below output_dir: open for writing, write, pwrite, ftruncate, fsync, close, "
           "rename, symlink, unlink, mkdir, rmdir, of the whole run, but no line of train.log; with shares, those of its saves. "
           "Each run then goes on with resume=auto (with shares on 1, 2 and 4 ranks in turn); every file "
           "of the last checkpoint, metrics and rollouts must be equal.")
    report()
    report("| job | what | calls | tried | killed | ended with an error | went on | wrong |")
    report("|---|---|---|---|---|---|---|---|")
    began = time.monotonic()
    for named in fault_cases(bench, options):
        if options.only in named["name"]:
            case = Case(bench, options.preload, **named)
            faults(case, options, report, rng)
            shutil.rmtree(case.folder)
    report()
    if not options.emulated and not options.only:
        damaged(bench, options, report, rng)
    report(f"{bench.failures} wrong, {time.monotonic() - began:.0f} s.")


def damaged(bench, options, report, rng):
    """Makes runs with three checkpoints, damages their files, and checks that they resume."""
    report("| job | damaged or cut | times | outcome |")
    report("|---|---|---|---|")
    three = sft(bench, "checkpoint.keep_last=0", "max_steps=6")
    for name, args in (("sft", three),
                       ("align", align(bench, "checkpoint.keep_last=0", "iterations=3"))):
        case = Case(bench, options.preload, f"{name}, 3 checkpoints", args, {})
        if name == "sft" or not options.quick:
            damage(case, options, report, rng)
        torn(case, options, report, rng)
    if bench.mpirun:
        case = Case(bench, options.preload, "sft, 3 checkpoints, shares of 2 ranks", three, {}, ranks=2,
                    shares=SHARED)
        damage(case, options, report, rng)
    report()


def main():
    p = exact.parser(__doc__.splitlines()[0])
    p.add_argument("preload", type=lambda x: Path(x).resolve(), help="kill_at, built")
    p.add_argument("--most", type=int, default=0, help="faults of a kind on one rank; 0: all")
    p.add_argument("--most-ranks", type=int, default=0, help="the same on two ranks")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at the same time")
    p.add_argument("--timeout", type=float, default=4, help="comm.timeout of runs with a stopped rank")
    p.add_argument("--only", default="", help="only faults, no damage, of the jobs whose name contains this text")
    p.add_argument("--emulated", action="store_true",
                   help="the program is plumb_emu: only the cases of bfloat16 on emulated GPUs")
    options = p.parse_args()
    if sys.platform != "linux":
        common.skip("LD_PRELOAD as kill_at uses it is Linux's")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exact.run(body, options, needs_mpi=False)


if __name__ == "__main__":
    main()
